"""A successor beside the gateway that it shall replace: what changes meanwhile, and who dies when."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from taxiway.adapters.gateway_target import GatewayTarget
from taxiway.domain.values import TrafficPlan
from taxiway.errors import SettingsError, TargetUnavailable
from taxiway.supervisor.installation import Installation
from taxiway.supervisor.launch import reload
from taxiway.supervisor.orders import order_exchange
from taxiway.supervisor.processes import marked, sweep
from taxiway.supervisor.state import read_state
from tests.conftest import free_port
from tests.gateway_models import LATE, LATEST, PROJECT, tiny_models
from tests.gateway_process import TOKEN, Publisher, wait_until
from tests.supervised_gateway import MODEL, NAME, World, load, supervised

pytestmark = pytest.mark.timeout(600)  # it may have to build the models' environment
OTHER = "other"


@dataclass
class Place:
    """A supervised gateway that serves LATE, and how to change what it serves."""

    world: World
    publisher: Publisher
    target: GatewayTarget

    @property
    def pid(self) -> int:
        """The process that serves."""
        assert self.world.gateway.pid is not None
        return self.world.gateway.pid

    async def warming(self) -> int:
        """Order an exchange, and return the successor's pid as soon as there is one."""
        order_exchange(self.world.installation.run, NAME)
        await self.world.until(lambda gateway: gateway.beside is not None)
        assert self.world.gateway.beside is not None
        return self.world.gateway.beside

    async def over(self) -> str:
        """Wait until the exchange is over, and nothing is beside the gateway; return why it came to nothing."""
        await self.world.until(lambda gateway: gateway.exchanges > 0 and gateway.beside is None)
        return self.world.gateway.refusal

    async def deploy(self, model: str, version: int) -> None:
        await asyncio.to_thread(self.target.deploy, self.publisher.release(model, version))

    async def set_traffic(self, model: str, version: int) -> None:
        await asyncio.to_thread(self.target.set_traffic, model, TrafficPlan(stable=version))

    def gateways(self) -> set[int]:
        """Return the gateways that run: the programs of the supervisor, not what they start."""
        found = marked(self.world.installation.home)
        return {process.pid for process in found if "tests.gateway_process" in process.cmdline()}


