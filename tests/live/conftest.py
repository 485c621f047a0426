"""One whole installation for all live tests: `taxiway up` at the first, `taxiway down` after the last."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from taxiway.adapters.airflow_api import AirflowApi
from taxiway.bootstrap import PROJECT, Services
from taxiway.supervisor.clients import open_airflow, open_services
from taxiway.supervisor.credentials import Credentials, read_credentials
from taxiway.supervisor.installation import Installation
from taxiway.supervisor.processes import marked
from taxiway.supervisor.state import ProgramState, is_supervised, read_state
from tests.conftest import free_port

if TYPE_CHECKING:
    from tests.live.ramp_setup import Ramp

_HERE = Path(__file__).parent
_TEST_SECONDS = 1200
_POLL = 0.5
Found = TypeVar("Found")


@dataclass
class LiveInstallation:
    """A running installation, and how tests speak to it."""

    home: Path
    models: Path
    _airflow: dict[str, AirflowApi] = field(default_factory=dict)

    @property
    def settings(self) -> Installation:
        """Ports, addresses (`settings.url("airflow")`) and files."""
        return Installation.load(self.home)

    @property
    def credentials(self) -> Credentials:
        """Tokens of the gateways and everybody's password."""
        return read_credentials(self.home)

    @property
    def services(self) -> Services:
        """The services of a task: registry, targets, prediction logs, ..."""
        return open_services(self.settings, os.environ)

    def airflow(self, user: str = "taxiway") -> AirflowApi:
        """Airflow's API as one of its users: taxiway, admin, or a person of a spec."""
        if user not in self._airflow:
            self._airflow[user] = open_airflow(self.settings, user)
        return self._airflow[user]

    def programs(self) -> dict[str, ProgramState]:
        """What the supervisor says about each program."""
        state = read_state(self.settings.run)
        assert state is not None
        return dict(state.programs)

    def taxiway(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the CLI on this installation."""
        line = self.command(command, *arguments)
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=_TEST_SECONDS)

    def command(self, command: str, *arguments: str) -> list[str]:
        """Return the command line of a command of the CLI on this installation."""
        return [str(Path(sys.executable).with_name("taxiway")), command, "--home", str(self.home), *arguments]

    def up(self) -> None:
        """Start it; returns when everything is ready."""
        ports = {name: free_port() for name in ("airflow", "mlflow", "staging", "production")}
        if (self.home / "installation.json").exists():
            options = []
        else:
            options = [word for name, port in ports.items() for word in (f"--{name}-port", str(port))]
        done = self.taxiway("up", "--detach", "--models", str(self.models), *options)
        assert done.returncode == 0, done.stdout + done.stderr

    def down(self) -> None:
        """Stop it; nothing of it may be left."""
        done = self.taxiway("down")
        assert done.returncode == 0, done.stdout + done.stderr
        assert marked(self.home) == []

    def add_spec(self, model: str, text: str) -> None:
        """Write `<model>.yaml` and return once Airflow has the model's DAGs."""
        (self.models / f"{model}.yaml").write_text(text, encoding="utf-8")
        wait_for(
            lambda: f"{model}.ci" in {dag["dag_id"] for dag in self.airflow().dags()},
            f"the DAGs of {model}; import errors: {self.airflow().import_errors()}",
        )


def wait_for(look: Callable[[], Found], what: str, *, seconds: float = 300, poll: float = _POLL) -> Found:
    """Return what `look` returns as soon as it is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(poll)
    pytest.fail(f"waited {seconds:g} s in vain for {what}")


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveInstallation]:
    """An installation that is up, with a copy of the project's specs; tests add theirs."""
    directory = tmp_path_factory.mktemp("live")
    models = directory / "models"
    shutil.copytree(PROJECT / "include" / "models", models)
    installation = LiveInstallation(directory / "home", models)
    try:
        installation.up()
        yield installation
    finally:
        installation.down()


@pytest.fixture(scope="module", autouse=True)
def is_up(installation: LiveInstallation) -> None:
    """A module that took the installation down need not bring it up again: nobody may need it any more."""
    if not is_supervised(installation.settings.run):
        installation.up()


@pytest.fixture(scope="session")
def ramp(installation: LiveInstallation, tmp_path_factory: pytest.TempPathFactory) -> Ramp:
    """The model whose versions are rolled out, its first one in production."""
    from tests.live.ramp_setup import make_ramp  # which needs this module

    return make_ramp(installation, tmp_path_factory.mktemp("ramp"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is a live test, and may take its time."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.live)
            item.add_marker(pytest.mark.timeout(_TEST_SECONDS))
