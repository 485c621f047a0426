"""Scorer processes: each serves one version on a Unix socket, and is kept alive until it is stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aiohttp

from taxiway.errors import DeliveryStopped, IntegrityError, TargetUnavailable, TaxiwayError
from taxiway.gateway.config import Config
from taxiway.stages.sandbox import SCRIPTS, scrubbed_environment

_log = logging.getLogger(__name__)
_LONGEST_PAUSE_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.5
_HEALTHY_SECONDS = 60.0
_TAIL_BYTES = 4096
_URL = "http://scorer/invocations"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a scorer answered: HTTP status and JSON body."""

    status: int
    body: bytes


class Scorer:
    """One version's process: started, watched, started again with a growing pause, drained, stopped.

    `prepare` is awaited before each start; it checks the version's files and returns the python to run them with.
    """

    def __init__(
        self, name: str, model: Path, *, prepare: Callable[[], Awaitable[Path]], sockets: Path, config: Config
    ) -> None:
        self.name = name
        self.state: Literal["starting", "ready", "failed"] = "starting"
        self.failure: TaxiwayError | None = None
        self.starts = 0
        self._model = model
        self._prepare = prepare
        self._sockets = sockets
        self._config = config
        self._process: Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self._tail = b""
        self._answered_at = 0.0
        self._inflight = 0
        self._ready = asyncio.Event()
        self._settled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._supervise())

    @property
    def is_busy(self) -> bool:
        """Tell whether another request would be refused."""
        return self._inflight >= self._config.queue

    async def settled(self) -> None:
        """Wait until the running start has succeeded or failed; raises what the last start failed with."""
        await self._settled.wait()
        if self.failure is not None:
            raise self.failure

    async def predict(self, body: bytes, content_type: str, *, patient: bool = True) -> Reply:
        """Return the scorer's answer; waits while the process is being started again, and then asks it once more.

        Without `patient` it does neither: another version answers sooner. Raises TargetUnavailable when too many
        requests wait, the scorer is down (for long), or takes too long.
        """
        if self.is_busy:
            raise TargetUnavailable("too many requests are waiting", where=self.name)
        self._inflight += 1
        self._idle.clear()
        try:
            deadline = asyncio.get_running_loop().time() + self._config.predict_timeout.total_seconds()
            if not patient and not self._ready.is_set():
                raise TargetUnavailable("the scorer is not ready", where=self.name)
            reply = await self._ask(body, content_type, deadline)
            if reply is None and patient:
                reply = await self._ask(body, content_type, deadline)
        finally:
            self._inflight -= 1
            if not self._inflight:
                self._idle.set()
        if reply is None:
            raise TargetUnavailable("the scorer ended while it predicted", where=self.name)
        return reply

    async def stop(self) -> None:
        """Let requests that have begun end, then end the process; nothing of its group is left."""
        self._stopping.set()
        patience = self._config.drain_timeout.total_seconds()
        try:
            async with asyncio.timeout(patience):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("%s is stopped while it still predicts", self.name)
        self._kill(self._process, signal.SIGTERM)
        await asyncio.wait({self._task}, timeout=patience)
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _ask(self, body: bytes, content_type: str, deadline: float) -> Reply | None:
        """Return the reply, or None when the process ended before it answered."""
        loop = asyncio.get_running_loop()
        session, process = await self._running(deadline)
        asked_at = loop.time()
        try:
            async with asyncio.timeout_at(deadline):
                async with session.post(_URL, data=body, headers={"Content-Type": content_type}) as response:
                    reply = Reply(response.status, await response.read())
        except TimeoutError as error:
            if self._answered_at < asked_at:
                self._kill(process)  # it answers nobody: a fresh process serves the next request
            raise TargetUnavailable("the model did not answer in time", where=self.name) from error
        except aiohttp.ClientError:
            self._kill(process)  # a local socket fails only when its process does
            return None
        self._answered_at = loop.time()
        return reply

    async def _running(self, deadline: float) -> tuple[aiohttp.ClientSession, Process]:
        """Return session and process once there is one that is ready; raises TargetUnavailable."""
        if self.state == "failed":
            raise TargetUnavailable(f"the scorer is down: {self.failure}", where=self.name)
        try:
            async with asyncio.timeout_at(deadline):
                await self._ready.wait()
        except TimeoutError as error:
            raise TargetUnavailable("the scorer is still starting", where=self.name) from error
        assert self._session is not None  # noqa: S101 (that is what ready means)
        assert self._process is not None  # noqa: S101 (same)
        return self._session, self._process

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        pause = 0.0
        while not self._stopping.is_set():
            self.state = "starting"
            self._settled.clear()
            began = loop.time()
            try:
                await self._run()
            except (TaxiwayError, OSError) as error:
                self._fail(error)
                if isinstance(error, IntegrityError):
                    return  # what does not hold now will not hold later: only a new deploy helps
            pause = 0.0 if loop.time() - began > _HEALTHY_SECONDS else pause
            await self._pause(pause)
            pause = min(_LONGEST_PAUSE_SECONDS, max(_FIRST_PAUSE_SECONDS, 2 * pause))

    async def _run(self) -> None:
        """Start the process and return when it has ended; raises when it did not become ready."""
        python = await self._prepare()
        self.starts += 1
        socket = self._sockets / f"{id(self):x}.{self.starts}"
        async with _Pipe() as pipe:
            process = self._process = await self._spawn(python, socket, pipe.write_end)
            pipe.close_write_end()
            output = asyncio.create_task(self._follow(process))
            try:
                await self._serve(process, socket, pipe.reader)
            finally:
                self._kill(process)
                self._process = None
                await process.wait()
                await output
                socket.unlink(missing_ok=True)

    async def _serve(self, process: Process, socket: Path, announcement: asyncio.StreamReader) -> None:
        connector = aiohttp.UnixConnector(path=str(socket), limit=0)
        async with aiohttp.ClientSession(connector=connector) as self._session:
            await self._until_ready(announcement, process)
            self.state, self.failure = "ready", None
            self._ready.set()
            self._settled.set()
            _log.info("%s is ready (process %s)", self.name, process.pid)
            await process.wait()
            self._ready.clear()
            _log.info("%s has ended with code %s", self.name, process.returncode)

    async def _spawn(self, python: Path, socket: Path, ready_pipe: int) -> Process:
        command = [str(python), str(SCRIPTS / "serve.py"), "--model", str(self._model), "--uds", str(socket)]
        command += ["--ready-file", f"/dev/fd/{ready_pipe}", "--queue", str(self._config.queue)]
        return await asyncio.create_subprocess_exec(
            *command,
            "--parent",
            str(os.getpid()),
            cwd=self._sockets,
            env=scrubbed_environment(self._sockets, {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=(ready_pipe,),
            start_new_session=True,
        )

    async def _until_ready(self, announcement: asyncio.StreamReader, process: Process) -> None:
        """Wait for the line that the scorer writes when it has predicted once; the pipe closes when it dies."""
        try:
            async with asyncio.timeout(self._config.start_timeout.total_seconds()):
                if await announcement.readline():
                    return
                await process.wait()
        except TimeoutError as error:
            raise self._not_ready(f"was not ready within {self._config.start_timeout}") from error
        raise self._not_ready("ended while it loaded the model")

    def _not_ready(self, what: str) -> DeliveryStopped:
        lines = self._tail.decode(errors="replace").strip().splitlines()
        return DeliveryStopped(
            f"the scorer {what}: {' | '.join(lines[-3:])}",
            where=self.name,
            next_step="load the model with mlflow.pyfunc.load_model in an environment made from its lock.",
        )

    async def _follow(self, process: Process) -> None:
        """Keep the end of what the process prints; it must never block on a full pipe."""
        assert process.stdout is not None  # noqa: S101 (it was asked for)
        self._tail = b""
        while chunk := await process.stdout.read(_TAIL_BYTES):
            self._tail = (self._tail + chunk)[-_TAIL_BYTES:]

    def _fail(self, error: TaxiwayError | OSError) -> None:
        _log.warning("%s: %s", self.name, error)
        self.failure = error if isinstance(error, TaxiwayError) else DeliveryStopped(str(error), where=self.name)
        self.state = "failed"
        self._settled.set()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass  # the pause is over

    def _kill(self, process: Process | None, sign: signal.Signals = signal.SIGKILL) -> None:
        """Signal the whole group of the process; nobody is sent to a process that was told to end."""
        if process is self._process:
            self._ready.clear()
        if process is not None:
            try:
                os.killpg(process.pid, sign)
            except ProcessLookupError:
                pass  # it has ended by itself


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
