"""Everything that knows Airflow but is not a DAG: operators, sensors, triggers, params."""
