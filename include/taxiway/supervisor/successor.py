"""A process that is started beside the one it shall replace, and the line to it.

The words of both sides are described in `taxiway.gateway.turn`; a line that ends says that the other side has ended.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping

WARM, SERVING = "warm", "serving"
WARM_SECONDS = 180.0
_GO = b"go\n"
Spawn = Callable[[Mapping[str, int]], Awaitable[Process]]


class Successor:
    """One successor: it gets warm, is let, and serves; what else it says is why it cannot."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.process = process
        self._reader = reader
        self._writer = writer

    async def says(self, word: str, patience: float) -> str:
        """Return why it does not say the word; empty when it does."""
        try:
            async with asyncio.timeout(patience):
                said = (await self._reader.readline()).decode(errors="replace").strip()
        except TimeoutError:
            return f"it was not {word} after {patience:g} s"
        return "" if said == word else said or f"it ended before it was {word}"

    def go(self) -> None:
        """Let it take over when the other one has ended; from now on it needs nobody."""
        self._writer.write(_GO)

    def close(self) -> None:
        """Close the line."""
        self._writer.close()


async def start_successor(spawn: Spawn) -> Successor:
    """Start a process with `--line N`, its end of a new line."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = await spawn({"--line": theirs.fileno()})
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    return Successor(process, reader, writer)
