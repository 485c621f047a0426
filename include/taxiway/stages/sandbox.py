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
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO

import psutil

from taxiway.stages import bubblewrap, process_tree
from taxiway.stages.workspaces import workspace

SCRIPTS = Path(__file__).resolve().parents[1] / "sandbox"

_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TAXIWAY_SUPERVISED")
_MEGABYTE = 1024 * 1024
_THREADS_PER_PROCESS = 16  # the kernel counts threads as processes
_CHUNK = 65536
_SIGNALLED = 128  # exit codes above it: killed by signal (code - 128), as a shell tells it
_SHORTEST_TICK_SECONDS, _REST = 0.05, 20  # between two measurements: at least 20 times as long as one takes
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class CommandLimits:
    """What one command may use, all its processes together; `memory_mb` also bounds the address space of each.

    `disk_mb` counts what it writes anywhere; of its output the last `log_kb` are kept, and the rest is nowhere stored.
    """

    wall: timedelta
    memory_mb: int
    log_kb: int
    cpu: timedelta = timedelta(hours=4)
    processes: int = 256
    disk_mb: int = 10240


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
    with workspace("home") as directory:
        home, tmp = directory / "home", directory / "tmp"
        home.mkdir()
        tmp.mkdir()
        view = bubblewrap.View(
            cwd=cwd,
            tmp=tmp,
            reads=(SCRIPTS, *_interpreters(command), *reads),
            writes=(cwd, home, *writes),
            shared_memory_mb=limits.memory_mb // 4,
        )
        environment = scrubbed_environment(home, extra_env or {})
        confined = confined and bubblewrap.problem() is None
        started = time.monotonic()
        tail = _Tail(limits.log_kb)
        with _started(command, view, environment, limits=limits, confined=confined) as running:
            limit = _watch(running, tail, limits, (tmp, *view.writes))
        tail.drain(running.output)
        running.output.close()
        code = running.process.returncode
        return Outcome(_exit_code(code), tail.text(), time.monotonic() - started, limit or _kernel_limit(code, limits))


@dataclass(frozen=True, slots=True)
class _Running:
    """A started command: `root` is the process whose descendants are all its processes."""

    process: subprocess.Popen[bytes]
    root: psutil.Process | None
    output: IO[bytes]


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
def _started(
    command: Sequence[str | Path],
    view: bubblewrap.View,
    environment: Mapping[str, str],
    *,
    limits: CommandLimits,
    confined: bool,
) -> Iterator[_Running]:
    """Start the command in a session of its own, and end all its processes when the block ends."""
    info, info_end = os.pipe()
    fence = bubblewrap.command_line(view, info_fd=info_end) if confined else []
    process = subprocess.Popen(
        [*fence, *_limited(command, limits, confined=confined)],
        cwd=view.cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=(info_end,) if confined else (),
    )
    os.close(info_end)
    assert process.stdout is not None  # noqa: S101 (it was asked for)
    os.set_blocking(process.stdout.fileno(), False)
    with os.fdopen(info, "rb") as answer:
        said = answer.read()  # bubblewrap closes its end once it has written; otherwise ours was the only one
    root = _process(json.loads(said)["child-pid"] if said else process.pid)
    try:
        yield _Running(process, root, process.stdout)
    finally:
        _end(process, root)


def _limited(command: Sequence[str | Path], limits: CommandLimits, *, confined: bool) -> list[str]:
    """Return the command behind the script that sets the kernel's limits from inside."""
    memory, disk = limits.memory_mb * _MEGABYTE, limits.disk_mb * _MEGABYTE
    cpu = int(limits.cpu.total_seconds()) + 1  # of each process; the watch sums them up
    bounds = [f"CPU={cpu}", f"FSIZE={disk}", "CORE=0"]
    if sys.platform == "linux":
        bounds.append(f"AS={memory}")
    if confined:  # counted in the sandbox's own user namespace; elsewhere everything of this user would count
        bounds.append(f"NPROC={limits.processes * _THREADS_PER_PROCESS}")
    python = str(Path(sys.executable).resolve())
    words = [python, "-I", "-S", str(SCRIPTS / "start.py"), "exec" if confined else "reap", *bounds, "--"]
    return [*words, *(str(part) for part in command)]


