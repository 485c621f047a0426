"""The console: what the models are doing, and where testers sign off.

A FastAPI app of its own: it knows no Airflow. The plugin mounts it in Airflow's API server and tells it who is signed in.
"""

from taxiway.web.app import create_app

__all__ = ["create_app"]
