"""The oracle of the data path: MLflow's own scoring server and the gateway get the same requests.

Both serve the same models in the same environment. Same status class, same predictions; where the gateway differs on
purpose, DIFFERENCES says why.
"""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from taxiway.adapters.gateway_target import GatewayTarget
from taxiway.domain.values import TrafficPlan
from taxiway.stages.environments import ensure_environment
from tests.conftest import free_port
from tests.gateway_models import CACHE, LOCK
from tests.gateway_process import MAX_REQUEST_BYTES, TOKEN, GatewayProcess, Publisher, logged, wait_until

pytestmark = pytest.mark.timeout(600)  # the first test may have to build the models' environment
JSON, CSV = "application/json", "text/csv"
MODELS = {"mixed": 1, "tensor": 2, "unsigned": 3, "few": 4}
PROGRAM = """
import sys, tempfile
from pathlib import Path
import mlflow, numpy as np, uvicorn
from fastapi import FastAPI
from mlflow.models import ModelSignature
from mlflow.pyfunc import scoring_server
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

root, port = Path(sys.argv[1]), int(sys.argv[2])
columns = [ColSpec("double", "x", required=False), ColSpec("long", "n"), ColSpec("string", "c"),
           ColSpec("boolean", "b"), ColSpec("datetime", "at")]
signatures = {
    "1": ModelSignature(Schema(columns), params=ParamSchema([ParamSpec("factor", "double", 1.0)])),
    "2": ModelSignature(Schema([TensorSpec(np.dtype("float64"), (-1, 2))])),
    "3": None,
    "4": ModelSignature(Schema([ColSpec("double", "x")])),
}
bodies = {
    "1": '''pd.DataFrame({
            "score": model_input["x"] * (params or {}).get("factor", 1.0),
            "echo": [f"{row.n}|{row.c}|{row.b}|{row.at.isoformat()}" for row in model_input.itertuples()]})''',
    "2": "model_input.sum(axis=1)",
    "3": "pd.DataFrame(model_input).sum(axis=1).to_numpy()",
    "4": "{'first': model_input['x'][:1].to_numpy()}",
}
for name, body in bodies.items():
    (root / f"{name}.py").write_text(f'''
import mlflow, pandas as pd

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return {body}

mlflow.models.set_model(Model())
''')
    mlflow.pyfunc.save_model(root / "new" / name, python_model=str(root / f"{name}.py"), signature=signatures[name],
                             pip_requirements=["mlflow-skinny"])
(root / "new").rename(root / "models")
app = FastAPI()
for name in bodies:
    app.mount(f"/{name}", scoring_server.init(scoring_server.load_model(str(root / "models" / name))))
uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
"""


@dataclass(frozen=True)
class Asked:
    """One request."""

    body: bytes
    content_type: str | None = JSON
    model: str = "mixed"


@dataclass(frozen=True)
class Servers:
    """MLflow's scoring server and the gateway, with the same models."""

    mlflow: httpx.Client
    gateway: httpx.Client
    process: GatewayProcess

    def ask_both(self, asked: Asked) -> tuple[httpx.Response, httpx.Response]:
        """Send the request to MLflow and to the gateway."""
        headers = {"Content-Type": asked.content_type} if asked.content_type else {}
        reference = self.mlflow.post(f"/{MODELS[asked.model]}/invocations", content=asked.body, headers=headers)
        return reference, self.gateway.post(f"/models/{asked.model}/invocations", content=asked.body, headers=headers)


ROW: dict[str, Any] = {"x": 1.5, "n": 3, "c": "AA", "b": True, "at": "2013-01-01T05:00:00"}
CSV_ROW = "x,n,c,b\n1.5,3,AA,True\n"


def row(**values: Any) -> dict[str, Any]:
    """Return the row with other values; `...` leaves a column out."""
    return {name: value for name, value in {**ROW, **values}.items() if value is not ...}


def records(*rows: dict[str, Any], **more: Any) -> Asked:
    return Asked(json.dumps({"dataframe_records": list(rows), **more}).encode())


def raw(text: str, content_type: str | None = JSON) -> Asked:
    return Asked(text.encode(), content_type)


def named(form: str, data: Any, model: str = "mixed", **more: Any) -> Asked:
    return Asked(json.dumps({form: data, **more}).encode(), model=model)


def as_parquet() -> Asked:
    """Return the row as MLflow takes it in Parquet."""
    file = io.BytesIO()
    pd.DataFrame([row(at=pd.Timestamp(ROW["at"]))]).to_parquet(file)
    return Asked(file.getvalue(), "application/vnd.apache.parquet")


