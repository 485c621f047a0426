"""Processes are found and ended by their mark, whatever they did to hide; other processes are left alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from taxiway.supervisor.processes import MARK, marked, port_owner, sweep, sweep_orphans

SLEEP = "import time; print('started', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
# Starts a process in a session of its own, with the interpreter's environment, and says its pid.
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True, stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
time.sleep(600)
"""


@dataclass(frozen=True)
class Started:
    """A process, and the line that it printed."""

    process: psutil.Process
    said: str


Start = Callable[[str, Path | str], Started]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `python -c code` with a mark and return once it has printed a line; all are ended afterwards."""
    started: list[subprocess.Popen[str]] = []

    def _start(code: str, home: Path | str) -> Started:
        process = subprocess.Popen(
            [sys.executable, "-c", code], env={**os.environ, MARK: str(home)}, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        return Started(psutil.Process(process.pid), process.stdout.readline().strip())

    yield _start
    for process in started:
        process.kill()
        process.communicate()


def test_the_mark_must_match_exactly(tmp_path: Path, start: Start) -> None:
    """Another installation's processes are not ours, also when its home begins with our path."""
    ours = start(SLEEP, tmp_path)
    start(SLEEP, f"{tmp_path}-2")
    start(SLEEP, tmp_path / "inner")

    assert marked(tmp_path) == [ours.process]


def test_this_process_and_its_ancestors_are_spared(tmp_path: Path) -> None:
    """A command that runs inside an installation does not end itself, nor its shell."""
    code = "from pathlib import Path; from taxiway.supervisor.processes import sweep; print(sweep(Path({!r})))"
    inner = [sys.executable, "-c", code.format(str(tmp_path))]
    shell = [sys.executable, "-c", f"import subprocess; subprocess.run({inner!r}, check=True); print('still here')"]

    done = subprocess.run(shell, env={**os.environ, MARK: str(tmp_path)}, capture_output=True, text=True, check=True)

    assert done.stdout.split("\n")[:2] == ["0", "still here"]


def test_sweep_ends_everything(tmp_path: Path, start: Start) -> None:
    """Also what ignores SIGTERM, and what left its parent's session, is gone afterwards."""
    stubborn = start(STUBBORN, tmp_path)
    parent = start(PARENT, tmp_path)
    child = psutil.Process(int(parent.said))

    assert sweep(tmp_path, patience=0.5) == 3
    assert marked(tmp_path) == []
    assert not any(_runs(process) for process in (stubborn.process, parent.process, child))


def test_sweep_of_nothing(tmp_path: Path) -> None:
    """Nothing to end is fine."""
    assert sweep(tmp_path) == 0


def test_orphans_are_ended_and_kept_trees_spared(tmp_path: Path, start: Start) -> None:
    """When one program has died, its descendants go; a living program and its descendants stay."""
    dead, alive = start(PARENT, tmp_path), start(PARENT, tmp_path)
    orphan, child = psutil.Process(int(dead.said)), psutil.Process(int(alive.said))
    dead.process.kill()
    dead.process.wait(10)

    assert sweep_orphans(tmp_path, keep={alive.process.pid}) == 1
    assert not _runs(orphan)
    assert _runs(alive.process)
    assert _runs(child)
    child.kill()


def test_the_owner_of_a_port_is_named() -> None:
    """A taken port has an owner with name and pid; a free one has none."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        owner = port_owner(port)

    assert owner is not None
    assert f"(pid {os.getpid()})" in owner
    assert port_owner(port) is None


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
