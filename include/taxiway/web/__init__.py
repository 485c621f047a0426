"""The console: what the models are doing, and where testers sign off.

A FastAPI app that knows no Airflow: the plugin mounts it in Airflow's API server and tells it who is signed in.
"""

from taxiway.web.app import create_app

__all__ = ["create_app"]