AS_RECORDS = json.dumps({"dataframe_records": [ROW]})
SPLIT = {"columns": list(ROW), "data": [list(ROW.values()), list(row(x=2.5, n=4).values())]}
COLUMNS = {name: [value, value] for name, value in ROW.items()}
ANSWERED = {
    "split": named("dataframe_split", SPLIT),
    "split with index": named("dataframe_split", {**SPLIT, "index": [7, 8]}),
    "split in another order": named(
        "dataframe_split", {"columns": list(ROW)[::-1], "data": [list(ROW.values())[::-1]]}
    ),
    "records": records(ROW, row(x=-0.0, n=0)),
    "instances": named("instances", [ROW]),
    "instances of two": named("instances", [ROW, row(n=5)]),
    "inputs as columns": named("inputs", COLUMNS),
    "inputs as records": named("inputs", [ROW]),
    "spaces in the JSON": Asked(json.dumps({"dataframe_records": [ROW]}, indent=4).encode()),
    "charset": Asked(json.dumps({"dataframe_records": [ROW]}).encode(), f"{JSON}; charset=UTF-8"),
    "extra columns": records(row(id="a", scheduled="2013-01-01", deep={"a": [1]})),
    "missing in one row": records(ROW, row(x=...)),
    "number as text": records(row(x="1.5")),
    "number for a text": records(row(c=7)),
    "text for a boolean": records(row(b="yes")),
    "number for a boolean": records(row(b=1)),
    "fraction for an integer": records(row(n=3.5)),
    "whole float for an integer": records(row(n=3.0)),
    "integer for a float": records(row(x=2)),
    "null float": records(row(x=None)),
    "null float beside others": records(row(x=None), ROW),
    "null text": records(row(c=None)),
    "null boolean": records(row(b=None)),
    "null date": records(row(at=None)),
    "NaN": records(row(x=float("nan"))),
    "infinity": records(row(x=float("inf"))),
    "unicode": records(row(c="Zürich 東京 \U0001f6eb \u202e"), row(c="")),
    "unicode unescaped": Asked(json.dumps({"dataframe_records": [row(c="Zürich 東京")]}, ensure_ascii=False).encode()),
    "lone surrogate": raw('{"dataframe_records": [{"x": 1, "n": 3, "c": "\\ud800", "b": true, "at": "2013-01-01"}]}'),
    "unicode column name": records(row(größe=1)),
    "large integer": records(row(n=2**53 + 1)),
    "largest integer": records(row(n=2**63 - 1)),
    "too large an integer": records(row(n=2**63)),
    "huge integer as float": records(row(x=10**30)),
    "float beyond range": raw('{"dataframe_records": [{"x": 1e999, "n": 3, "c": "a", "b": true, "at": "2013-01-01"}]}'),
    "date only": records(row(at="2013-01-01")),
    "date in milliseconds": records(row(at=1356998400000)),
    "same key twice": raw('{"dataframe_records": [{"x": 1, "x": 2, "n": 3, "c": "a", "b": true, "at": "2013-01-01"}]}'),
    "no split rows": named("dataframe_split", {"columns": list(ROW), "data": []}),
    "params": records(ROW, params={"factor": 3.0}),
    "unknown param": records(ROW, params={"colour": 1}),
    "params that are none": records(ROW, params=None),
    "unknown key beside a form": records(ROW, comment="hello"),
    "csv header only": Asked(b"x,y\n", CSV, "unsigned"),
    "csv with blank lines": Asked(b"x,y\n\n1,2\n\n", CSV, "unsigned"),
    "csv of numbers": Asked(b"x,y\n1.5,2\n1e3,-1\n", CSV, "unsigned"),
    "csv with Windows lines": Asked(b"x,y\r\n1.5,2\r\n", CSV, "unsigned"),
    "csv with a missing value": Asked(b"x,y\n1.5,\n,2\n", CSV, "unsigned"),
    "csv with a byte order mark": Asked(b"\xef\xbb\xbfx,y\n1.5,2\n", CSV, "unsigned"),
    "tensor": named("inputs", [[1.0, 2.0], [3.0, 4.0]], "tensor"),
    "tensor as instances": named("instances", [[1.0, 2.0], [3.0, 4.0]], "tensor"),
    "tensor of integers": named("inputs", [[1, 2]], "tensor"),
    "tensor with null": named("inputs", [[1.0, None]], "tensor"),
    "frame for a tensor": named("dataframe_split", {"columns": ["a", "b"], "data": [[1.0, 2.0]]}, "tensor"),
    "unsigned split": named("dataframe_split", {"columns": ["a", "b"], "data": [[1.0, 2.0]]}, "unsigned"),
    "unsigned without columns": named("dataframe_split", {"data": [[1.0, 2.0]]}, "unsigned"),
    "unsigned records": named("dataframe_records", [{"a": 1}, {"b": 2}], "unsigned"),
    "unsigned inputs": named("inputs", [[1, 2], [3, 4]], "unsigned"),
    "unsigned columns": named("inputs", {"a": [1, 2], "b": [3, 4]}, "unsigned"),
    "unsigned error of the model": named("dataframe_records", [{"a": "text"}, {"a": 1}], "unsigned"),
    "JSON with a byte order mark": Asked(b"\xef\xbb\xbf" + AS_RECORDS.encode()),
    "csv quoted": Asked(b'x,"y"\n"1.5",2\n', CSV, "unsigned"),
}
REFUSED = {
    "split without columns": named("dataframe_split", {"data": [list(ROW.values())]}),
    "split with a short row": named("dataframe_split", {"columns": list(ROW), "data": [[1.5]]}),
    "split of nothing": named("dataframe_split", None),
    "one record that is no list": named("dataframe_records", ROW),
    "inputs of unlike lengths": named("inputs", {**COLUMNS, "x": [1.0]}),
    "missing column": records(row(c=...)),
    "optional column missing": records(row(x=...)),
    "text for a number": records(row(x="many")),
    "null integer": records(row(n=None)),
    "list for a number": records(row(x=[1.5])),
    "date with a zone": records(row(at="2013-01-01T05:00:00Z")),
    "date with an offset": records(row(at="2013-01-01T05:00:00-05:00")),
    "no date": records(row(at="yesterday")),
    "same column twice": named("dataframe_split", {"columns": ["x", *ROW], "data": [[9.0, *ROW.values()]]}),
    "no records": records(),
    "no instances": named("instances", []),
    "empty object": raw("{}"),
    "params as text": records(ROW, params={"factor": "3"}),
    "params of the wrong type": records(ROW, params=[1]),
    "two forms": named("instances", [ROW], inputs=[ROW]),
    "unknown key": raw('{"rows": []}'),
    "malformed": raw('{"dataframe_records": [{"x": 1.5'),
    "empty body": raw(""),
    "null": raw("null"),
    "list": raw(json.dumps([ROW])),
    "text": raw('"rows"'),
    "not UTF-8": Asked(b'{"dataframe_records": [{"c": "\xff"}]}'),
    "wrong content type": Asked(b"x=1", "application/x-www-form-urlencoded"),
    "JSON as text": Asked(json.dumps({"dataframe_records": [ROW]}).encode(), "text/plain"),
    "another charset": raw("{}", f"{JSON}; charset=latin-1"),
    "csv for dates": raw(CSV_ROW, CSV),
    "csv of text that the model cannot add": Asked(b'x,y\n1.5,"a, ""b""\nc"\n', CSV, "unsigned"),
    "csv with a long line": Asked(b"x,y\n1,2\n1,2,3\n", CSV, "unsigned"),
    "csv that is empty": Asked(b"", CSV, "unsigned"),
    "tensor of another shape": named("inputs", [[1.0, 2.0, 3.0]], "tensor"),
    "tensor with ragged rows": named("inputs", [[1.0, 2.0], [3.0]], "tensor"),
    "tensor of text": named("inputs", [["a", "b"]], "tensor"),
    "tensor of nothing": named("inputs", [], "tensor"),
}

