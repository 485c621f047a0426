"""A real gateway under a real supervisor, and callers that never stop.

python -m tests.supervised_gateway HOME REGISTRY VERIFY_KEY PORT supervises one until it is ended.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from taxiway.supervisor.installation import Installation
from taxiway.supervisor.processes import MARK
from taxiway.supervisor.programs import Probe, Program
from taxiway.supervisor.runner import Supervisor
from taxiway.supervisor.state import ProgramState, supervisor_lock
from taxiway.traffic.pace import Answer, Batch, Pace, send
from tests.conftest import free_port
from tests.gateway_models import PROJECT

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
        await self.until(lambda gateway: gateway.phase == "ready" and gateway.pid != pid)

    async def until(self, condition: Callable[[ProgramState], bool]) -> None:
        """Wait until the supervisor says that about the gateway."""
        async with asyncio.timeout(PATIENCE):
            while not condition(self.gateway):
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
async def supervised(home: Path, registry: Path, verify_key: Path, port: int | None = None) -> AsyncIterator[World]:
    """Supervise a gateway in this process."""
    installation, port = Installation.load(home), port or free_port()
    world = World(installation, port)
    command = (sys.executable, "-m", "tests.gateway_process", "--home", str(home / "gateway"))
    (home / "gateway").mkdir(parents=True, exist_ok=True)
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
    """Send requests all the time during the block."""
    stop = asyncio.Event()
    url, batches = f"{world.url}/models/{MODEL}/invocations", itertools.repeat(Batch(BODY, 1))
    sending = asyncio.create_task(send(url, batches, Pace(20, CONNECTIONS), world.hear, stop))
    try:
        await world.answered(5)
        yield
    finally:
        stop.set()
        await sending


async def main(home: str, registry: str, verify_key: str, port: str) -> None:
    """Supervise a gateway until this process is ended."""
    async with supervised(Path(home), Path(registry), Path(verify_key), int(port)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
