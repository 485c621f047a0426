"""The console: pages and API that Airflow serves for testers."""
