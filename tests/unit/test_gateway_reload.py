"""A gateway under the supervisor and under load, while its process is exchanged, killed and ended."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest

from taxiway.adapters.gateway_target import GatewayTarget
from taxiway.domain.values import TrafficPlan
from taxiway.errors import SettingsError
from taxiway.supervisor.launch import reload
from tests.gateway_models import LATE, LOAD_SECONDS, tiny_models
from tests.gateway_process import TOKEN, Publisher
from tests.supervised_gateway import CONNECTIONS, MODEL, load, supervised

pytestmark = pytest.mark.timeout(600)  # it may have to build the models' environment


async def test_exchange_kill_and_end(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]
) -> None:
    """A reload fails no request and nobody waits until the model is loaded; a kill fails those in flight only."""
    publisher = Publisher(tmp_path / "registry", tiny_models(tmp_path_factory.getbasetemp()), keys[0])
    async with supervised(tmp_path / "home", publisher.registry, keys[1]) as world:
        target = GatewayTarget(world.url, TOKEN)
        await asyncio.to_thread(target.deploy, publisher.release(MODEL, LATE))
        await asyncio.to_thread(target.set_traffic, MODEL, TrafficPlan(stable=LATE))
        idle = httpx.AsyncClient(base_url=world.url, trust_env=False)
        assert (await idle.get("/healthz")).is_success

        async with load(world):
            for _ in range(2):
                before = world.gateway.pid
                await asyncio.to_thread(reload, world.installation, "staging")
                assert world.gateway.pid != before
                await world.answered(5)
            assert (world.failed, world.gateway.restarts) == ([], 0)
            assert max(answer.seconds for answer in world.answers) < LOAD_SECONDS / 2
            assert (await idle.get("/healthz")).is_success

            before = world.gateway.pid
            assert before is not None
            os.kill(before, signal.SIGKILL)
            await world.ready_after(before)
            await world.answered(5)
            assert len(world.failed) <= CONNECTIONS
            assert world.gateway.restarts == 1

        with pytest.raises(SettingsError, match="no gateway of 'nowhere'"):
            reload(world.installation, "nowhere")
        await idle.aclose()
    with pytest.raises(SettingsError, match="not up"):
        reload(world.installation, "staging")
