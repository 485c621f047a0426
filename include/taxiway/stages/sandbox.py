"""Runs commands of a model repository: what they see, what they may use, and that nothing of them is left.

Where bubblewrap works, a command sees the system, its interpreter, what it was given to read and write, and nothing
else: no network, no other process. Everywhere it has a scrubbed environment, a private home, limits and bounded
output, and all its processes are killed when it ends or meets a limit.
"""

from __future__ import annotations

import json
import os
import select
import selectors
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO

import psutil

from taxiway.stages import bubblewrap, process_tree
from taxiway.stages.command_limits import CommandLimits, exceeded, exit_code, kernel_limit
from taxiway.stages.fence import SCRIPTS, fenced, view_of
from taxiway.stages.workspaces import workspace

__all__ = [
    "SCRIPTS",
    "Background",
    "CommandLimits",
    "Outcome",
    "is_plain",
    "network_environment",
    "run",
    "running",
    "scrubbed_environment",
    "weaknesses",
]

_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TAXIWAY_SUPERVISED")
_CHUNK = 65536
_SHORTEST_TICK_SECONDS, _REST = 0.05, 20  # between two measurements: at least 20 times as long as one takes
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: `limit` names the limit that stopped it, `output` is the end of stdout and stderr."""

    exit_code: int
    output: str
    seconds: float
    limit: str | None = None

    @property
    def succeeded(self) -> bool:
        """Tell whether the command ended by itself with exit code 0."""
        return self.exit_code == 0 and self.limit is None


def scrubbed_environment(
    home: Path, extra: Mapping[str, str], *, inherited: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return an environment without secrets: a few harmless variables, a private home, one thread per library.

    TAXIWAY_SUPERVISED names the installation, so that `taxiway down` finds what a command left behind.
    """
    kept = {name: inherited[name] for name in _INHERITED if name in inherited}
    private = {"HOME": str(home), "TMPDIR": str(home), "PYTHONUNBUFFERED": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {**kept, **_THREADS, **private, **extra}


def network_environment(*, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what uv needs to reach a package index (certificates, proxies, its own settings) and no secret of ours."""
    wanted = ("PATH", "HOME", "LANG", "SSL_", "UV_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "TAXIWAY_SUPERVISED")
    return {name: value for name, value in inherited.items() if name.upper().startswith(wanted)}


def weaknesses() -> tuple[str, ...]:
    """Say what the sandbox of this machine does not hold against hostile code; empty where it is at full strength."""
    missing = bubblewrap.problem()
    if missing is None:
        return ()
    weaker = "model code can read files of this user, secrets included, and reach the network"
    return (f"{missing}: {weaker}",)


def is_plain(path: Path) -> bool:
    """Tell whether what a command wrote is a file, or a directory of files, and no link or device leads elsewhere.

    What it wrote must be plain before trusted code reads it: a link would show this process's files as the command's.
    """
    if not os.path.lexists(path):
        return False
    below = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
    kinds = [entry.lstat().st_mode for entry in (path, *below)]
    return all(stat.S_ISREG(kind) or stat.S_ISDIR(kind) for kind in kinds)


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    limits: CommandLimits,
    extra_env: Mapping[str, str] | None = None,
    reads: Sequence[Path] = (),
    writes: Sequence[Path] = (),
    confined: bool = True,
) -> Outcome:
    """Run the command until it ends or meets a limit; afterwards nothing of it runs.

    It may read its interpreter's environment and `reads`, and write `cwd` and `writes`. Without `confined` (for
    Taxiway's own code), or where bubblewrap does not work, it sees what this process sees.
    """
    place = _Place(cwd, reads, writes, extra_env or {}, confined)
    with _started(command, place, limits) as started:
        return _follow(started, limits)


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    limits: CommandLimits,
    extra_env: Mapping[str, str] | None = None,
    reads: Sequence[Path] = (),
    writes: Sequence[Path] = (),
    confined: bool = True,
    pass_fds: Sequence[int] = (),
) -> Iterator[Background]:
    """Run the command beside the block, as `run` does, with these file descriptors; it ends with the block."""
    place = _Place(cwd, reads, writes, extra_env or {}, confined, pass_fds)
    with _started(command, place, limits) as started, ThreadPoolExecutor(max_workers=1) as follower:
        background = Background(started, follower.submit(_follow, started, limits))
        try:
            yield background
        finally:
            started.end()


class Background:
    """A command that runs beside its caller."""

    def __init__(self, started: _Started, outcome: Future[Outcome]) -> None:
        self._started = started
        self._outcome = outcome

    def outcome(self, patience: timedelta) -> Outcome | None:
        """Return how the command ended, by itself or at a limit; None when it still runs after that time."""
        with suppress(TimeoutError):
            return self._outcome.result(timeout=patience.total_seconds())
        return None

    def stop(self) -> Outcome:
        """Kill what still runs of the command and return how it ended."""
        self._started.end()
        return self._outcome.result()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a command runs: what it may read and write, which variables and file descriptors it gets."""

    cwd: Path
    reads: Sequence[Path]
    writes: Sequence[Path]
    extra_env: Mapping[str, str]
    confined: bool
    pass_fds: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class _Started:
    """A started command: `root` is the process whose descendants are all its processes.

    `directories` are what it may write.
    """

    process: subprocess.Popen[bytes]
    root: psutil.Process | None
    output: IO[bytes]
    directories: Sequence[Path]
    _ending: threading.Lock = field(default_factory=threading.Lock)

    def end(self) -> None:
        """Kill what still runs, and wait until it is gone; any thread may, at any time."""
        with self._ending:
            root = self.root if self.root is not None and self.root.is_running() else None
            if root is not None and root.pid != self.process.pid:  # first of a pid namespace: all die with it
                _kill_and_wait(root.pid)
            elif root is not None and self.process.poll() is None:
                process_tree.end(root)
            with suppress(ProcessLookupError):  # the whole group has ended by itself
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class _Tail:
    """Keeps the end of an output, and counts the rest."""

    def __init__(self, kilobytes: int) -> None:
        self._kept = bytearray()
        self._most = kilobytes * 1024
        self._left_out = 0

    def read(self, output: IO[bytes]) -> bool:
        """Take what has arrived; tells whether more may come."""
        try:
            chunk = os.read(output.fileno(), _CHUNK)
        except BlockingIOError:
            return False
        self._kept += chunk
        if len(self._kept) > 2 * self._most + _CHUNK:
            self._trim()
        return bool(chunk)

    def drain(self, output: IO[bytes]) -> None:
        """Take what is still in the pipe of a command that has ended."""
        while self.read(output):
            pass

    def text(self) -> str:
        """Return the end, and how much was left out before it."""
        self._trim()
        text = self._kept.decode(errors="replace")
        return f"[... {self._left_out} bytes left out ...]\n{text}" if self._left_out else text

    def _trim(self) -> None:
        surplus = max(0, len(self._kept) - self._most)
        del self._kept[:surplus]
        self._left_out += surplus


@contextmanager
def _started(command: Sequence[str | Path], place: _Place, limits: CommandLimits) -> Iterator[_Started]:
    """Start the command with a private home, and end all its processes when the block ends."""
    with workspace("home") as directory:
        home, tmp = directory / "home", directory / "tmp"
        home.mkdir()
        tmp.mkdir()
        writes = (home, *place.writes)
        seen = view_of(command, cwd=place.cwd, tmp=tmp, limits=limits, reads=place.reads, writes=writes)
        environment = scrubbed_environment(home, place.extra_env)
        process, root = _spawn(command, seen if place.confined else None, limits, place, environment)
        assert process.stdout is not None  # noqa: S101 (it was asked for)
        os.set_blocking(process.stdout.fileno(), False)
        started = _Started(process, root, process.stdout, (tmp, place.cwd, *writes))
        try:
            yield started
        finally:
            started.end()
            process.stdout.close()


def _spawn(
    command: Sequence[str | Path],
    seen: bubblewrap.View | None,
    limits: CommandLimits,
    place: _Place,
    environment: Mapping[str, str],
) -> tuple[subprocess.Popen[bytes], psutil.Process | None]:
    """Start the command in a session of its own, confined to the view; returns it and the root of its processes."""
    info, info_end = os.pipe()
    process = subprocess.Popen(
        fenced(command, seen, limits, info_fd=info_end),
        cwd=place.cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=(*place.pass_fds, info_end) if seen is not None else place.pass_fds,
    )
    os.close(info_end)
    with os.fdopen(info, "rb") as answer:
        said = answer.read()  # bubblewrap closes its end once it has written; otherwise ours was the only one
    return process, _process(json.loads(said)["child-pid"] if said else process.pid)


def _follow(started: _Started, limits: CommandLimits) -> Outcome:
    """Wait until the command has ended or met a limit, and end what is left of it."""
    began, tail = time.monotonic(), _Tail(limits.log_kb)
    limit = _watch(started, tail, limits)
    started.end()
    tail.drain(started.output)
    code = started.process.returncode
    return Outcome(exit_code(code), tail.text(), time.monotonic() - began, limit or kernel_limit(code, limits))


def _watch(started: _Started, tail: _Tail, limits: CommandLimits) -> str | None:
    """Keep what the command prints until it has ended; returns the limit that it met before."""
    deadline = time.monotonic() + limits.wall.total_seconds()
    measure_at = time.monotonic() + _SHORTEST_TICK_SECONDS
    with _events(started) as events:
        while started.process.poll() is None:
            now = time.monotonic()
            if now >= deadline:
                return f"wall time of {limits.wall.total_seconds():g} s"
            if now >= measure_at:
                if limit := exceeded(started.root, limits, started.directories):
                    return limit
                spent = time.monotonic() - now
                measure_at = time.monotonic() + max(_SHORTEST_TICK_SECONDS, _REST * spent)
            for key, _ in events.select(max(0.0, min(deadline, measure_at) - time.monotonic())):
                if key.fileobj is started.output and not tail.read(started.output):
                    events.unregister(started.output)  # closed by the command itself
    return None


@contextmanager
def _events(started: _Started) -> Iterator[selectors.BaseSelector]:
    """Yield a selector that wakes up when the command prints or ends (the latter on Linux; elsewhere at a tick)."""
    with selectors.DefaultSelector() as events:
        events.register(started.output, selectors.EVENT_READ)
        handle = _pidfd(started.process.pid)
        if handle is None:
            yield events
            return
        try:
            events.register(handle, selectors.EVENT_READ)
            yield events
        finally:
            os.close(handle)


def _pidfd(pid: int) -> int | None:
    """Return a descriptor that becomes readable when the process ends; None when it is gone, or has no such thing."""
    if sys.platform == "linux":
        with suppress(ProcessLookupError):
            return os.pidfd_open(pid)
    return None


def _process(pid: int) -> psutil.Process | None:
    with suppress(psutil.Error):
        return psutil.Process(pid)
    return None  # it has ended already


def _kill_and_wait(pid: int) -> None:
    handle = _pidfd(pid)
    if handle is None:
        return
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)
        waiting.poll(1000 * _PATIENCE_SECONDS)
    finally:
        os.close(handle)
