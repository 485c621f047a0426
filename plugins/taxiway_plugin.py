"""Puts Taxiway's console into Airflow: a page in the main menu, and the API below `/taxiway/api`.

Every Airflow process imports this file, but only the API server reads the attributes below: the console is made there,
when it is first asked for. The only file of this folder, because Airflow runs each one under its bare name.
"""

from functools import cached_property
from importlib.util import find_spec
from typing import Any

from airflow.plugins_manager import AirflowPlugin

if find_spec("taxiway") is None:
    raise ImportError("the package taxiway is not installed here: run `uv pip install -e .` in Taxiway's folder")


class TaxiwayPlugin(AirflowPlugin):
    """The console, for everybody who is signed in to Airflow."""

    name = "taxiway"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        """Return the console; Airflow's sign-in decides who somebody is."""
        from airflow.api_fastapi.core_api.security import GetUserDep

        from taxiway.bootstrap import services
        from taxiway.web import create_app

        def current_user(user: GetUserDep) -> str:
            return user.get_id()  # not get_name(): with some auth managers people choose that themselves

        return [{"name": "taxiway", "url_prefix": "/taxiway", "app": create_app(services, current_user=current_user)}]

    @cached_property
    def external_views(self) -> list[dict[str, Any]]:
        """Return the page in Airflow's main menu (the trailing slash matters: Airflow answers `/taxiway` itself)."""
        from airflow.api_fastapi.app import API_ROOT_PATH

        console = f"{API_ROOT_PATH}taxiway/"
        return [
            {
                "name": "Taxiway",
                "url_route": "taxiway",
                "href": console,
                "destination": "nav",
                "nav_top_level": True,
                "icon": f"{console}static/icon.svg",
                "icon_dark_mode": f"{console}static/icon-dark.svg",
            }
        ]
