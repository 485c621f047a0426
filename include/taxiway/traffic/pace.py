"""Sends scoring requests at a steady pace and says what came back.

With a rate the loop is open: a request is sent when it is due, however slow the answers before it are, as long as one
of the connections is free. Its latency counts from when it was due, so waiting for a connection is not left out. Who
is more than a second late gives the missed requests up, and keeps the pace from there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import aiohttp

from taxiway.stages.scoring_protocol import JSON

_OK = 200
_LATEST = 1.0  # seconds
_PATIENCE = aiohttp.ClientTimeout(total=60)
_VERSION = "X-Taxiway-Model-Version"


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast to send: requests per second (None: the next one when one is answered), connections, seconds at most."""

    rate: float | None = None
    concurrency: int = 4
    duration: float | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """One request: its body, and how many rows it has."""

    body: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request.

    `due` is when it should have been sent (seconds of the monotonic clock), `seconds` how long it took from then.
    `version` is the one that answered, None for anything but 200; `outcome` is the status, or the kind of the error
    of the connection.
    """

    due: float
    seconds: float
    outcome: str
    version: int | None
    rows: int


async def send(
    url: str,
    batches: Iterator[Batch],
    pace: Pace,
    hear: Callable[[Answer], None],
    stop: asyncio.Event | None = None,
    *,
    token: str = "",
) -> None:
    """Send the batches to the address until they or the time are over, or `stop` is set; what was sent is awaited.

    Every answer is reported to `hear`, in the order of the answers. Nothing is sent again. A data path that is closed
    wants its `token`.
    """
    headers = {"Content-Type": JSON, **({"Authorization": f"Bearer {token}"} if token else {})}
    # A proxy of the environment never comes between, and the number of connections is the limit of the concurrency.
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=_PATIENCE) as session:
        sender = _Sender(session, url, hear)
        timetable = _Timetable(pace, stop or asyncio.Event())
        async with asyncio.TaskGroup() as workers:
            for _ in range(pace.concurrency):
                workers.create_task(_work(sender, batches, timetable))


class _Timetable:
    """When the next request is due; shared by the workers, each of which is one connection."""

    def __init__(self, pace: Pace, stop: asyncio.Event) -> None:
        self._step = 1 / pace.rate if pace.rate else None
        self._next = time.monotonic()
        self._end = None if pace.duration is None else self._next + pace.duration
        self._stop = stop

    async def wait(self) -> float | None:
        """Return the moment the next request is due once it has come; None when there is no further one."""
        now = time.monotonic()
        due = now if self._step is None else max(self._next, now - _LATEST)
        if self._stop.is_set() or (self._end is not None and due >= self._end):
            return None
        if self._step is None:
            return due
        self._next = due + self._step
        early = due - now
        if early > 0:
            try:
                async with asyncio.timeout(early):
                    await self._stop.wait()
            except TimeoutError:
                return due
            return None
        return due


class _Sender:
    """Sends single requests over kept connections."""

    def __init__(self, session: aiohttp.ClientSession, url: str, hear: Callable[[Answer], None]) -> None:
        self._session = session
        self._url = url
        self._hear = hear

    async def send(self, batch: Batch, due: float) -> None:
        """Send one request and report what came back."""
        version = None
        try:
            async with self._session.post(self._url, data=batch.body) as response:
                await response.read()
                outcome = str(response.status)
                if response.status == _OK:
                    version = int(response.headers.get(_VERSION, 0))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            outcome = type(error).__name__
        self._hear(Answer(due, time.monotonic() - due, outcome, version, batch.rows))


async def _work(sender: _Sender, batches: Iterator[Batch], timetable: _Timetable) -> None:
    while (due := await timetable.wait()) is not None:
        batch = next(batches, None)
        if batch is None:
            return
        await sender.send(batch, due)
