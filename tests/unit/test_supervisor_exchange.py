"""The supervisor exchanges small programs: successors that do not keep to what they say, and programs without one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from taxiway.errors import SettingsError
from taxiway.supervisor.launch import reload
from taxiway.supervisor.orders import order_exchange
from taxiway.supervisor.processes import marked
from taxiway.supervisor.programs import Probe, Program
from taxiway.supervisor.state import SupervisorState, supervisor_lock
from tests.conftest import free_port
from tests.unit.test_supervisor_runner import World

NAME = "gateway-staging"
# Serves on the socket that it is handed; as a successor it says one line, waits for the answer, and dies.
PROGRAM = """
import http.server, socket, sys
arguments = dict(zip(sys.argv[2::2], map(int, sys.argv[3::2])))
if "--line" in arguments:
    line = socket.socket(fileno=arguments["--line"])
    line.sendall(sys.argv[1].encode() + b"\\n")
    sys.exit(line.recv(10) and 3)
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler, bind_and_activate=False)
server.socket = socket.socket(fileno=arguments["--fd"])
server.serve_forever()
"""


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return World(tmp_path / "home")


def _gateway(world: World, says: str) -> Program:
    port = free_port()
    return world.program(NAME, PROGRAM, says, probe=Probe(f"http://127.0.0.1:{port}/"), port=port)


def _over(state: SupervisorState) -> bool:
    return state.programs[NAME].exchanges > 0 and state.programs[NAME].phase == "ready"


async def test_a_successor_with_another_word_is_killed(world: World) -> None:
    """What it says is the reason; the old process serves on, and only that one is left."""
    running = asyncio.create_task(world.supervisor.run([_gateway(world, "no disk")]))
    before = (await world.until(lambda state: state.phase == "running")).programs[NAME]
    order_exchange(world.installation.run, NAME)
    order_exchange(world.installation.run, "unknown")

    after = (await world.until(_over)).programs[NAME]

    assert after.refusal == "no disk; the old one serves on"
    assert (after.pid, after.beside, after.restarts) == (before.pid, None, 0)
    assert [process.pid for process in marked(world.installation.home)] == [before.pid]
    await world.stop(running)


async def test_a_successor_that_dies_at_the_hand_over_is_replaced(world: World) -> None:
    """Both processes are gone then: the supervisor starts another one, and `reload` says so."""
    with supervisor_lock(world.installation.run):
        running = asyncio.create_task(world.supervisor.run([_gateway(world, "warm")]))
        before = (await world.until(lambda state: state.phase == "running")).programs[NAME]

        with pytest.raises(SettingsError, match="ended before it was serving; another process starts"):
            await asyncio.to_thread(reload, world.installation, "staging")

        after = (await world.until(lambda state: _over(state) and state.programs[NAME].pid != before.pid)).programs
        assert [process.pid for process in marked(world.installation.home)] == [after[NAME].pid]
        await world.stop(running)


async def test_a_program_without_a_socket_cannot_be_exchanged(world: World) -> None:
    """The order is refused, and changes nothing; when nobody listens, whoever orders hears it."""
    running = asyncio.create_task(world.supervisor.run([world.server(NAME)]))
    before = (await world.until(lambda state: state.phase == "running")).programs[NAME]
    order_exchange(world.installation.run, NAME)

    after = (await world.until(_over)).programs[NAME]

    assert (after.pid, bool(after.refusal)) == (before.pid, True)
    await world.stop(running)
    with pytest.raises(SettingsError, match="does not listen"):
        order_exchange(world.installation.run, NAME)
