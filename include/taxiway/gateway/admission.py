"""Who comes in: with the token of the path, and while there is memory for what the request brings."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from taxiway.gateway.answers import CONTROL, Handler
from taxiway.gateway.config import Config

_DATA = "/models/"
_LEAST_BYTES = 16 * 1024  # what a request takes besides its body


class Admission:
    """Checks tokens, and counts the bytes of the requests that are on their way."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._held = 0

    @web.middleware
    async def authorise(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let a request pass to the handler when it shows the token of its path, compared in constant time.

        The path is that of the route that will answer, not the text of the address. Raises HTTPUnauthorized.
        """
        resource = request.match_info.route.resource
        wanted = self._token(resource.canonical if resource is not None else request.path)
        shown = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if wanted and not hmac.compare_digest(shown, f"Bearer {wanted}".encode()):
            raise web.HTTPUnauthorized(text="the token is missing or wrong", headers={"WWW-Authenticate": "Bearer"})
        return await handler(request)

    @asynccontextmanager
    async def body(self, request: web.Request) -> AsyncIterator[bytes]:
        """Yield the request's body; its bytes count as held until the block ends.

        Raises HTTPRequestEntityTooLarge, HTTPTooManyRequests when no more can be held, HTTPRequestTimeout when the body
        does not arrive in time.
        """
        size = self._announced(request)
        if self._held + size > self._config.max_held_bytes:
            raise web.HTTPTooManyRequests(text="the gateway holds as many requests as it has memory for")
        self._held += size
        try:
            body = await self._received(request)
            arrived = _LEAST_BYTES + len(body)
            self._held, size = self._held - size + arrived, arrived
            yield body
        finally:
            self._held -= size

    async def _received(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(self._config.receive_timeout.total_seconds()):
                return await request.read()
        except TimeoutError as error:
            raise web.HTTPRequestTimeout(text="the body did not arrive in time") from error

    def _token(self, path: str) -> str:
        """Return what must be shown on the path; empty for what everybody may see."""
        if path.startswith(CONTROL):
            return self._config.token
        return self._config.data_token if path.startswith(_DATA) else ""

    def _announced(self, request: web.Request) -> int:
        """Return how many bytes the request may bring; one that does not say may bring the most."""
        most = self._config.max_request_bytes
        if request.content_length is None or "Content-Encoding" in request.headers:
            return _LEAST_BYTES + most
        if request.content_length > most:
            raise web.HTTPRequestEntityTooLarge(most, request.content_length)
        return _LEAST_BYTES + request.content_length
