"""The pace of the traffic, against a small server in this process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from taxiway.traffic.pace import Answer, Batch, Pace, send
from taxiway.traffic.tally import Tally
from tests.conftest import free_port

Handler = Callable[[web.Request], Awaitable[web.Response]]
BATCH = Batch(b"{}", 2)


async def test_a_slow_answer_slows_no_request() -> None:
    """With a rate the next request is sent though the ones before it are not answered."""
    arrived = asyncio.Barrier(4)

    async def answer(_: web.Request) -> web.Response:
        await arrived.wait()  # nobody is answered before four are here
        return web.Response(headers={"X-Taxiway-Model-Version": "3"})

    heard = await _sent(answer, itertools.repeat(BATCH, 8), Pace(rate=1000, concurrency=4))

    assert [answer.version for answer in heard] == [3] * 8


async def test_no_more_at_a_time_than_asked_for() -> None:
    """The concurrency is a limit, with and without a rate."""
    now, most = 0, 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return web.Response()

    for rate in (None, 10_000.0):
        assert len(await _sent(answer, itertools.repeat(BATCH, 50), Pace(rate=rate, concurrency=3))) == 50
    assert most <= 3


async def test_it_ends() -> None:
    """The time, or who stops it, ends an endless replay."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    endless = itertools.repeat(BATCH)
    assert 1 <= len(await _sent(answer, endless, Pace(rate=100, duration=0.05))) <= 6

    stop = asyncio.Event()
    heard: list[Answer] = []

    def hear(answer: Answer) -> None:
        heard.append(answer)
        stop.set()

    async with _served(answer) as url:
        await send(url, endless, Pace(rate=0.01, concurrency=2), hear, stop)
    assert len(heard) == 1


async def test_what_fails_is_counted() -> None:
    """Every status but 200, and every broken connection, is a failed request; nothing is sent again."""
    asked = itertools.count()

    async def answer(request: web.Request) -> web.Response:
        number = next(asked)
        if number == 1:
            return web.Response(status=503)
        if number == 2 and request.transport is not None:
            request.transport.close()
        return web.Response(headers={"X-Taxiway-Model-Version": "7"})

    tally = Tally()
    for heard in await _sent(answer, itertools.repeat(BATCH, 4), Pace(concurrency=1)):
        tally.hear(heard)
    summary = tally.summary()

    assert (summary.requests, summary.failed, summary.rows) == (4, 2, 4)
    assert summary.failures == {"503": 1, "ServerDisconnectedError": 1}
    assert (summary.answers_by_version, summary.rows_by_version) == ({7: 2}, {7: 4})
    assert next(asked) == 4


async def test_nobody_listens() -> None:
    """A refused connection is a failed request too."""
    heard: list[Answer] = []

    await send(f"http://127.0.0.1:{free_port()}/", iter([BATCH]), Pace(), heard.append)

    assert [answer.outcome for answer in heard] == ["ClientConnectorError"]


async def _sent(handler: Handler, batches: itertools.repeat[Batch], pace: Pace) -> list[Answer]:
    heard: list[Answer] = []
    async with _served(handler) as url, asyncio.timeout(60):
        await send(url, batches, pace, heard.append)
    return heard


@asynccontextmanager
async def _served(handler: Handler) -> AsyncIterator[str]:
    app, port = web.Application(), free_port()
    app.router.add_post("/", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        await runner.cleanup()