@pytest.fixture
def publisher(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> Publisher:
    return Publisher(tmp_path / "registry", tiny_models(tmp_path_factory.getbasetemp()), keys[0])


@pytest.fixture
async def place(tmp_path: Path, publisher: Publisher, keys: tuple[Path, Path]) -> AsyncIterator[Place]:
    async with supervised(tmp_path / "home", publisher.registry, keys[1]) as world:
        place = Place(world, publisher, GatewayTarget(world.url, TOKEN))
        await place.deploy(MODEL, LATE)
        await place.set_traffic(MODEL, LATE)
        yield place


async def test_what_changes_meanwhile_is_served_by_the_successor(place: Place) -> None:
    """A version that comes, one that goes and a new plan, all while the successor loads, stand after the hand-over."""
    await place.deploy(MODEL, 2)
    async with load(place.world):
        await place.warming()
        await place.deploy(OTHER, 1)
        await place.set_traffic(OTHER, 1)
        await asyncio.to_thread(place.target.undeploy, MODEL, 2)
        await place.deploy(MODEL, 1)
        await place.set_traffic(MODEL, 1)
        assert place.world.gateway.exchanges == 0, "the successor was there before the changes"
        changed = len(place.world.answers)
        assert await place.over() == ""
        await place.world.answered(5)

    status = place.target.status(MODEL)
    assert status.plan == TrafficPlan(stable=1)
    assert {version.version for version in status.versions} == {1, LATE}
    assert place.target.status(OTHER).plan == TrafficPlan(stable=1)
    assert place.world.failed == []
    assert {answer.version for answer in place.world.answers[changed + 8 :]} == {1}
    versions = place.world.installation.home / "gateway" / "versions"
    assert sorted(path.name for path in (versions / MODEL).iterdir()) == ["1", str(LATE)]


async def test_a_deploy_that_is_not_done_in_time_is_to_be_repeated(place: Place) -> None:
    """What the old process gives up at the hand-over is refused for a moment only, and leaves nothing on the disk."""
    deploy = asyncio.create_task(place.deploy(OTHER, LATEST))
    versions = place.world.installation.home / "gateway" / "versions"
    await asyncio.to_thread(wait_until, (versions / OTHER / str(LATEST)).exists)

    await asyncio.to_thread(reload, place.world.installation, "staging")

    with pytest.raises(TargetUnavailable, match="being exchanged"):
        await deploy
    assert place.target.status(OTHER).versions == ()
    assert list((versions / OTHER).iterdir()) == []
    await place.deploy(OTHER, 1)
    assert [version.state for version in place.target.status(OTHER).versions] == ["ready"]


async def test_a_successor_that_dies_changes_nothing(place: Place) -> None:
    """The old process serves on without a failed request, nothing of the successor is left, and the next try works."""
    before = place.pid
    async with load(place.world):
        os.kill(await place.warming(), signal.SIGKILL)
        refusal = await place.over()
        await place.world.answered(5)

        assert "ended before it was warm; the old one serves on" in refusal
        assert (place.pid, place.gateways()) == (before, {before})
        await asyncio.to_thread(reload, place.world.installation, "staging")
        assert place.pid != before
        await place.world.answered(5)

    assert place.world.failed == []


async def test_a_successor_that_cannot_load_a_version_does_not_take_over(place: Place) -> None:
    """`reload` names what cannot be loaded and what to do, and the old process serves on."""
    before = place.pid
    model = place.world.installation.home / "gateway" / "versions" / MODEL / str(LATE) / "model" / "MLmodel"
    model.write_text(model.read_text() + "# changed")

    with pytest.raises(SettingsError, match=r"cannot be loaded.*digest.*serves on.*reload again"):
        await asyncio.to_thread(reload, place.world.installation, "staging")

    assert place.pid == before
    async with load(place.world):
        await place.world.answered(5)
    assert place.world.failed == []


async def test_the_old_process_dies_while_its_successor_loads(place: Place) -> None:
    """The successor takes over as soon as it is ready, and counts as a restart."""
    successor = await place.warming()
    os.kill(place.pid, signal.SIGKILL)

    assert await place.over() == ""
    assert (place.pid, place.world.gateway.restarts) == (successor, 1)
    async with load(place.world):
        await place.world.answered(5)
    assert place.gateways() == {successor}


async def test_down_in_the_middle_leaves_nothing(tmp_path: Path, publisher: Publisher, keys: tuple[Path, Path]) -> None:
    """A supervisor that is told to stop ends both processes."""
    async with supervised(tmp_path / "home", publisher.registry, keys[1]) as world:
        await Place(world, publisher, GatewayTarget(world.url, TOKEN)).warming()

    assert marked(tmp_path / "home") == []
    assert world.gateway.phase == "stopped"


def test_a_killed_supervisor_leaves_one_gateway(tmp_path: Path, publisher: Publisher, keys: tuple[Path, Path]) -> None:
    """The old process answers on; the successor, which nobody would let any more, ends by itself."""
    home, port = tmp_path / "home", free_port()
    run, url = Installation.load(home).run, f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tests.supervised_gateway", home, publisher.registry, keys[1], str(port)]
    supervisor = subprocess.Popen(command, cwd=PROJECT)
    try:
        wait_until(lambda: (state := read_state(run)) and state.phase == "running", seconds=120)
        target = GatewayTarget(url, TOKEN)
        target.deploy(publisher.release(MODEL, LATE))
        target.set_traffic(MODEL, TrafficPlan(stable=LATE))
        order_exchange(run, NAME)
        wait_until(lambda: (state := read_state(run)) and state.programs[NAME].beside)
        state = read_state(run)
        assert state is not None

        supervisor.kill()
        supervisor.wait()

        beside = state.programs[NAME].beside
        wait_until(lambda: beside not in {process.pid for process in marked(home)})
        assert state.programs[NAME].pid in {process.pid for process in marked(home)}
        assert httpx.get(f"{url}/readyz", trust_env=False).is_success
    finally:
        supervisor.kill()
        supervisor.wait()
        sweep(home)