def _interpreters(command: Sequence[str | Path]) -> Iterator[Path]:
    yield Path(sys.base_prefix)
    for python in (Path(sys.executable).resolve(), Path(command[0])):
        yield from bubblewrap.interpreter_files(python)


def _watch(running: _Running, tail: _Tail, limits: CommandLimits, directories: Sequence[Path]) -> str | None:
    """Follow the command until it has ended; returns the limit that it met before."""
    deadline = time.monotonic() + limits.wall.total_seconds()
    measure_at = time.monotonic() + _SHORTEST_TICK_SECONDS
    with _ending(running) as events:
        while running.process.poll() is None:
            now = time.monotonic()
            if now >= deadline:
                return f"wall time of {limits.wall.total_seconds():g} s"
            if now >= measure_at:
                if limit := _exceeded(running, limits, directories):
                    return limit
                spent = time.monotonic() - now
                measure_at = time.monotonic() + max(_SHORTEST_TICK_SECONDS, _REST * spent)
            for key, _ in events.select(max(0.0, min(deadline, measure_at) - time.monotonic())):
                if key.fileobj is running.output and not tail.read(running.output):
                    events.unregister(running.output)  # closed by the command itself
    return None


@contextmanager
def _ending(running: _Running) -> Iterator[selectors.BaseSelector]:
    """Yield a selector that wakes up when the command prints or ends (the latter on Linux; elsewhere at a tick)."""
    with selectors.DefaultSelector() as events:
        events.register(running.output, selectors.EVENT_READ)
        if sys.platform != "linux":
            yield events
            return
        handle = os.pidfd_open(running.process.pid)
        try:
            events.register(handle, selectors.EVENT_READ)
            yield events
        finally:
            os.close(handle)


def _exceeded(running: _Running, limits: CommandLimits, directories: Sequence[Path]) -> str | None:
    if running.root is None:
        return None
    used = process_tree.usage(running.root, directories)
    if used.processes > limits.processes:
        return f"{limits.processes} processes"
    if used.cpu_seconds > limits.cpu.total_seconds():
        return _cpu_limit(limits)
    if used.disk_mb > limits.disk_mb:
        return f"{limits.disk_mb} MB of disk"
    if used.memory_mb > limits.memory_mb and process_tree.exact_memory_mb(running.root) > limits.memory_mb:
        return f"{limits.memory_mb} MB of memory"
    return None


def _cpu_limit(limits: CommandLimits) -> str:
    return f"CPU time of {limits.cpu.total_seconds():g} s"


def _kernel_limit(code: int, limits: CommandLimits) -> str | None:
    """Name the limit at which the kernel itself stopped the command."""
    named = {signal.SIGXCPU: _cpu_limit(limits), signal.SIGXFSZ: f"{limits.disk_mb} MB of disk"}
    return named.get(signal.Signals(-_exit_code(code))) if _exit_code(code) < 0 else None


def _exit_code(code: int) -> int:
    """Return the code of the command, negative for a signal, as Python's own subprocesses tell it."""
    return _SIGNALLED - code if _SIGNALLED < code < _SIGNALLED + signal.NSIG else code


def _process(pid: int) -> psutil.Process | None:
    with suppress(psutil.Error):
        return psutil.Process(pid)
    return None  # it has ended already


def _end(process: subprocess.Popen[bytes], root: psutil.Process | None) -> None:
    """Kill what still runs, and wait until it is gone."""
    if root is not None and root.pid != process.pid:  # the first of a pid namespace: the kernel kills all with it
        _kill_and_wait(root.pid)
    elif root is not None and process.poll() is None:
        process_tree.end(root)
    with suppress(ProcessLookupError):  # the whole group has ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _kill_and_wait(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)
        waiting.poll(1000 * _PATIENCE_SECONDS)
    finally:
        os.close(handle)
