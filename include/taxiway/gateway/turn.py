"""Whose turn it is to serve an environment: one process at a time, and how it passes to a successor (ADR 0011).

The turn is a lock on the environment's directory. Its holder alone writes the state and the versions' files, and
accepts requests; the kernel takes it from a holder that dies. A successor is started beside the holder with one end
of a line to the supervisor. It loads what the state wants, and says `warm`; the supervisor answers `go` and ends the
holder; the successor waits for the turn, and says `serving` when it has it. Or it says why it cannot, and ends. A line
that ends before `go` ends the successor too: nobody would ever end the holder. After `go` it needs nobody.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from taxiway.errors import SettingsError, TaxiwayError

_POLL = 0.01
_PATIENCE = 90.0  # seconds; a holder that was told to end is killed long before


class Turn:
    """The turn of one process; with a line to the supervisor it is a successor's."""

    def __init__(self, directory: Path, line: socket.socket | None = None) -> None:
        self._directory = directory
        self._line = line
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = (directory / "gateway.lock").open("w")

    async def take(self, load: Callable[[], Awaitable[None]]) -> None:
        """Return when it is this process's turn; a successor first loads beside the holder.

        Raises SettingsError when another process has it and does not let go, or what `load` raises.
        """
        if self._line is None:
            if not self._is_free():
                raise self._taken("stop it first (`taxiway down`).")
            return
        try:
            await self._beside(load, self._line)
        except TaxiwayError as error:
            self._say(" ".join(str(error).split()))
            raise

    def say_serving(self) -> None:
        """Tell the supervisor that the hand-over is done."""
        self._say("serving")

    def end(self) -> None:
        """Let the next process have the turn; this one changes nothing and accepts nobody any more."""
        self._lock.close()

    async def _beside(self, load: Callable[[], Awaitable[None]], line: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=line.dup())
        word = asyncio.ensure_future(reader.readline())
        loading = asyncio.ensure_future(load())
        try:
            await asyncio.wait({word, loading}, return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                loading.result()
                self._say("warm")
            if not await word:
                raise SettingsError("the supervisor has ended", where=str(self._directory))
        finally:
            for task in (word, loading):
                task.cancel()
            writer.close()
        try:
            async with asyncio.timeout(_PATIENCE):
                while not self._is_free():  # noqa: ASYNC110 (another process: there is no event)
                    await asyncio.sleep(_POLL)
        except TimeoutError as error:
            raise self._taken("end that process; then reload again.") from error

    def _is_free(self) -> bool:
        """Try to get the lock."""
        with suppress(BlockingIOError):
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def _say(self, text: str) -> None:
        if self._line is not None:
            with suppress(OSError):  # a supervisor that has died hears nothing
                self._line.sendall(f"{text}\n".encode())

    def _taken(self, next_step: str) -> SettingsError:
        where = str(self._directory)
        return SettingsError("another gateway serves this environment", where=where, next_step=next_step)
