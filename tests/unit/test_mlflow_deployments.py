"""The gateway behind MLflow's own deployment commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from taxiway.adapters.gateway_target import GatewayTarget
from taxiway.adapters.mlflow_deployments import CONTROL_TOKEN, DATA_TOKEN, TaxiwayClient
from taxiway.domain.values import TrafficPlan
from tests.conftest import free_port
from tests.gateway_models import PROJECT, tiny_models
from tests.gateway_process import TOKEN, GatewayProcess, Publisher

pytestmark = pytest.mark.timeout(600)  # the first test may have to build the models' environment
MODEL = "two_columns"
ROWS = [{"x": 1.0, "y": 2.0, "id": "a"}, {"x": 2.0, "y": 0.5, "id": "b"}]
ANSWERS = pytest.approx([3.0, 2.5])
RUN_COMMANDS = """
import json, sys
from click.testing import CliRunner
from mlflow.deployments.cli import commands

outcomes = {}
for name, words in json.load(sys.stdin).items():
    done = CliRunner().invoke(commands, words)
    outcomes[name] = {"output": done.output, "error": str(done.exception or "")}
print(json.dumps(outcomes))
"""


@dataclass
class Recorder:
    """A server that keeps the last request, and answers what it was told."""

    url: str
    status: int = 200
    answer: bytes = b'{"predictions": [1]}'
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> Iterator[GatewayProcess]:
    """A gateway that serves one tiny model."""
    registry = tmp_path_factory.mktemp("registry")
    process = GatewayProcess(tmp_path_factory.mktemp("gateway"), registry, keys[1])
    try:
        process.start()
        target = GatewayTarget(process.url, TOKEN)
        target.deploy(Publisher(registry, tiny_models(tmp_path_factory.getbasetemp()), keys[0]).release(MODEL, 1))
        target.set_traffic(MODEL, TrafficPlan(stable=1))
        yield process
    finally:
        process.remove()


@pytest.fixture
def client(gateway: GatewayProcess) -> TaxiwayClient:
    return TaxiwayClient(_target(gateway))


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """Something that shows what the plug-in sends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.path, seen.headers = self.path, dict(self.headers)
            seen.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(seen.status)
            self.send_header("Content-Length", str(len(seen.answer)))
            self.end_headers()
            self.wfile.write(seen.answer)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        seen = Recorder(f"taxiway://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield seen
        server.shutdown()
        thread.join()


def test_commands_of_mlflow_find_the_plug_in(gateway: GatewayProcess, tmp_path: Path) -> None:
    """With the entry points of the project installed, MLflow's commands ask the gateway, and none deploys."""
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps(ROWS))
    target, named = ("-t", _target(gateway)), ("--name", MODEL)
    commands = {
        "predict": ["predict", *target, *named, "-I", str(rows)],
        "list": ["list", *target],
        "get": ["get", *target, *named],
        "help": ["help", *target],
        "create": ["create", *target, *named, "-m", "models:/two_columns/1"],
        "run-local": ["run-local", *target, *named, "-m", "models:/two_columns/1"],
    }
    command = [sys.executable, "-c", RUN_COMMANDS]
    path = os.pathsep.join([str(_installed(tmp_path)), str(PROJECT / "include")])
    variables = {**os.environ, "PYTHONPATH": path, CONTROL_TOKEN: TOKEN}
    done = subprocess.run(
        command, input=json.dumps(commands), env=variables, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    said = {name: outcome["output"] for name, outcome in json.loads(done.stdout).items()}
    errors = {name: outcome["error"] for name, outcome in json.loads(done.stdout).items()}
    assert json.loads(said["predict"])["predictions"] == ANSWERS
    assert MODEL in said["list"]
    assert "'stable': 1" in said["get"]
    assert "taxiway://" in said["help"]
    assert "two_columns.delivery" in errors["create"]
    assert "mlflow models serve" in errors["run-local"]
    assert not any(errors[name] for name in ("predict", "list", "get", "help"))


@pytest.mark.parametrize(
    "inputs",
    [
        pd.DataFrame(ROWS),
        {"x": np.array([1.0, 2.0]), "y": [2.0, 0.5]},
        {"dataframe_records": ROWS},
        ROWS,
    ],
    ids=["frame", "columns", "body", "records"],
)
def test_inputs_of_every_kind(client: TaxiwayClient, inputs: Any) -> None:
    """Frames, columns, lists and complete bodies get the same predictions; the answer names version and request."""
    answer = client.predict(MODEL, inputs=inputs)

    assert answer["predictions"] == ANSWERS
    assert answer["model_version"] == "1"
    assert answer["request_id"]
    assert list(answer.get_predictions().iloc[:, 0]) == ANSWERS


def test_exact_values_are_sent(recorder: Recorder) -> None:
    """Times go as ISO 8601, what is missing as null, arrays as lists; the model's name is one part of the path."""
    client = TaxiwayClient(recorder.url)
    at = pd.Timestamp("2013-01-01T05:00Z")
    frame = pd.DataFrame({"at": [at], "n": pd.array([2**60 + 1], dtype="Int64"), "x": [np.nan]})

    client.predict(MODEL, frame)
    assert recorder.body == {
        "dataframe_split": {"columns": ["at", "n", "x"], "data": [["2013-01-01T05:00:00+00:00", 2**60 + 1, None]]}
    }
    client.predict("a/../b", np.ones((1, 2), dtype=np.float32))
    assert recorder.body == {"inputs": [[1.0, 1.0]]}
    assert recorder.path == "/models/a%2F..%2Fb/invocations"
    client.predict(MODEL, {"instances": [{"at": at, "n": np.int64(3)}], "params": {"deep": True}})
    assert recorder.body == {"instances": [{"at": "2013-01-01T05:00:00+00:00", "n": 3}], "params": {"deep": True}}


def test_what_cannot_be_sent_is_refused(recorder: Recorder) -> None:
    """An input that JSON has no word for is named, and nothing is sent."""
    with pytest.raises(MlflowException, match="have a set"):
        TaxiwayClient(recorder.url).predict(MODEL, {"x": {1}})

    assert recorder.path == ""


def test_data_token_is_sent_when_there_is_one(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions carry the token of the data path, and never that of the control path."""
    client = TaxiwayClient(recorder.url)
    monkeypatch.setenv(CONTROL_TOKEN, "for-operators")
    client.predict(MODEL, [])
    assert "Authorization" not in recorder.headers

    monkeypatch.setenv(DATA_TOKEN, "for-callers")
    client.predict(MODEL, [])
    assert recorder.headers["Authorization"] == "Bearer for-callers"


def test_reads(client: TaxiwayClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list needs no token; who gets the traffic is told to who has the token of the control path."""
    monkeypatch.delenv(CONTROL_TOKEN, raising=False)
    assert client.list_deployments() == [{"name": MODEL, "versions": {"1": "ready"}}]
    with pytest.raises(MlflowException, match=CONTROL_TOKEN):
        client.get_deployment(MODEL)

    monkeypatch.setenv(CONTROL_TOKEN, "wrong")
    with pytest.raises(MlflowException) as refused:
        client.get_deployment(MODEL)
    assert refused.value.get_http_status_code() == 401

    monkeypatch.setenv(CONTROL_TOKEN, TOKEN)
    found = client.get_deployment(MODEL)
    assert (found["name"], found["traffic"]["stable"]) == (MODEL, 1)
    assert [version["state"] for version in found["versions"]] == ["ready"]
    with pytest.raises(MlflowException, match="not deployed") as missing:
        client.get_deployment("nobody")
    assert missing.value.get_http_status_code() == 404


def test_refusals_of_the_gateway_are_passed_on(client: TaxiwayClient) -> None:
    """What the gateway or the model refuses is an MlflowException with its words and the code of its status."""
    with pytest.raises(MlflowException, match="input schema") as bad:
        client.predict(MODEL, [{"x": 1.0}])
    with pytest.raises(MlflowException, match="not served here") as missing:
        client.predict("nobody", ROWS)

    assert (bad.value.error_code, missing.value.get_http_status_code()) == ("BAD_REQUEST", 404)


@pytest.mark.parametrize("answer", [b"<html>bad gateway</html>", b'{"error": "busy", "next": "wait."}', b"[]"])
def test_other_refusals(recorder: Recorder, answer: bytes) -> None:
    """A proxy's page is no riddle: the status, or what there is of an explanation, is told."""
    recorder.status, recorder.answer = 503, answer
    with pytest.raises(MlflowException, match=r"status 503|busy \(next: wait") as caught:
        TaxiwayClient(recorder.url).predict(MODEL, ROWS)

    assert caught.value.error_code == "TEMPORARILY_UNAVAILABLE"


def test_success_that_is_no_answer(recorder: Recorder) -> None:
    """A login page that some proxy puts in the way is no prediction."""
    recorder.answer = b"<html>log in</html>"
    with pytest.raises(MlflowException, match="without predictions"):
        TaxiwayClient(recorder.url).predict(MODEL, ROWS)


def test_silence() -> None:
    """A gateway that is not there is an MlflowException that names the address."""
    with pytest.raises(MlflowException, match=r"127\.0\.0\.1:\d+ does not answer") as caught:
        TaxiwayClient(f"taxiway://127.0.0.1:{free_port()}").predict(MODEL, ROWS)

    assert caught.value.error_code == "TEMPORARILY_UNAVAILABLE"


def test_no_way_around_the_delivery(client: TaxiwayClient) -> None:
    """Deployments are not made, changed or deleted from MLflow, and the refusal says what to do."""
    with pytest.raises(MlflowException, match=f"{MODEL}.delivery"):
        client.create_deployment(MODEL, "models:/m/1")
    with pytest.raises(MlflowException, match=f"taxiway rollback {MODEL}"):
        client.update_deployment(MODEL, "models:/m/1")
    with pytest.raises(MlflowException, match=f"{MODEL}.rollback") as refused:
        client.delete_deployment(MODEL)

    assert refused.value.error_code == "NOT_IMPLEMENTED"


@pytest.mark.parametrize(
    "target",
    [
        "taxiway",
        "taxiway:/host",
        "taxiway://",
        "http://host",
        "taxiway://ana:secret@host",
        "taxiway://host?token=secret",
        "taxiway://secret:70a1",
        "taxiway://secret:70000",
        "taxiway://secret:0",
        "taxiway://[::1",
        "taxiway://secret\x01",
        "taxiway://secret..host",
        "taxiway://xn--a",
    ],
)
def test_addresses_that_are_none(target: str) -> None:
    """A target without a host, with a secret in it, or that is no address, is refused without being repeated."""
    with pytest.raises(MlflowException, match="taxiway://HOST:PORT") as caught:
        TaxiwayClient(target)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("target", ["taxiway://[::1]:1", "taxiway://localhost:1/prefix/", "taxiway+https://[::1]:1"])
def test_addresses_that_are_some(target: str) -> None:
    """An IPv6 address, a name, and a prefix are addresses that can be asked, here in vain."""
    with pytest.raises(MlflowException, match="does not answer"):
        TaxiwayClient(target).list_deployments()


def test_endpoints_and_nobody(client: TaxiwayClient) -> None:
    """A model has to be named, and endpoints are not what this target has."""
    for words in ({"endpoint": "e"}, {}):
        with pytest.raises(MlflowException, match="--name"):
            client.predict(inputs=ROWS, **words)


def _target(gateway: GatewayProcess) -> str:
    return gateway.url.replace("http://", "taxiway://")


def _installed(directory: Path) -> Path:
    """Return a directory in which the project looks installed, with its entry points as pyproject.toml has them."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    metadata = directory / "site" / f"taxiway-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: taxiway\nVersion: {project['version']}\n")
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {module}" for name, module in points.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return metadata.parent
