"""Airflow's configuration for one machine, as environment variables."""

from __future__ import annotations

import json
from pathlib import Path

from taxiway.bootstrap import PROJECT
from taxiway.errors import SettingsError
from taxiway.supervisor.credentials import Credentials, role_of
from taxiway.supervisor.installation import HOST, Installation

_NO_SERVER = "1"  # logs are read from the shared disk; a port where nobody listens keeps other Airflows out of it


def airflow_environment(installation: Installation, credentials: Credentials) -> dict[str, str]:
    """Return every AIRFLOW* variable of the installation; the same for each of Airflow's programs."""
    sections = {
        "core": _core(credentials, installation),
        "database": {"sql_alchemy_conn": f"sqlite:///{installation.airflow_home / 'airflow.db'}"},
        "api": {
            "host": HOST,
            "port": str(installation.ports.airflow),
            "base_url": installation.url("airflow"),
            "secret_key": credentials.airflow_secret,
            "workers": "1",
        },
        "api_auth": {"jwt_secret": credentials.airflow_jwt_secret},
        "scheduler": {
            "scheduler_idle_sleep_time": "0.1",  # the gap between two tasks of a chain
            "trigger_timeout_check_interval": "2",
            "task_instance_heartbeat_timeout": "30",
            "task_instance_heartbeat_timeout_detection_interval": "5",
            "orphaned_tasks_check_interval": "30",
            "task_queued_timeout": "120",  # taken by a worker that was killed before it began
            "task_queued_timeout_check_interval": "15",
        },
        "dag_processor": {"min_file_process_interval": "15", "refresh_interval": "5"},
        "workers": {"execution_api_timeout": "30"},
        "logging": {
            "logging_level": "INFO",
            "colored_console_log": "False",
            "worker_log_server_port": _NO_SERVER,
            "trigger_log_server_port": _NO_SERVER,
        },
        "usage_data_collection": {"enabled": "False"},
    }
    variables = {
        f"AIRFLOW__{section.upper()}__{name.upper()}": value
        for section, options in sections.items()
        for name, value in options.items()
    }
    return {"AIRFLOW_HOME": str(installation.airflow_home), **variables}


def passwords_file(installation: Installation) -> Path:
    """Return where Airflow's simple auth manager reads the passwords from."""
    return installation.airflow_home / "passwords.json"


def read_logins(installation: Installation) -> dict[str, str]:
    """Return everybody who can log in to Airflow with the password; raises SettingsError when there was no `up`."""
    path = passwords_file(installation)
    if not path.exists():
        raise SettingsError("there is no installation", where=str(installation.home), next_step="run `taxiway up`.")
    logins: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return logins


def _core(credentials: Credentials, installation: Installation) -> dict[str, str]:
    users = ",".join(f"{name}:{role_of(name)}" for name in credentials.passwords)
    return {
        "executor": "taxiway.orchestration.local_executor.LocalExecutor",
        "parallelism": "4",  # LocalExecutor starts all its workers at once
        "dags_folder": str(PROJECT / "dags"),
        "plugins_folder": str(PROJECT / "plugins"),
        "load_examples": "False",
        "dags_are_paused_at_creation": "False",
        "fernet_key": credentials.airflow_fernet_key,
        "execution_api_server_url": f"{installation.url('airflow')}/execution/",
        "simple_auth_manager_users": users,
        "simple_auth_manager_passwords_file": str(passwords_file(installation)),
    }
