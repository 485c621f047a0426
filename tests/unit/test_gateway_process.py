"""The gateway as a process: what callers see over HTTP, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from taxiway.adapters.gateway_target import GatewayTarget
from taxiway.domain.values import TrafficPlan
from taxiway.errors import DeliveryStopped, IntegrityError, NotFoundError
from tests.gateway_models import DOES_NOT_LOAD, NEEDS_Z, tiny_models
from tests.gateway_process import (
    MAX_REQUEST_BYTES,
    TOKEN,
    GatewayProcess,
    Publisher,
    Start,
    gateways,
    logged,
    wait_until,
)

pytestmark = pytest.mark.timeout(600)  # the first test may have to build the models' environment
JSON = {"Content-Type": "application/json"}
MODEL = "flights"


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> Publisher:
    models = tiny_models(tmp_path_factory.getbasetemp())
    return Publisher(tmp_path_factory.mktemp("registry"), models, keys[0])


@pytest.fixture(scope="module")
def start(publisher: Publisher, keys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with gateways(publisher, keys, tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="module")
def gateway(start: Start, publisher: Publisher) -> GatewayProcess:
    """A gateway that serves version 1 of MODEL, with 2 and the one that fails ready; tests set the traffic."""
    process = start()
    target = GatewayTarget(process.url, TOKEN)
    for version in (1, 2, NEEDS_Z):
        target.deploy(publisher.release(MODEL, version))
    return process


@pytest.fixture
def target(gateway: GatewayProcess) -> GatewayTarget:
    target = GatewayTarget(gateway.url, TOKEN)
    target.set_traffic(MODEL, TrafficPlan(stable=1))
    return target


@pytest.fixture
def model() -> str:
    return f"model_{uuid.uuid4().hex[:12]}"


# What callers see


def test_answer_names_version_and_request(gateway: GatewayProcess, target: GatewayTarget) -> None:
    """An answer says which version gave it, and carries the caller's request id."""
    answer = _ask(gateway, request_id="caller-1")

    assert (answer.status_code, answer.json()) == (200, {"predictions": [pytest.approx(3.0)]})
    assert answer.headers["X-Taxiway-Model-Version"] == "1"
    assert answer.headers["X-Request-Id"] == "caller-1"


def test_every_form_of_the_protocol(gateway: GatewayProcess, target: GatewayTarget) -> None:
    """All of MLflow's request forms get the same answer."""
    row = {"x": 1.0, "y": 2.0}
    documents: list[dict[str, Any]] = [
        {"dataframe_records": [row]},
        {"instances": [row]},
        {"inputs": {"x": [1.0], "y": [2.0]}},
    ]
    answers = [_post(gateway, json.dumps(document)) for document in documents]
    answers.append(_post(gateway, "x,y\n1.0,2.0\n", {"Content-Type": "text/csv; charset=utf-8"}))

    assert [answer.status_code for answer in answers] == [200] * 4
    assert {round(answer.json()["predictions"][0], 6) for answer in answers} == {3.0}


