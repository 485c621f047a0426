"""The plugin as Airflow loads it, in a process of its own with an Airflow home of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
SCRIPT = """
import asyncio, json, sys, warnings
warnings.simplefilter("ignore")
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
early = sorted({"fastapi", "taxiway.bootstrap", "taxiway.web", "pandas", "mlflow"} & set(sys.modules))
from airflow.api_fastapi.core_api.datamodels.plugins import PluginResponse
shown = [PluginResponse.model_validate(info) for info in plugins_manager.get_plugin_info() if info["name"] == "taxiway"]
import httpx
from fastapi import FastAPI
outer = FastAPI()
for app in plugins_manager.get_fastapi_plugins()[0]:
    outer.mount(app["url_prefix"], app["app"])

async def status():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url="http://airflow") as client:
        return (await client.get("/taxiway/")).status_code

print(json.dumps({"errors": errors, "early": early, "anonymous": asyncio.run(status()),
    "views": [view.model_dump() for view in shown[0].external_views]}))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Airflow makes of the plugin folder, without any variable of Taxiway."""
    home = tmp_path_factory.mktemp("airflow")
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(PLUGINS.parent / "include"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


def test_the_plugin_loads_cheaply_in_a_bare_airflow(loaded: dict[str, Any]) -> None:
    """Airflow imports the plugin without errors and without the console, in a process that asks for no app."""
    assert (loaded["errors"], loaded["early"]) == ({}, [])


def test_airflow_accepts_the_menu_entry(loaded: dict[str, Any]) -> None:
    """The entry is valid for Airflow (one wrong destination would remove the whole plugin from its UI)."""
    (view,) = loaded["views"]

    assert (view["destination"], view["url_route"], view["href"]) == ("nav", "taxiway", "/taxiway/")


def test_airflow_sign_in_guards_the_console(loaded: dict[str, Any]) -> None:
    """Nobody gets a page without Airflow's session."""
    assert loaded["anonymous"] == 401
