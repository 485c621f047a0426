"""`taxiway replay` on the real gateway, with rows of a real dataset."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

from taxiway.adapters.gateway_target import GatewayTarget
from taxiway.bootstrap import PROJECT
from taxiway.cli import app
from taxiway.domain.values import TrafficPlan
from taxiway.supervisor.credentials import ensure_credentials, write_private
from taxiway.supervisor.installation import Installation
from tests.conftest import free_port
from tests.gateway_models import tiny_models
from tests.gateway_process import TOKEN, GatewayProcess, Publisher, Start, gateways, wait_until

pytestmark = pytest.mark.timeout(600)  # it may have to build the models' environment
MODEL = "flight_delays"
OPTIONS = ("--environment", "staging")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> Iterator[Start]:
    """Starts a gateway that serves version 1 of MODEL."""
    models = tiny_models(tmp_path_factory.getbasetemp())
    publisher = Publisher(tmp_path_factory.mktemp("registry"), models, keys[0])
    release = publisher.release(MODEL, 1)
    with gateways(publisher, keys, tmp_path_factory) as start:

        def serving(*options: str) -> GatewayProcess:
            gateway = start(*options)
            target = GatewayTarget(gateway.url, TOKEN)
            target.deploy(release)
            target.set_traffic(MODEL, TrafficPlan(stable=1))
            return gateway

        yield serving


@pytest.fixture(scope="module")
def gateway(start: Start) -> GatewayProcess:
    return start()


@pytest.fixture
def home(gateway: GatewayProcess, tmp_path: Path) -> Path:
    """An installation whose staging is the gateway, with a spec and ten days of data, an hour apart."""
    return _installation(tmp_path, gateway.port)


def test_rows_of_a_window(home: Path) -> None:
    """The rows of the named days are sent in batches, and the summary says what came back."""
    result = _replay(home, "--from", "2013-02-02", "--to", "2013-02-04", "--batch", "20", "--json")

    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (found["requests"], found["failed"], found["rows"]) == (3, 0, 48)
    assert found["rows_by_version"] == {"1": 48}
    assert 0 < found["p50_ms"] <= found["p99_ms"]


def test_rows_are_logged_with_their_keys(home: Path, gateway: GatewayProcess) -> None:
    """Key and timestamp travel with the features, so that monitoring can join the labels."""
    result = _replay(home, "--rows", "3", "--from", "2013-02-05", "--rate", "500")

    assert result.exit_code == 0
    assert "requests  3 in" in result.stdout
    assert "version 1: 3" in result.stdout
    assert all(f'"f{number}"' in _logged(gateway.log) for number in (96, 97, 98))


def test_a_closed_data_path_is_shown_its_token(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where callers have to show a token, the replay shows the one of its environment."""
    home = _installation(tmp_path, start("--data-token", "for-callers").port)
    monkeypatch.setenv("TAXIWAY_PRODUCTION_DATA_TOKEN", "for-others")
    monkeypatch.setenv("TAXIWAY_STAGING_DATA_TOKEN", "for-callers")

    result = _replay(home, "--rows", "3", "--json")

    assert json.loads(result.stdout)["failures"] == {}
    assert result.exit_code == 0


def test_failed_requests(home: Path) -> None:
    """Requests that are refused are counted by status, and the command exits with 1."""
    _write_spec(home / "models", str(home.parent / "data"), ["x"])

    result = _replay(home, "--rows", "5")

    assert result.exit_code == 1
    assert "failed    5 (5 x 400)" in result.stdout


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("nobody", (), "there is no spec for model 'nobody'"),
        (MODEL, ("--from", "2014-01-01", "--to", "2014-02-01"), "there are no rows from 2014-01-01 to 2014-02-01"),
        (MODEL, ("--environment", "moon"), "there is no environment 'moon'"),
    ],
)
def test_what_cannot_be_replayed(home: Path, model: str, options: tuple[str, ...], message: str) -> None:
    """An unknown model, days without data and an unknown environment are errors that name them."""
    result = _replay(home, *options, model=model)

    assert result.exit_code == 1
    assert message in result.stderr


def test_no_gateway(tmp_path: Path) -> None:
    """A gateway that is down is said before anything is sent."""
    result = _replay(_installation(tmp_path, free_port()), "--rows", "5")

    assert result.exit_code == 1
    assert "the gateway does not answer" in result.stderr
    assert "taxiway status" in result.stderr


def test_interrupted(home: Path, gateway: GatewayProcess) -> None:
    """Ctrl-C ends an endless replay with the summary."""
    command = [sys.executable, "-c", "from taxiway.cli import main; main()", "replay", MODEL, "--home", str(home)]
    words = ["--loop", "--rate", "50", "--json", "--rows", "5", *OPTIONS]
    before = _logged(gateway.log).count("\n")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "include")}
    process = subprocess.Popen([*command, *words], env=environment, stdout=subprocess.PIPE, start_new_session=True)
    try:
        wait_until(lambda: _logged(gateway.log).count("\n") > before + 6)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()

    assert process.returncode == 0
    assert json.loads(output)["requests"] > 5


def _replay(home: Path, *options: str, model: str = MODEL) -> Result:
    return CliRunner().invoke(app, ["replay", model, "--home", str(home), *OPTIONS, *options])


def _installation(directory: Path, port: int) -> Path:
    home, models, data = directory / "home", directory / "home" / "models", directory / "data"
    models.mkdir(parents=True)
    data.mkdir()
    _write_spec(models, str(data), ["x", "y"])
    (models / "_defaults.yaml").write_bytes((PROJECT / "include" / "models" / "_defaults.yaml").read_bytes())
    Installation(home).changed(models=models, staging=port, production=free_port()).save()
    write_private(home / "secrets.json", asdict(replace(ensure_credentials(home, []), staging_token=TOKEN)))
    times = pd.date_range("2013-02-01", periods=240, freq="h", tz="UTC")
    frame = pd.DataFrame({"flight_id": [f"f{number}" for number in range(240)], "scheduled_departure": times})
    frame.assign(x=1.0, y=2.0, late=0.0).to_parquet(data / "2013-02.parquet", index=False)
    return home


def _write_spec(models: Path, data: str, features: list[str]) -> None:
    spec = yaml.safe_load((PROJECT / "include" / "models" / f"{MODEL}.yaml").read_text(encoding="utf-8"))
    spec["data"] = {**spec["data"], "uri": data, "features": features, "checks": {"min_rows": 10}}
    del spec["gates"]["slices"], spec["retraining"]  # YAML calls the key `on` True
    (models / f"{MODEL}.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")


def _logged(directory: Path) -> str:
    return "".join(path.read_text() for path in directory.rglob("*.jsonl"))