def test_request_id_decides_the_side(gateway: GatewayProcess, target: GatewayTarget) -> None:
    """The same caller always meets the same version, and a larger share moves callers in one direction only."""
    names = [f"caller-{number}" for number in range(40)]
    sides = []
    for percent in (30, 30, 60):
        target.set_traffic(MODEL, TrafficPlan(stable=1, challenger=2, challenger_percent=percent))
        sides.append([_ask(gateway, name).headers["X-Taxiway-Model-Version"] for name in names])

    assert sides[0] == sides[1]
    assert set(sides[0]) == {"1", "2"}
    assert all(later >= earlier for earlier, later in zip(sides[0], sides[2], strict=True))
    assert sides[2].count("2") > sides[0].count("2")


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ('{"dataframe_split": secret', JSON, 400),
        ('{"secret": 1}', JSON, 400),
        ('{"dataframe_records": [{"x": 1, "secret": 2}]}', JSON, 400),
        ('{"dataframe_records": [{"x": "secret", "y": 2}]}', JSON, 400),
        ('{"dataframe_records": [{"x": null, "y": 2, "note": "secret"}]}', JSON, 400),
        ("secret", {"Content-Type": "text/plain"}, 415),
        ("secret", JSON | {"Content-Type": "application/json; charset=latin-1"}, 415),
        ("secret", JSON | {"X-Request-Id": "two words"}, 400),
        ("s" * (MAX_REQUEST_BYTES + 1), JSON, 413),
    ],
)
def test_bad_requests_are_refused_without_repeating_them(
    gateway: GatewayProcess, target: GatewayTarget, body: str, headers: dict[str, str], status: int
) -> None:
    """What cannot be answered gets MLflow's kind of error, with no stack trace and nothing of the request."""
    answer = _post(gateway, body, headers)

    assert answer.status_code == status
    assert set(answer.json()) == {"error_code", "message"}
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_unknown_addresses(gateway: GatewayProcess) -> None:
    """A model that is not served, and a name that no model can have, are not found."""
    for name in ("unknown", "Not-A-Model", "..%2fcontrol"):
        answer = httpx.post(f"{gateway.url}/models/{name}/invocations", content="{}", headers=JSON, trust_env=False)
        assert answer.status_code in (400, 404)
    with pytest.raises(NotFoundError, match="not served"):
        GatewayTarget(gateway.url, TOKEN).predict("unknown", _frame())


def test_control_path_wants_the_token(gateway: GatewayProcess) -> None:
    """Without the token nothing can be seen or changed on the control path."""
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
        answer = httpx.get(f"{gateway.url}/control/models/{MODEL}", headers=headers, trust_env=False)
        assert answer.status_code == 401


def test_shadow_is_logged_in_its_role(gateway: GatewayProcess, target: GatewayTarget) -> None:
    """Each request that a shadow copied is in the log twice: as champion and as shadow."""
    target.set_traffic(MODEL, TrafficPlan(stable=1, shadow=2))
    name = uuid.uuid4().hex
    _ask(gateway, name)

    wait_until(lambda: len(logged(gateway, name, MODEL)) == 2)
    rows = logged(gateway, name, MODEL)
    assert sorted(zip(rows["role"], rows["version"], strict=True)) == [("champion", 1), ("shadow", 2)]


def test_metrics(gateway: GatewayProcess, target: GatewayTarget) -> None:
    """Prometheus finds requests per version."""
    _ask(gateway)
    text = httpx.get(f"{gateway.url}/metrics", trust_env=False).text

    assert f'taxiway_requests_total{{model="{MODEL}",version="1",role="champion",outcome="ok"}}' in text
    assert f'taxiway_scorer_starts_total{{model="{MODEL}",version="2"}} 1' in text


def test_flush_turns_the_log_into_parquet(gateway: GatewayProcess, target: GatewayTarget) -> None:
    """After a flush the rows that were logged so far are in Parquet, once."""
    name = uuid.uuid4().hex
    _ask(gateway, name)
    answer = httpx.post(
        f"{gateway.url}/control/log/flush", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
    )

    assert answer.json()["segments"] >= 1
    assert list((gateway.log / MODEL / "segments").iterdir()) == []
    assert len(logged(gateway, name, MODEL)) == 1


# What it refuses to serve


def test_changed_model_is_refused(gateway: GatewayProcess, publisher: Publisher, model: str) -> None:
    """One changed byte after signing, and the version is not loaded."""
    release = publisher.release(model, 1)
    with (publisher.run_of(model, 1) / "model" / "MLmodel").open("a") as file:
        file.write("\n# harmless\n")

    _refused(gateway, release, "digest")


def test_changed_model_with_a_matching_digest_is_refused(
    gateway: GatewayProcess, publisher: Publisher, model: str
) -> None:
    """The signature counts, not only the digest: files of another version under this one's signature are refused."""
    release = publisher.release(model, 2)
    other = publisher.release(model, 1)
    shutil.copyfile(
        publisher.run_of(model, 1) / "taxiway" / "model.sig", publisher.run_of(model, 2) / "taxiway" / "model.sig"
    )

    assert other.digest != release.digest
    _refused(gateway, release, "signature")


