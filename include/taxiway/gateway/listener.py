"""Serves an application on a listening socket, and ends without losing a request.

The socket may be the supervisor's: then connections wait in its backlog while the process is exchanged. Therefore
nothing is accepted before the application can answer, and the end has an order: every answer closes its connection
while others are still accepted, then nothing more is accepted, then no request begins any more (the application's
`on_shutdown`: the next process may accept), then what has begun is answered.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Set

from aiohttp import web

from taxiway.errors import SettingsError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BACKLOG = 1024  # connections; more than that try again by themselves after a second
_GRACE = 1.0  # seconds in which a caller with an idle connection learns that it ends, by the answer to a request
_POLL = 0.02


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket on the address; raises SettingsError when it is taken."""
    try:
        return socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        where = f"{host}:{port}"
        raise SettingsError(f"the address cannot be listened on: {error}", where=where) from error


async def serve(app: web.Application, listener: socket.socket, *, drain_seconds: float) -> None:
    """Serve until SIGTERM or SIGINT; requests that have begun then get `drain_seconds` at most."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def close_after_answer(_: web.Request, response: web.StreamResponse) -> None:
        if stop.is_set():
            response.headers["Connection"] = "close"
            response.force_close()

    begun: set[object] = set()

    @web.middleware
    async def note_connection(request: web.Request, handler: Handler) -> web.StreamResponse:
        if stop.is_set():
            begun.add(request.protocol)
        return await handler(request)

    app.on_response_prepare.append(close_after_answer)
    app.middlewares.append(note_connection)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=drain_seconds)
    try:
        await runner.setup()
        site = web.SockSite(runner, listener, backlog=BACKLOG)
        await site.start()
        await stop.wait()
        await _drain(runner, site, begun)
    finally:
        await runner.cleanup()


async def _drain(runner: web.AppRunner, site: web.SockSite, begun: Set[object]) -> None:
    """Return when the only open connections are idle ones, or ones whose request has begun (`begun`: since the end)."""
    server = runner.server
    assert server is not None  # noqa: S101 (the runner was set up)
    earlier = set(server.connections)
    await _until(lambda: not earlier.intersection(server.connections))
    await site.stop()
    # Whoever came since then has yet to ask; whoever was there before and is silent has nothing to lose. The next
    # process waits for this, but not for answers to what has begun.
    await _until(lambda: earlier.union(begun).issuperset(server.connections))


async def _until(condition: Callable[[], bool]) -> None:
    """Wait for the condition, but not longer than the grace; what was accepted a moment ago shows up first."""
    deadline = asyncio.get_running_loop().time() + _GRACE
    while asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_POLL)
        if condition():
            return
