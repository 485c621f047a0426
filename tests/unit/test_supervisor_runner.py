"""The supervisor with small programs: readiness, restarts, giving up, and the stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from taxiway.bootstrap import PROJECT
from taxiway.errors import SettingsError
from taxiway.supervisor.installation import Installation
from taxiway.supervisor.processes import MARK, marked
from taxiway.supervisor.programs import Probe, Program
from taxiway.supervisor.runner import Supervisor, check_ports
from taxiway.supervisor.state import SupervisorState, read_state
from tests.conftest import free_port

SERVER = "import http.server, sys; http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), {handler}).serve_forever()"
HANDLER = "http.server.SimpleHTTPRequestHandler"
# Leaves a process in a session of its own before it serves, as a task does with a training run.
WITH_CHILD = (
    "import subprocess, sys; subprocess.Popen(['sleep', '600'], start_new_session=True); "
    f"{SERVER.format(handler=HANDLER)}"
)
PATIENCE = 60.0


class World:
    """One supervisor in this process, and everything that it said."""

    def __init__(self, home: Path) -> None:
        self.installation = Installation.load(home)
        self.installation.run.mkdir(parents=True)
        self.said: list[SupervisorState] = []
        self._news = asyncio.Event()
        self.supervisor = Supervisor(self.installation, self._hear)

    def program(self, name: str, code: str, *arguments: str, **more: object) -> Program:
        environment = {**os.environ, MARK: str(self.installation.home)}
        return Program(name, (sys.executable, "-c", code, *arguments), environment, **more)

    def server(self, name: str, code: str = SERVER.format(handler=HANDLER), **more: object) -> Program:
        port = free_port()
        return self.program(name, code, str(port), probe=Probe(f"http://127.0.0.1:{port}/"), **more)

    async def until(self, condition: Callable[[SupervisorState], bool]) -> SupervisorState:
        async with asyncio.timeout(PATIENCE):
            while not condition(self.said[-1]):
                self._news.clear()
                await self._news.wait()
        return self.said[-1]

    async def stop(self, running: asyncio.Task[None]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, PATIENCE)

    def _hear(self, state: SupervisorState) -> None:
        self.said.append(state)
        self._news.set()


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return World(tmp_path / "home")


async def test_up_and_down(world: World) -> None:
    """Programs start in order, the state is there for others to read, and a signal stops everything."""
    first, second = world.server("first"), world.server("second", after=("first",))
    running = asyncio.create_task(world.supervisor.run([first, second]))

    state = await world.until(lambda state: state.phase == "running")
    assert read_state(world.installation.run) == state
    assert {program.phase for program in state.programs.values()} == {"ready"}
    assert _changes(world.said)[-4:] == [
        ("first", "starting"),
        ("first", "ready"),
        ("second", "starting"),
        ("second", "ready"),
    ]

    await world.stop(running)

    assert {program.phase for program in world.said[-1].programs.values()} == {"stopped"}
    assert marked(world.installation.home) == []


async def test_a_killed_program_is_started_again(world: World) -> None:
    """It comes back with another pid; what it had started is gone, what others run is untouched."""
    running = asyncio.create_task(world.supervisor.run([world.server("mortal", WITH_CHILD), world.server("other")]))
    before = await world.until(lambda state: state.phase == "running")
    mortal, other = before.programs["mortal"], before.programs["other"]
    assert mortal.pid is not None

    os.kill(mortal.pid, signal.SIGKILL)
    after = await world.until(lambda state: state.programs["mortal"].restarts == 1 and _all_ready(state))

    assert after.programs["mortal"].pid != mortal.pid
    assert after.programs["other"] == other
    assert [process.name() for process in marked(world.installation.home)].count("sleep") == 1
    await world.stop(running)


async def test_it_gives_up_what_cannot_start(world: World) -> None:
    """Five deaths within a minute end the start with the program's own last words; nothing is left running."""
    broken = world.program("broken", "raise SystemExit('no such disk')", probe=Probe("http://127.0.0.1:9/"))

    with pytest.raises(SettingsError, match=r"broken died \(exit code 1\) 5 times within a minute: no such disk"):
        await asyncio.wait_for(world.supervisor.run([world.server("fine"), broken]), PATIENCE)

    assert marked(world.installation.home) == []


