"""Scorers of the real gateway with hostile models: what they see, and what happens when they take too much."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from taxiway.adapters.gateway_target import GatewayTarget
from taxiway.domain.values import TrafficPlan, VersionStatus
from taxiway.gateway.config import Config
from taxiway.gateway.scorers import Scorer
from taxiway.stages import bubblewrap
from tests.gateway_models import HUNGRY, SPY, tiny_models
from tests.gateway_process import TOKEN, GatewayProcess, Publisher, gateways, wait_until

pytestmark = pytest.mark.timeout(600)  # the first test may have to build the models' environment
MEMORY_MB = 700
MODEL = "flights"


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> Publisher:
    models = tiny_models(tmp_path_factory.getbasetemp())
    return Publisher(tmp_path_factory.mktemp("registry"), models, keys[0])


@pytest.fixture(scope="module")
def gateway(
    publisher: Publisher, keys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """A gateway with little memory for its scorers, where version 1 of MODEL answers."""
    with gateways(publisher, keys, tmp_path_factory) as start:
        process = start("--memory-mb", str(MEMORY_MB))
        target = GatewayTarget(process.url, TOKEN)
        target.deploy(publisher.release(MODEL, 1))
        target.set_traffic(MODEL, TrafficPlan(stable=1))
        yield process


@pytest.mark.skipif(bubblewrap.problem() is not None, reason=str(bubblewrap.problem()))
def test_a_scorer_sees_only_its_own(gateway: GatewayProcess, publisher: Publisher) -> None:
    """No state, key, other version, workspace, process or network for a hostile model, at load and at predict."""
    model = f"spy_{uuid.uuid4().hex[:8]}"
    target = GatewayTarget(gateway.url, TOKEN)
    target.deploy(publisher.release(model, SPY))
    target.set_traffic(model, TrafficPlan(stable=SPY))

    answer = _ask(gateway, model, float(gateway.port))

    assert answer.json() == {"predictions": ["[]"]}


def test_without_bubblewrap_it_serves_and_ends_all_the_same(
    publisher: Publisher, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """Where the fence is missing the same model finds what it looks for; a killed gateway takes it along there too."""
    process = GatewayProcess(tmp_path, publisher.registry, keys[1])
    process.variables["PATH"] = "/nowhere"
    try:
        process.start()
        target = GatewayTarget(process.url, TOKEN)
        target.deploy(publisher.release("open", SPY))
        target.set_traffic("open", TrafficPlan(stable=SPY))
        found = _ask(process, "open", float(process.port)).json()["predictions"][0]
        process.stop(signal.SIGKILL)
        wait_until(lambda: process.scorers() == [])
    finally:
        process.remove()

    assert {
        name for name in ("state", "gateway", "signature", "network", "processes") if f"'{name}'" not in found
    } == set()
    assert "'token'" not in found


def test_a_hungry_version_is_killed_and_the_champion_answers(gateway: GatewayProcess, publisher: Publisher) -> None:
    """As shadow and as canary it is killed at its limit, says so, and starts again; callers see the champion."""
    target = GatewayTarget(gateway.url, TOKEN)
    target.deploy(publisher.release(MODEL, HUNGRY))
    for plan in (
        TrafficPlan(stable=1, shadow=HUNGRY),
        TrafficPlan(stable=1, challenger=HUNGRY, challenger_percent=100),
    ):
        wait_until(lambda: _hungry(target).state == "ready", seconds=120)
        target.set_traffic(MODEL, plan)
        before = _starts(gateway)

        answers = [_ask(gateway, MODEL, 2.0 * MEMORY_MB)]
        wait_until(lambda before=before: _starts(gateway) > before, seconds=60)  # type: ignore[misc]
        answers += [_ask(gateway, MODEL, 1.0) for _ in range(3)]

        assert [answer.status_code for answer in answers] == [200] * 4
        assert answers[0].headers["X-Taxiway-Model-Version"] == "1"
        assert f"memory limit of {MEMORY_MB} MB" in _hungry(target).detail


def test_a_scorer_that_is_stopped_before_its_process_runs_does_not_wait_for_it(tmp_path: Path) -> None:
    """A process that would load for ever is ended at once, also when the order to stop came before its launch."""
    hanging = tmp_path / "hanging"
    hanging.write_text("#!/bin/sh\nsleep 3600\n")
    hanging.chmod(0o755)

    async def stopped_while_it_prepares() -> None:
        asked, verified = asyncio.Event(), asyncio.Event()

        async def prepare() -> Path:
            asked.set()
            await verified.wait()
            return hanging

        config = Config("staging", tmp_path, tmp_path, "token", drain_timeout=timedelta(hours=1))
        scorer = Scorer("flights version 1", tmp_path, prepare=prepare, place=tmp_path, config=config)
        await asked.wait()
        stopping = asyncio.create_task(scorer.stop())
        await asyncio.sleep(0)  # it begins
        verified.set()
        await asyncio.wait_for(stopping, timeout=30)
        assert scorer.starts == 1

    asyncio.run(stopped_while_it_prepares())


def _ask(gateway: GatewayProcess, model: str, x: float) -> httpx.Response:
    return httpx.post(
        f"{gateway.url}/models/{model}/invocations",
        content=json.dumps({"dataframe_records": [{"id": "k", "at": "2013-02-01T10:00:00", "x": x, "y": 0.0}]}),
        headers={"Content-Type": "application/json"},
        trust_env=False,
        timeout=90,
    )


def _hungry(target: GatewayTarget) -> VersionStatus:
    return next(version for version in target.status(MODEL).versions if version.version == HUNGRY)


def _starts(gateway: GatewayProcess) -> int:
    text = httpx.get(f"{gateway.url}/metrics", trust_env=False).text
    name = f'taxiway_scorer_starts_total{{model="{MODEL}",version="{HUNGRY}"}} '
    return int(next(line.removeprefix(name) for line in text.splitlines() if line.startswith(name)))
