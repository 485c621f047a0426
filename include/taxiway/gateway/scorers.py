"""Scorer processes: each serves one version on a Unix socket, and is kept alive until it is stopped."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aiohttp

from taxiway.errors import DeliveryStopped, IntegrityError, TargetUnavailable, TaxiwayError
from taxiway.gateway.config import Config
from taxiway.gateway.scorer_process import ScorerProcess, launched
from taxiway.stages.process_tree import describe_exit

_log = logging.getLogger(__name__)
_LONGEST_PAUSE_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.5
_HEALTHY_SECONDS = 60.0
_GRACE_SECONDS = 1.0
_URL = "http://scorer/invocations"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a scorer answered: HTTP status and JSON body."""

    status: int
    body: bytes


_BUSY = Reply(
    429, json.dumps({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "too many requests are waiting"}).encode()
)


class Scorer:
    """One version's process: started, watched, started again with a growing pause, drained, stopped.

    `prepare` is awaited before each start; it checks the version's files and returns the python to run them with.
    `ending` says how the last process ended that nobody had told to.
    """

    def __init__(
        self, name: str, model: Path, *, prepare: Callable[[], Awaitable[Path]], place: Path, config: Config
    ) -> None:
        self.name = name
        self.state: Literal["starting", "ready", "failed"] = "starting"
        self.failure: TaxiwayError | None = None
        self.ending = ""
        self.starts = 0
        self._model = model
        self._prepare = prepare
        self._place = place
        self._config = config
        self._process: ScorerProcess | None = None
        self._session: aiohttp.ClientSession | None = None
        self._answered_at = 0.0
        self._inflight = self._inflight_bytes = 0
        self._ready = asyncio.Event()
        self._settled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._supervise())

    @property
    def is_busy(self) -> bool:
        """Tell whether another request would be refused."""
        return self._inflight >= self._config.queue or self._inflight_bytes >= self._config.max_held_bytes

    async def settled(self) -> None:
        """Wait until the running start has succeeded or failed; raises what the last start failed with."""
        await self._settled.wait()
        if self.failure is not None:
            raise self.failure

    async def predict(self, body: bytes, content_type: str, *, patient: bool = True) -> Reply:
        """Return the scorer's answer, status 429 when too many requests wait for it.

        With patience, it waits while the process is being started again, and asks the next one once more when the
        process ends meanwhile; without, it does neither: another version answers sooner. Raises TargetUnavailable when
        the scorer is down, or takes too long.
        """
        if self.is_busy:
            return _BUSY
        self._inflight += 1
        self._inflight_bytes += len(body)
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
            self._inflight_bytes -= len(body)
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
        self._kill(self._process)
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
                    reply = Reply(response.status, await self._content(response))
        except TimeoutError as error:
            if self._answered_at < asked_at:
                process.mute = True
                self._kill(process)  # a fresh process serves the next request
            raise TargetUnavailable("the model did not answer in time", where=self.name) from error
        except (aiohttp.ClientError, OSError):
            self._let_end(process)  # a local socket fails only when its process does
            if process.limit:
                raise TargetUnavailable(f"the scorer met its {process.limit}", where=self.name) from None
            return None
        self._answered_at = loop.time()
        return reply

    async def _running(self, deadline: float) -> tuple[aiohttp.ClientSession, ScorerProcess]:
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

    async def _content(self, response: aiohttp.ClientResponse) -> bytes:
        """Return the body of an answer; raises TargetUnavailable when it is longer than this process can hold."""
        content = bytearray()
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > self._config.max_answer_bytes:
                raise TargetUnavailable("the model's answer is too long", where=self.name)
        return bytes(content)

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        pause = 0.0
        while not self._stopping.is_set():
            self._begin()
            began = loop.time()
            try:
                await self._run()
            except Exception as error:  # noqa: BLE001 (whatever it is: who waits for the scorer would wait for ever)
                self._fail(error)
                if isinstance(error, IntegrityError):
                    return  # what does not hold now will not hold later: only a new deploy helps
            pause = 0.0 if loop.time() - began > _HEALTHY_SECONDS else pause
            await self._pause(pause)
            pause = min(_LONGEST_PAUSE_SECONDS, max(_FIRST_PAUSE_SECONDS, 2 * pause))

    async def _run(self) -> None:
        """Start the process and return when it has ended; raises when it did not become ready, or met a limit."""
        python = await self._prepare()
        self.starts += 1
        directory = self._place / f"{id(self):x}.{self.starts}"
        async with launched(self._model, python, directory=directory, config=self._config) as process:
            self._process = process
            try:
                if not self._stopping.is_set():  # it may have been told to while the process was being launched
                    await self._serve(process)
            finally:
                self._ready.clear()
                self._process = None

    async def _serve(self, process: ScorerProcess) -> None:
        connector = aiohttp.UnixConnector(path=str(process.address), limit=0)
        async with _session(connector) as self._session:
            await self._until_ready(process)
            self.state, self.failure = "ready", None
            self._ready.set()
            self._settled.set()
            _log.info("%s is ready (process %s)", self.name, process.pid)
            code = await process.ended()
            self._ready.clear()
            if not self._stopping.is_set():
                self._begin()  # nobody answers until the next one is ready, however long the pause is before its start
            _log.info("%s has ended (%s)", self.name, describe_exit(code))
            if process.limit:
                stopped = _stopped_at(process.limit, self.name)
                self.ending = str(stopped)  # at once: what is left of it has yet to be removed
                raise stopped
            if process.mute:
                self.ending = f"the scorer was killed: it answered nobody within {self._config.predict_timeout}"
            elif not self._stopping.is_set():
                self.ending = f"the scorer died ({describe_exit(code)})"

    async def _until_ready(self, process: ScorerProcess) -> None:
        """Wait for the line that the scorer writes when it has predicted once; the pipe closes when it dies."""
        try:
            async with asyncio.timeout(self._config.start_timeout.total_seconds()):
                if await process.announcement.readline():
                    return
                await process.ended()
        except TimeoutError as error:
            raise self._not_ready(process, f"was not ready within {self._config.start_timeout}") from error
        except ValueError as error:  # longer than any line that this process would hold
            raise self._not_ready(process, "wrote something else than a line to its ready file") from error
        if process.limit:
            raise _stopped_at(process.limit, self.name)
        raise self._not_ready(process, "ended while it loaded the model")

    def _not_ready(self, process: ScorerProcess, what: str) -> DeliveryStopped:
        return DeliveryStopped(
            f"the scorer {what}: {process.last_words}",
            where=self.name,
            next_step="load the model with mlflow.pyfunc.load_model in an environment made from its lock.",
        )

    def _begin(self) -> None:
        """Say that it starts: whoever asks how that went has to wait."""
        self.state = "starting"
        self._settled.clear()

    def _fail(self, error: Exception) -> None:
        """Say that the start failed; what nobody refused, but simply went wrong, goes to the log with its traceback."""
        self.failure = error if isinstance(error, TaxiwayError) else _broken(error, self.name)
        _log.warning("%s: %s", self.name, error, exc_info=None if error is self.failure else error)
        self.ending = str(self.failure)
        self.state = "failed"
        self._settled.set()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass  # the pause is over

    def _let_end(self, process: ScorerProcess) -> None:
        """Send the process no request any more, and kill it unless it ends by itself: then its exit code tells why."""
        if process is self._process:
            self._ready.clear()
            asyncio.get_running_loop().call_later(_GRACE_SECONDS, self._kill, process)

    def _kill(self, process: ScorerProcess | None) -> None:
        """Kill the process; no request is sent to it any more."""
        if process is not None and process is self._process:
            self._ready.clear()
            process.kill()


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    """Return a session with nothing that a scorer does not need: every request pays for it."""
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),  # every request has its own deadline
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
    )


def _broken(error: Exception, name: str) -> DeliveryStopped:
    what = f"the scorer cannot be run: {type(error).__name__}: {error}"
    return DeliveryStopped(what, where=name, next_step="look for the traceback in the gateway's log.")


def _stopped_at(limit: str, name: str) -> DeliveryStopped:
    return DeliveryStopped(
        f"the scorer was killed at its {limit}",
        where=name,
        next_step="make the model need less, or give the scorers of this environment more.",
    )