def test_unsigned_model_is_refused(gateway: GatewayProcess, publisher: Publisher, model: str) -> None:
    """A model without a signature is not loaded."""
    release = publisher.release(model, 1)
    (publisher.run_of(model, 1) / "taxiway" / "model.sig").unlink()

    _refused(gateway, release, "not signed")


def test_changed_lock_is_refused(gateway: GatewayProcess, publisher: Publisher, model: str) -> None:
    """Other packages than those that were approved are not installed."""
    release = publisher.release(model, 1)
    (publisher.run_of(model, 1) / "taxiway" / "requirements.txt").write_text("something-else==1.0\n")

    _refused(gateway, release, "lock")


def test_version_that_is_gone_from_the_registry(gateway: GatewayProcess, publisher: Publisher, model: str) -> None:
    """A version whose files do not exist is not found, and leaves nothing behind."""
    release = publisher.release(model, 1)
    shutil.rmtree(publisher.run_of(model, 1))

    with pytest.raises(NotFoundError):
        GatewayTarget(gateway.url, TOKEN).deploy(release)


def test_version_that_does_not_load(gateway: GatewayProcess, publisher: Publisher, model: str) -> None:
    """A signed model that cannot be loaded is refused with what its library said, and leaves nothing behind."""
    target = GatewayTarget(gateway.url, TOKEN)
    with pytest.raises(DeliveryStopped, match=r"ended while it loaded the model: .*Error"):
        target.deploy(publisher.release(model, DOES_NOT_LOAD))

    assert target.status(model).versions == ()
    assert not (gateway.home / "versions" / model / str(DOES_NOT_LOAD)).exists()


def test_release_for_another_address(gateway: GatewayProcess, publisher: Publisher, model: str) -> None:
    """A release can only be put where it says it belongs."""
    body = publisher.release(model, 1).to_json()
    for path, document in ((f"{model}/versions/2", body), (f"{model}/versions/1", {"model": model})):
        answer = httpx.put(
            f"{gateway.url}/control/models/{path}",
            json=document,
            headers={"Authorization": f"Bearer {TOKEN}"},
            trust_env=False,
        )
        assert answer.status_code == 400
        assert set(answer.json()) == {"error", "where", "next"}


# What it looks after


def test_killed_scorer_is_started_again(gateway: GatewayProcess, target: GatewayTarget) -> None:
    """When a scorer dies, the next request waits for its successor and is answered."""
    before = set(gateway.scorers())
    for process in before:
        os.kill(process, signal.SIGKILL)

    assert _ask(gateway).status_code == 200
    wait_until(lambda: len(gateway.scorers()) == len(before), seconds=120)
    assert before.isdisjoint(gateway.scorers())
    wait_until(lambda: {item.state for item in target.status(MODEL).versions} == {"ready"}, seconds=120)


def test_second_gateway_of_an_environment_is_refused(gateway: GatewayProcess) -> None:
    """Two processes cannot write one environment's state: the second says so and ends."""
    assert gateway.run_another() != 0
    assert "another gateway serves this environment" in (gateway.home / "gateway.log").read_text()


def _frame() -> pd.DataFrame:
    times = pd.to_datetime(["2013-02-01T10:00:00", "2013-02-02T10:00:00"])
    return pd.DataFrame({"id": ["k1", "k2"], "at": times, "x": [1.0, 2.0], "y": [2.0, 0.5]})


def _body() -> str:
    return json.dumps({"dataframe_records": [{"id": "k", "at": "2013-02-01T10:00:00", "x": 1.0, "y": 2.0}]})


def _post(gateway: GatewayProcess, body: str, headers: dict[str, str] = JSON) -> httpx.Response:
    return httpx.post(
        f"{gateway.url}/models/{MODEL}/invocations", content=body, headers=headers, trust_env=False, timeout=60
    )


def _ask(gateway: GatewayProcess, request_id: str = "anybody") -> httpx.Response:
    return _post(gateway, _body(), JSON | {"X-Request-Id": request_id})


def _refused(gateway: GatewayProcess, release: Any, reason: str) -> None:
    target = GatewayTarget(gateway.url, TOKEN)
    with pytest.raises(IntegrityError, match=reason):
        target.deploy(release)
    assert target.status(release.model).versions == ()
