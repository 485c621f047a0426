"""What survives: killed gateways, killed scorers, full queues, and an orderly stop."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pandas as pd
import pytest

from taxiway.adapters.gateway_target import GatewayTarget
from taxiway.domain.values import TrafficPlan
from tests.gateway_models import SLOW, STARTED, tiny_models
from tests.gateway_process import TOKEN, Publisher, Start, gateways, logged, wait_until

pytestmark = pytest.mark.timeout(600)  # the first test may have to build the models' environment
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> Publisher:
    models = tiny_models(tmp_path_factory.getbasetemp())
    return Publisher(tmp_path_factory.mktemp("registry"), models, keys[0])


@pytest.fixture(scope="module")
def start(publisher: Publisher, keys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with gateways(publisher, keys, tmp_path_factory) as start:
        yield start


@pytest.fixture
def model() -> str:
    return f"model_{uuid.uuid4().hex[:12]}"


def test_hard_kill_loses_nothing(start: Start, publisher: Publisher, model: str) -> None:
    """A row is in the log though the gateway is killed right after the answer; the next one serves on by itself."""
    gateway = start()
    release = publisher.release(model, 1)
    target = GatewayTarget(gateway.url, TOKEN)
    target.deploy(release)
    target.set_traffic(model, TrafficPlan(stable=1))
    answered = target.predict(model, _frame()).request_id
    gateway.stop(signal.SIGKILL)

    assert list(logged(gateway, answered, model)["key"]) == ["k1", "k2"]
    wait_until(lambda: gateway.scorers() == [])

    publisher.run_of(model, 1).rename(publisher.run_of(model, 99))  # the registry is gone
    gateway.start()
    assert target.predict(model, _frame()).version == 1
    assert target.status(model).plan == TrafficPlan(stable=1)
    wait_until(lambda: list((gateway.log / model / "date=2013-02-01").glob("*.parquet")))
    assert list(logged(gateway, answered, model)["key"]) == ["k1", "k2"]

    _tamper(gateway.home / "versions" / model / "1" / "model" / "MLmodel")
    assert gateway.stop(signal.SIGTERM) == 0
    gateway.start()
    wait_until(lambda: target.status(model).versions[0].state == "failed")
    body = json.dumps({"inputs": {"x": [1.0], "y": [2.0]}})
    refused = httpx.post(f"{gateway.url}/models/{model}/invocations", content=body, headers=JSON, trust_env=False)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")

    publisher.run_of(model, 99).rename(publisher.run_of(model, 1))
    target.deploy(release)  # the same call again repairs it
    assert target.predict(model, _frame()).version == 1


def test_orderly_stop_compacts_the_log(start: Start, publisher: Publisher, model: str) -> None:
    """SIGTERM ends the gateway with code 0; the log is Parquet by event date and no scorer is left."""
    gateway = start()
    target = GatewayTarget(gateway.url, TOKEN)
    target.deploy(publisher.release(model, 1))
    target.set_traffic(model, TrafficPlan(stable=1))
    answered = target.predict(model, _frame()).request_id

    assert gateway.stop(signal.SIGTERM) == 0

    assert gateway.scorers() == []
    assert gateway.workspaces() == []
    assert list(gateway.log.rglob("*.jsonl")) == []
    assert sorted(path.parent.name for path in gateway.log.rglob("*.parquet")) == ["date=2013-02-01", "date=2013-02-02"]
    assert list(logged(gateway, answered, model)["key"]) == ["k1", "k2"]


def test_slow_hanging_and_dying_model(start: Start, publisher: Publisher, model: str) -> None:
    """A busy model refuses more requests, one that hangs or dies is replaced and told of; a prediction may finish."""
    gateway = start("--queue", "2", "--predict-seconds", "15")
    target = GatewayTarget(gateway.url, TOKEN)
    target.deploy(publisher.release(model, SLOW))
    target.set_traffic(model, TrafficPlan(stable=SLOW))

    def ask(seconds: float) -> httpx.Response:
        body = json.dumps({"inputs": {"x": [seconds]}})
        url = f"{gateway.url}/models/{model}/invocations"
        return httpx.post(url, content=body, headers=JSON, trust_env=False, timeout=90)

    def recovered() -> bool:
        return ask(0).status_code == 200

    def how_it_ended() -> str:
        return target.status(model).versions[0].detail

    with ThreadPoolExecutor(6) as callers:
        answers = list(callers.map(ask, [1.0] * 6))
        assert {answer.status_code for answer in answers} == {200, 429}
        assert {answer.headers.get("Retry-After") for answer in answers if answer.status_code == 429} == {"1"}

        assert "in time" in ask(1000).json()["message"]
        wait_until(recovered)
        assert "it answered nobody within 0:00:15" in how_it_ended()
        assert ask(-1).status_code == 503
        wait_until(recovered)
        assert "the scorer died (exit code 1)" in how_it_ended()

        assert gateway.in_places(STARTED) == []
        begun = callers.submit(ask, 2.0)
        wait_until(lambda: gateway.in_places(STARTED))
        assert gateway.stop(signal.SIGTERM) == 0
        assert begun.result().json() == {"predictions": [2.0]}


def _frame() -> pd.DataFrame:
    times = pd.to_datetime(["2013-02-01T10:00:00", "2013-02-02T10:00:00"])
    return pd.DataFrame({"id": ["k1", "k2"], "at": times, "x": [1.0, 2.0], "y": [2.0, 0.5]})


def _tamper(path: Path) -> None:
    with path.open("a") as file:
        file.write("\n# harmless\n")