DIFFERENCES = {
    "deep JSON is a bad request, not a server error": (raw("[" * 30_000), 500, 400),
    "so is a missing content type": (raw(AS_RECORDS, None), 500, 415),
    "the log needs one prediction per row, to be judged by labels": (Asked(b"x\n1.5\n-2\n", CSV, "few"), 200, 502),
    "the log does not guess which column of a short line is missing": (
        Asked(b"x,y\n1,2\n3\n", CSV, "unsigned"),
        200,
        400,
    ),
    "Parquet of strangers is not parsed": (as_parquet(), 200, 415),
    "chat is not a request for predictions of rows": (Asked(b'{"messages": [1, 2]}', model="unsigned"), 200, 400),
    "JSON is exchanged in UTF-8 (RFC 8259)": (Asked(AS_RECORDS.encode("utf-16")), 200, 400),
    "requests have a limit": (records(ROW, row(c="a" * MAX_REQUEST_BYTES)), 200, 413),
    "unknown parameters of a content type are ignored (RFC 9110)": (raw(AS_RECORDS, f"{JSON}; format=split"), 415, 200),
    "content types are case-insensitive (RFC 9110)": (raw(AS_RECORDS, "Application/JSON"), 415, 200),
}
"""Why the gateway differs on purpose: the request, MLflow's status, the gateway's status."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> Iterator[Servers]:
    """Both servers, started together."""
    home, registry = tmp_path_factory.mktemp("oracle"), tmp_path_factory.mktemp("registry")
    python, port = ensure_environment(LOCK, CACHE, timeout=timedelta(minutes=10)).python, free_port()
    gateway = GatewayProcess(tmp_path_factory.mktemp("gateway"), registry, keys[1])
    errors = (home / "errors.log").open("w")
    reference = subprocess.Popen([python, "-c", PROGRAM, home, str(port)], cwd=home, stderr=errors)
    try:
        gateway.start()
        wait_until((home / "models").exists)
        target, publisher = GatewayTarget(gateway.url, TOKEN), Publisher(registry, home / "models", keys[0])
        with ThreadPoolExecutor() as pool:
            list(pool.map(target.deploy, [publisher.release(name, version) for name, version in MODELS.items()]))
        for name, version in MODELS.items():
            target.set_traffic(name, TrafficPlan(stable=version))
        fresh = httpx.Limits(max_keepalive_connections=0)  # after a server error MLflow's server hangs up
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False, limits=fresh) as mlflow,
            httpx.Client(base_url=gateway.url, timeout=60, trust_env=False) as ours,
        ):
            wait_until(lambda: reference.poll() is None and _listens(mlflow))
            yield Servers(mlflow, ours, gateway)
    finally:
        gateway.remove()
        reference.terminate()
        reference.wait(timeout=20)
        errors.close()


@pytest.mark.parametrize("name", ANSWERED)
def test_same_predictions_as_mlflow(servers: Servers, name: str) -> None:
    """The gateway gives the predictions of MLflow's own server, and the log has one row for each, with all columns."""
    reference, ours = servers.ask_both(ANSWERED[name])

    assert (reference.status_code, ours.status_code) == (200, 200), (reference.text, ours.text)
    assert _predictions(ours) == _predictions(reference)
    rows = logged(servers.process, ours.headers["X-Request-Id"], ANSWERED[name].model)
    assert len(rows) == len(ours.json()["predictions"])


