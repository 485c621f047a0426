"""The commands up, down, status and validate, as far as they need no running Airflow."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from taxiway.bootstrap import PROJECT
from taxiway.cli import app
from taxiway.supervisor.credentials import ensure_credentials
from taxiway.supervisor.installation import Installation
from taxiway.supervisor.processes import marked
from taxiway.supervisor.state import is_supervised
from tests.conftest import free_port

SERVICES = ("airflow", "mlflow", "staging", "production")


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("mode", [["--detach"], []])
def test_up_with_a_taken_port(tmp_path: Path, taken_port: int, mode: list[str]) -> None:
    """`up` names the port, who has it and the option to change it, and starts nothing."""
    ports = {**{name: free_port() for name in SERVICES}, "staging": taken_port}
    options = [word for name, port in ports.items() for word in (f"--{name}-port", str(port))]

    result = _taxiway("up", tmp_path / "home", *mode, *options)

    assert result.exit_code == 1
    assert f"port {taken_port} (staging) is taken by" in result.stderr
    assert f"pid {os.getpid()}" in result.stderr
    assert "--staging-port" in result.stderr
    assert marked(tmp_path / "home") == []
    assert not is_supervised(tmp_path / "home" / "run")


def test_up_with_equal_ports(tmp_path: Path) -> None:
    """Two services with one port are refused before anything is written."""
    result = _taxiway("up", tmp_path / "home", "--airflow-port", "7001")

    assert result.exit_code == 1
    assert "must differ" in result.stderr
    assert not (tmp_path / "home").exists()


def test_up_without_specs(tmp_path: Path) -> None:
    """A directory of specs that does not exist is an error that names it."""
    ports = [word for name in SERVICES for word in (f"--{name}-port", str(free_port()))]

    result = _taxiway("up", tmp_path / "home", "--detach", "--models", str(tmp_path / "nowhere"), *ports)

    assert result.exit_code == 1
    assert str(tmp_path / "nowhere") in result.stderr


def test_down_when_nothing_runs(tmp_path: Path) -> None:
    """`down` on a home that was never up is no error and makes nothing."""
    result = _taxiway("down", tmp_path / "home")

    assert result.exit_code == 0
    assert "nothing to stop" in result.stdout
    assert not (tmp_path / "home").exists()


def test_a_rollback_without_an_installation(tmp_path: Path) -> None:
    """`rollback` says how to get an installation, exits with 1, and keeps no order."""
    result = _taxiway("rollback", tmp_path / "home", "flight_delays", "--reason", "wrong answers")

    assert result.exit_code == 1
    assert "taxiway up" in result.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (["no_such_model", "--reason", "wrong answers"], 1, "there is no spec for model 'no_such_model'"),
        (["flight_delays", "--reason", " "], 1, "a rollback needs a reason"),
        (["flight_delays"], 2, "--reason"),
        (["flight_delays", "--reason", "wrong answers"], 1, "the gateway does not answer"),
    ],
)
def test_a_rollback_that_cannot_be(tmp_path: Path, arguments: list[str], exit_code: int, says: str) -> None:
    """Nothing is ordered, and the message says what is missing."""
    home = tmp_path / "home"
    ports = {name: free_port() for name in SERVICES}
    Installation.load(home).changed(**ports).save()
    ensure_credentials(home, ())

    result = _taxiway("rollback", home, *arguments)

    assert result.exit_code == exit_code
    assert says in result.stderr
    assert list(home.glob("rollbacks/*/*.json")) == []


def test_reload_when_nothing_runs(tmp_path: Path) -> None:
    """`reload` needs a supervisor that starts the next process."""
    result = _taxiway("reload", tmp_path / "home", "production")

    assert result.exit_code == 1
    assert "Taxiway is not up" in result.stderr


@pytest.mark.parametrize("options", [[], ["--json"], ["--secrets"]])
def test_status_without_an_installation(tmp_path: Path, options: list[str]) -> None:
    """`status` says how to get an installation, and exits with 1."""
    result = _taxiway("status", tmp_path / "home", *options)

    assert result.exit_code == 1
    assert "taxiway up" in result.stderr


def test_the_projects_specs_are_valid(tmp_path: Path) -> None:
    """`validate` needs no installation: it works in a fresh clone and in CI."""
    result = _taxiway("validate", tmp_path / "home")

    assert result.exit_code == 0
    assert "flight_delays" in result.stdout
    assert not (tmp_path / "home").exists()


def test_every_problem_of_every_spec_is_named(tmp_path: Path) -> None:
    """`validate` shows all problems with file and key, keeps counting the good specs, and exits with 1."""
    good = (PROJECT / "include" / "models" / "flight_delays.yaml").read_text(encoding="utf-8")
    defaults = (PROJECT / "include" / "models" / "_defaults.yaml").read_text(encoding="utf-8")
    (tmp_path / "_defaults.yaml").write_text(defaults, encoding="utf-8")
    (tmp_path / "flight_delays.yaml").write_text(good, encoding="utf-8")
    broken = good.replace("model: flight_delays", "model: late").replace("label_delay: 1d", "label_dely: soon")
    (tmp_path / "late.yaml").write_text(broken.replace("quorum: 2", "quorum: many"), encoding="utf-8")

    result = _taxiway("validate", tmp_path / "home", "--models", str(tmp_path))

    assert result.exit_code == 1
    assert "late.yaml: task.label_dely: unknown key; did you mean 'label_delay'?" in result.stderr
    assert "late.yaml: uat.quorum" in result.stderr
    assert "1 valid: flight_delays" in result.stdout


def _taxiway(command: str, home: Path, *options: str) -> Result:
    return CliRunner().invoke(app, [command, "--home", str(home), *options])
