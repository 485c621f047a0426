"""One process that serves a version: fenced where bubblewrap works, bounded everywhere, gone without a trace.

It sees its model, its environment, and a home of its own: no network, no other process, nothing of the gateway. It is
handed a socket that listens, whose address is out of its reach, so that it cannot lead requests somewhere else. It
ends with the gateway, however that ends: by the kernel, and because its standard input does.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil

from taxiway.gateway.config import Config
from taxiway.stages import process_tree
from taxiway.stages.command_limits import CommandLimits
from taxiway.stages.fence import SCRIPTS, fenced, view_of
from taxiway.stages.sandbox import scrubbed_environment

_TAIL_BYTES = 4096
_TICK_SECONDS, _REST = 0.25, 20  # between two measurements: at least 20 times as long as one takes
_RESERVED_MB = 4096  # address space that libraries reserve and never use
_DISK_MB = 1024
_FOR_EVER = timedelta(days=36500)
_PATIENCE_SECONDS = 5.0


class ScorerProcess:
    """A running process: `address` is the socket it serves, `announcement` gets a line once it is ready.

    `limit` names the limit at which it was killed; `mute` tells that it was killed because it answered nobody.
    """

    def __init__(self, process: Process, address: Path, announcement: asyncio.StreamReader) -> None:
        self.pid = process.pid
        self.address = address
        self.announcement = announcement
        self.limit: str | None = None
        self.mute = False
        self._process = process
        self._tail = b""

    @property
    def last_words(self) -> str:
        """The last lines that it printed."""
        return " | ".join(self._tail.decode(errors="replace").strip().splitlines()[-3:])

    async def ended(self) -> int:
        """Wait until the process has ended; returns its exit code."""
        return await self._process.wait()

    def kill(self) -> None:
        """Kill the whole group of the process; nobody when it has ended."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def follow(self) -> None:
        """Keep the end of what the process prints; it must never block on a full pipe."""
        assert self._process.stdout is not None  # noqa: S101 (it was asked for)
        while chunk := await self._process.stdout.read(_TAIL_BYTES):
            self._tail = (self._tail + chunk)[-_TAIL_BYTES:]

    async def watch(self, limits: CommandLimits, directories: Sequence[Path]) -> None:
        """Kill the process when it and its descendants together exceed the memory or the disk."""
        loop = asyncio.get_running_loop()
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.pid)
            while self.limit is None:
                began = loop.time()
                self.limit = await asyncio.to_thread(_exceeded, root, limits, directories)
                if self.limit is None:
                    await asyncio.sleep(max(_TICK_SECONDS, _REST * (loop.time() - began)))
            self.kill()


@asynccontextmanager
async def launched(model: Path, python: Path, *, directory: Path, config: Config) -> AsyncIterator[ScorerProcess]:
    """Start a process with a new directory of its own; after the block nothing of it runs, and nothing is left."""
    home, tmp = directory / "home", directory / "tmp"
    limits = CommandLimits(_FOR_EVER, config.memory_mb, log_kb=0, cpu=_FOR_EVER, disk_mb=_DISK_MB)
    try:
        for made in (directory, home, tmp):
            made.mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(directory / "socket"))
            async with _Pipe() as pipe:
                inherited = (listener.fileno(), pipe.write_end)
                command: list[str | Path] = [python, SCRIPTS / "serve.py", "--model", model, "--lifeline"]
                command += ["--queue", str(config.queue), "--fd", str(inherited[0])]
                command += ["--ready-file", f"/dev/fd/{inherited[1]}"]
                seen = await asyncio.to_thread(view_of, command, cwd=home, tmp=tmp, limits=limits, reads=(model,))
                process = await _spawn(fenced(command, seen, _with_reserve(limits)), home, inherited)
                listener.close()  # so that nobody listens any more when the process has ended
                pipe.close_write_end()
                scorer = ScorerProcess(process, directory / "socket", pipe.reader)
                async with _attended(scorer, limits, (home, tmp)):
                    yield scorer
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


async def _spawn(command: Sequence[str], home: Path, inherited: tuple[int, ...]) -> Process:
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=home,
        env=scrubbed_environment(home, {}),
        stdin=asyncio.subprocess.PIPE,  # written never: that it ends says that this process has
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        pass_fds=inherited,
        start_new_session=True,
    )


@asynccontextmanager
async def _attended(scorer: ScorerProcess, limits: CommandLimits, directories: Sequence[Path]) -> AsyncIterator[None]:
    """Follow and watch the process during the block, and kill it at the end."""
    output, watch = asyncio.create_task(scorer.follow()), asyncio.create_task(scorer.watch(limits, directories))
    try:
        yield
    finally:
        scorer.kill()
        await scorer.ended()
        await asyncio.wait({output}, timeout=_PATIENCE_SECONDS)  # all that held its end are gone then
        for task in (output, watch):
            task.cancel()
        await asyncio.wait({output, watch})


def _with_reserve(limits: CommandLimits) -> CommandLimits:
    """Bound the address space above the memory: the watch kills first, and what is too fast for it gets no more."""
    return replace(limits, memory_mb=limits.memory_mb + _RESERVED_MB)


def _exceeded(root: psutil.Process, limits: CommandLimits, directories: Sequence[Path]) -> str | None:
    used = process_tree.usage(root, directories)
    if used.disk_mb > limits.disk_mb:
        return f"disk limit of {limits.disk_mb} MB"
    if used.memory_mb > limits.memory_mb and process_tree.exact_memory_mb(root) > limits.memory_mb:
        return f"memory limit of {limits.memory_mb} MB"
    return None


class _Pipe:
    """A pipe that a child announces something through: a stream to read from and a descriptor to hand on."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader()
        self._read_end, self.write_end = os.pipe()

    async def __aenter__(self) -> _Pipe:
        protocol = asyncio.StreamReaderProtocol(self.reader)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(self._read_end, "rb", 0))
        return self

    def close_write_end(self) -> None:
        """Leave the writing end to the child alone, so that its death ends the stream."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    async def __aexit__(self, *_: object) -> None:
        self.close_write_end()
        self._transport.close()
