"""A gateway under the supervisor and under load, while its process is exchanged, killed and ended."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from taxiway.adapters.gateway_target import GatewayTarget
from taxiway.domain.values import TrafficPlan
from taxiway.errors import SettingsError
from taxiway.supervisor.installation import Installation
from taxiway.supervisor.launch import reload
from taxiway.supervisor.processes import MARK
from taxiway.supervisor.programs import Probe, Program
from taxiway.supervisor.runner import Supervisor
from taxiway.supervisor.state import ProgramState, supervisor_lock
from taxiway.traffic.pace import Answer, Batch, Pace, send
from tests.conftest import free_port
from tests.gateway_process import PROJECT, TOKEN, Publisher, tiny_models

pytestmark = pytest.mark.timeout(600)  # it may have to build the models' environment
MODEL, NAME, CONNECTIONS = "reloaded", "gateway-staging", 4
BODY = json.dumps({"dataframe_split": {"columns": ["x", "y"], "data": [[1.0, 2.0]]}}).encode()
PATIENCE = 120.0


@dataclass
class World:
    """A supervised gateway: its state as the supervisor tells it, and every answer of the load."""

    installation: Installation
    port: int
    gateway: ProgramState = field(default_factory=ProgramState)
    answers: list[Answer] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ready_after(self, pid: int | None) -> None:
        """Wait until another process than this one is ready."""
        async with asyncio.timeout(PATIENCE):
            while self.gateway.phase != "ready" or self.gateway.pid == pid:
                self.news.clear()
                await self.news.wait()

    async def answered(self, more: int) -> None:
        """Wait until the load has so many more good answers."""
        wanted = self.good + more
        async with asyncio.timeout(PATIENCE):
            while self.good < wanted:
                self.news.clear()
                await self.news.wait()

    def hear(self, answer: Answer) -> None:
        self.answers.append(answer)
        self.news.set()

    @property
    def good(self) -> int:
        return sum(answer.outcome == "200" for answer in self.answers)

    @property
    def failed(self) -> list[str]:
        return [answer.outcome for answer in self.answers if answer.outcome != "200"]


@asynccontextmanager
async def supervised(home: Path, registry: Path, verify_key: Path) -> AsyncIterator[World]:
    """Supervise a gateway in this process."""
    installation, port = Installation.load(home), free_port()
    world = World(installation, port)
    command = (sys.executable, "-m", "tests.gateway_process", "--home", str(home / "gateway"))
    environment = {**os.environ, MARK: str(home), "PYTHONPATH": f"{PROJECT / 'include'}{os.pathsep}{PROJECT}"}
    program = Program(
        NAME,
        (*command, "--registry", str(registry), "--verify-key", str(verify_key)),
        environment,
        probe=Probe(f"{world.url}/healthz"),
        grace=30.0,
        port=port,
    )

    def hear(state: object) -> None:
        world.gateway = state.programs.get(NAME, world.gateway)  # type: ignore[attr-defined]
        world.news.set()

    with supervisor_lock(installation.run):
        running = asyncio.create_task(Supervisor(installation, hear).run([program]))
        try:
            await world.ready_after(None)
            yield world
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await running


@asynccontextmanager
async def load(world: World) -> AsyncIterator[None]:
    """Send requests all the time."""
    stop = asyncio.Event()
    url, batches = f"{world.url}/models/{MODEL}/invocations", itertools.repeat(Batch(BODY, 1))
    sending = asyncio.create_task(send(url, batches, Pace(20, CONNECTIONS), world.hear, stop))
    try:
        await world.answered(5)
        yield
    finally:
        stop.set()
        await sending


async def test_exchange_kill_and_end(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]
) -> None:
    """A reload fails no request; a kill fails those in flight only; what begins before the end is answered."""
    publisher = Publisher(tmp_path / "registry", tiny_models(tmp_path_factory.getbasetemp()), keys[0])
    async with supervised(tmp_path / "home", publisher.registry, keys[1]) as world:
        target = GatewayTarget(world.url, TOKEN)
        await asyncio.to_thread(target.deploy, publisher.release(MODEL, 1))
        await asyncio.to_thread(target.set_traffic, MODEL, TrafficPlan(stable=1))
        idle = httpx.AsyncClient(base_url=world.url, trust_env=False)
        assert (await idle.get("/healthz")).is_success

        async with load(world):
            for _ in range(2):
                before = world.gateway.pid
                await asyncio.to_thread(reload, world.installation, "staging")
                assert world.gateway.pid != before
                await world.answered(5)
            assert (world.failed, world.gateway.restarts) == ([], 0)
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
