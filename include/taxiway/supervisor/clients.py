"""How the CLI, the demo and tests reach an installation: its services, and Airflow as one of its users."""

from __future__ import annotations

from collections.abc import Mapping

from taxiway.adapters.airflow_api import AirflowApi
from taxiway.bootstrap import Services, settings
from taxiway.errors import NotFoundError
from taxiway.supervisor.airflow_environment import read_logins
from taxiway.supervisor.credentials import SERVICE, read_credentials
from taxiway.supervisor.installation import Installation
from taxiway.supervisor.programs import base_environment, data_tokens, platform_environment


def open_services(installation: Installation, inherited: Mapping[str, str]) -> Services:
    """Return the pipeline's services with its keys and tokens; raises SettingsError when there was no `up` before."""
    credentials = read_credentials(installation.home)
    environment = {**base_environment(installation, inherited), **platform_environment(installation, credentials)}
    return Services(settings({**environment, **data_tokens(inherited)}))


def open_airflow(installation: Installation, user: str = SERVICE) -> AirflowApi:
    """Return Airflow's API as one of its users; raises NotFoundError for a user it does not have."""
    passwords = read_logins(installation)
    if user not in passwords:
        raise NotFoundError(
            f"there is no user {user!r}; known: {', '.join(passwords)}",
            next_step="name the person in a model spec, then `taxiway down` and `taxiway up`.",
        )
    return AirflowApi(installation.url("airflow"), user, passwords[user])
