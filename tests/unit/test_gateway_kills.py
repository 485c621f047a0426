"""Killed under traffic, with every kind of plan: the plan stands, what was answered is logged once, nothing is left."""

from __future__ import annotations

import json
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pandas as pd
import pytest

from taxiway.adapters.gateway_target import GatewayTarget
from taxiway.adapters.prediction_log import ParquetPredictionLog
from taxiway.domain.values import TrafficPlan, Window
from tests.gateway_models import tiny_models
from tests.gateway_process import TOKEN, GatewayProcess, Publisher, gateways, wait_until

pytestmark = pytest.mark.timeout(600)  # the first test may have to build the models' environment
MODEL = "flights"
ENOUGH = 10  # answers
PLANS = {
    "champion": TrafficPlan(stable=1),
    "shadow": TrafficPlan(stable=1, shadow=2),
    "canary": TrafficPlan(stable=1, challenger=2, challenger_percent=50),
}


@pytest.fixture(scope="module")
def gateway(keys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with two versions of MODEL."""
    models = tiny_models(tmp_path_factory.getbasetemp())
    publisher = Publisher(tmp_path_factory.mktemp("registry"), models, keys[0])
    with gateways(publisher, keys, tmp_path_factory) as start:
        process = start()
        for version in (1, 2):
            GatewayTarget(process.url, TOKEN).deploy(publisher.release(MODEL, version))
        yield process


class Traffic:
    """A caller that never stops asking; each request has an id of its own."""

    def __init__(self, url: str) -> None:
        self.statuses: dict[str, int] = {}
        self.lost = 0
        self.stopping = threading.Event()
        self._url = f"{url}/models/{MODEL}/invocations"

    @property
    def answered(self) -> list[str]:
        """The requests that got predictions."""
        return [name for name, status in list(self.statuses.items()) if status == httpx.codes.OK]

    def run(self) -> None:
        """Ask until told to stop."""
        with httpx.Client(trust_env=False, timeout=90) as http:
            while not self.stopping.is_set():
                name = uuid.uuid4().hex
                body = {"dataframe_records": [{"id": name, "at": "2013-02-01T10:00:00", "x": 1.0, "y": 2.0}]}
                headers = {"Content-Type": "application/json", "X-Request-Id": name}
                try:
                    self.statuses[name] = http.post(self._url, content=json.dumps(body), headers=headers).status_code
                except httpx.TransportError:
                    self.lost += 1
                    self.stopping.wait(0.1)  # nobody listens for a while


@contextmanager
def traffic(gateway: GatewayProcess) -> Iterator[Traffic]:
    """Yield a caller that asks during the block, and has been answered before it begins and again at its end."""
    caller = Traffic(gateway.url)
    threads = [threading.Thread(target=caller.run) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(caller.answered) >= ENOUGH)
        yield caller
        before = len(caller.answered)
        wait_until(lambda: len(caller.answered) >= before + ENOUGH, seconds=120)
    finally:
        caller.stopping.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("kind", PLANS)
def test_killed_scorer_loses_no_request(gateway: GatewayProcess, kind: str) -> None:
    """A scorer that is killed costs no caller an answer, whatever its part in the plan."""
    _begin(gateway, kind)
    with traffic(gateway) as caller:
        for process in gateway.scorers(f"{MODEL}/{1 if kind == 'champion' else 2}/"):
            os.kill(process, signal.SIGKILL)

    assert (set(caller.statuses.values()), caller.lost) == ({200}, 0)
    _check(gateway, kind, caller)


@pytest.mark.parametrize("kind", PLANS)
def test_killed_gateway_comes_back_as_it_was(gateway: GatewayProcess, kind: str) -> None:
    """Its scorers die with it; the next process serves the same plan, and every answer of both is in the log once."""
    _begin(gateway, kind)
    with traffic(gateway) as caller:
        gateway.stop(signal.SIGKILL)
        wait_until(lambda: gateway.scorers() == [])
        gateway.start()

    assert set(caller.statuses.values()) <= {200, 503}
    assert len(gateway.workspaces()) == 1
    _check(gateway, kind, caller)


def test_stopped_gateway_leaves_nothing(gateway: GatewayProcess) -> None:
    """After all of it, an orderly stop leaves no process and no directory."""
    assert gateway.stop() == 0
    assert (gateway.scorers(), gateway.workspaces()) == ([], [])


def _begin(gateway: GatewayProcess, kind: str) -> None:
    target = GatewayTarget(gateway.url, TOKEN)
    wait_until(lambda: {version.state for version in target.status(MODEL).versions} == {"ready"}, seconds=120)
    target.set_traffic(MODEL, PLANS[kind])


def _check(gateway: GatewayProcess, kind: str, caller: Traffic) -> None:
    """The plan stands; each answered request is in the log once for who answered, and once at most for the shadow."""
    wait_until(lambda: httpx.get(f"{gateway.url}/readyz", trust_env=False).status_code == httpx.codes.OK)
    assert GatewayTarget(gateway.url, TOKEN).status(MODEL).plan == PLANS[kind]
    log = _log(gateway)
    log = log[log["request_id"].isin(caller.answered)]
    shadows = log["role"] == "shadow"
    assert sorted(log[~shadows]["request_id"]) == sorted(caller.answered)
    assert log[shadows]["request_id"].is_unique
    assert set(log["role"]) == {"champion", kind}


def _log(gateway: GatewayProcess) -> pd.DataFrame:
    always = Window(datetime(2000, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1))
    return ParquetPredictionLog(gateway.log).read(MODEL, always)