@pytest.mark.parametrize("name", REFUSED)
def test_same_refusals_as_mlflow(servers: Servers, name: str) -> None:
    """What MLflow's own server refuses as a bad request, the gateway refuses as one too, and repeats nothing of it."""
    reference, ours = servers.ask_both(REFUSED[name])

    assert reference.status_code // 100 == ours.status_code // 100 == 4, (reference.text, ours.text)
    assert ours.json().keys() == {"error_code", "message"}
    assert "Traceback" not in ours.text


@pytest.mark.parametrize("reason", DIFFERENCES)
def test_differences_from_mlflow(servers: Servers, reason: str) -> None:
    """Where the gateway answers otherwise than MLflow's own server, there is a reason."""
    asked, theirs, ours = DIFFERENCES[reason]
    answers = servers.ask_both(asked)

    assert tuple(answer.status_code for answer in answers) == (theirs, ours), [answer.text for answer in answers]


def test_no_request_spoils_the_log(servers: Servers) -> None:
    """Whatever callers put into text, names and extra columns, the log can be read, and is compacted as a whole."""
    nested: Any = 1
    for _ in range(490):
        nested = [nested]
    odd = {"deep": nested, "empty": {}, "list": [{}], "half": "\ud800", "\ud800": 1, "big": 2**70, "none": None}
    _, ours = servers.ask_both(records(row(**odd), row(**dict.fromkeys(odd, "text"))))
    assert ours.status_code == 200

    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert servers.gateway.post("/control/log/flush", headers=headers).json()["segments"] > 0
    assert list(servers.process.log.glob("*/segments/*")) == []
    rows = logged(servers.process, ours.headers["X-Request-Id"], "mixed")
    assert list(rows["c"]) == ["AA", "AA"]
    assert set(rows["big"]) == {str(2**70), "text"}


def _listens(client: httpx.Client) -> bool:
    try:
        return client.get("/1/ping").is_success
    except httpx.TransportError:
        return False


def _predictions(answer: httpx.Response) -> str:
    """Return the predictions as text, in which NaN equals NaN, and 1 is not 1.0."""
    return json.dumps(answer.json()["predictions"])