async def test_a_failed_step_is_not_repeated(world: World) -> None:
    """A step that fails, such as a migration, ends the start at once; what waits for it never starts."""
    stamp = world.installation.home / "stamp"
    step = world.program("step", "raise SystemExit('cannot migrate')", stamp=stamp)

    with pytest.raises(SettingsError, match=r"step died \(exit code 1\): cannot migrate"):
        await asyncio.wait_for(world.supervisor.run([step, world.server("next", after=("step",))]), PATIENCE)

    assert not stamp.exists()
    assert world.said[-1].programs["next"].pid is None


async def test_a_step_leaves_its_stamp(world: World) -> None:
    """A step that succeeds is marked as done, and what waits for it starts."""
    stamp = world.installation.home / "stamp"
    running = asyncio.create_task(
        world.supervisor.run([world.program("step", "pass", stamp=stamp), world.server("next", after=("step",))])
    )

    state = await world.until(lambda state: state.phase == "running")

    assert state.programs["step"].phase == "done"
    assert stamp.exists()
    await world.stop(running)


async def test_stop_in_order(world: World) -> None:
    """The lowest rank stops first; a program that ignores the request is killed after its grace."""
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SERVER.format(handler=HANDLER)}"
    last = world.server("last", stop_rank=2)
    first = world.server("first", stubborn, stop_rank=1, grace=0.5)
    running = asyncio.create_task(world.supervisor.run([last, first]))
    await world.until(lambda state: state.phase == "running")

    await world.stop(running)

    stops = [name for name, phase in _changes(world.said) if phase in ("stopping", "stopped")]
    assert stops == ["first", "first", "last", "last"]
    assert marked(world.installation.home) == []


async def test_a_second_signal_hurries(world: World) -> None:
    """Asked twice to stop, it does not wait for the grace."""
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SERVER.format(handler=HANDLER)}"
    running = asyncio.create_task(world.supervisor.run([world.server("stubborn", stubborn, grace=600)]))
    await world.until(lambda state: state.phase == "running")

    os.kill(os.getpid(), signal.SIGTERM)
    await world.until(lambda state: state.programs["stubborn"].phase == "stopping")
    await world.stop(running)

    assert marked(world.installation.home) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
async def test_programs_die_with_their_supervisor(tmp_path: Path) -> None:
    """After SIGKILL of the supervisor its programs end, except those that serve on."""
    code = f"""
import asyncio, os, sys
from pathlib import Path
from tests.unit.test_supervisor_runner import World
async def main():
    world = World(Path({str(tmp_path / "home")!r}))
    programs = [world.server("dies"), world.server("serves", outlives=True)]
    running = asyncio.create_task(world.supervisor.run(programs))
    state = await world.until(lambda state: state.phase == "running")
    print(*(program.pid for program in state.programs.values()), flush=True)
    await running
asyncio.run(main())
"""
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, cwd=PROJECT
    )
    assert supervisor.stdout is not None
    line = await asyncio.wait_for(supervisor.stdout.readline(), PATIENCE)
    dies, serves = (psutil.Process(int(pid)) for pid in line.split())

    supervisor.kill()
    await supervisor.wait()

    assert psutil.wait_procs([dies], timeout=30)[1] == []
    assert marked(tmp_path / "home") == [serves]
    serves.kill()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """The error has the port, who holds it, and the option to choose another."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        others = {name: free_port() for name in ("airflow", "staging", "production")}
        installation = Installation.load(tmp_path).changed(mlflow=port, **others)

        with pytest.raises(
            SettingsError, match=rf"port {port} \(mlflow\) is taken by .*pid {os.getpid()}.*--mlflow-port"
        ):
            check_ports(installation)


def _all_ready(state: SupervisorState) -> bool:
    return all(program.phase == "ready" for program in state.programs.values())


def _changes(said: list[SupervisorState]) -> list[tuple[str, str]]:
    """Return each program's new phase, in the order in which it was said."""
    known: dict[str, str] = {}
    changes = []
    for state in said:
        for name, program in state.programs.items():
            if known.get(name) != program.phase:
                known[name] = program.phase
                changes.append((name, program.phase))
    return changes
