"""Who may serve an environment, and what a successor and the supervisor say to each other."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from taxiway.errors import DeliveryStopped, SettingsError
from taxiway.gateway.turn import Turn


@dataclass
class World:
    """A process that serves, its successor, and the supervisor's end of the line."""

    holder: Turn
    successor: Turn
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def said(self) -> str:
        return (await asyncio.wait_for(self.reader.readline(), 10)).decode().strip()


async def _nothing() -> None:
    """Load nothing."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    holder = Turn(tmp_path)
    await holder.take(_nothing)
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    with theirs:
        successor = Turn(tmp_path, theirs)
        yield World(holder, successor, reader, writer)
        successor.end()
    holder.end()
    writer.close()


async def test_one_process_serves(world: World, tmp_path: Path) -> None:
    """Another process that nobody ordered is refused while one serves, and may when that has let go."""
    other = Turn(tmp_path)
    with pytest.raises(SettingsError, match="another gateway serves"):
        await other.take(_nothing)
    world.holder.end()
    await other.take(_nothing)
    other.end()


async def test_a_successor_waits_for_word_and_turn(world: World) -> None:
    """It is warm first, then let, and has the turn when the holder has let go; the supervisor may be dead by then."""
    taking = asyncio.create_task(world.successor.take(_nothing))
    assert await world.said() == "warm"
    world.writer.write(b"go\n")
    await world.writer.drain()
    world.writer.close()
    await world.writer.wait_closed()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(taking), 0.2)

    world.holder.end()

    await asyncio.wait_for(taking, 10)
    world.successor.say_serving()  # nobody hears it


async def test_a_supervisor_that_dies_before_go_ends_the_successor(world: World) -> None:
    """It gives up while it loads, though the turn may be free: nobody would ever end it."""
    taking = asyncio.create_task(world.successor.take(asyncio.Event().wait))  # type: ignore[arg-type]
    world.holder.end()
    world.writer.close()

    with pytest.raises(SettingsError, match="supervisor has ended"):
        await asyncio.wait_for(taking, 10)


async def test_a_successor_that_cannot_load_says_why(world: World) -> None:
    """The reason reaches the supervisor in one line, and the holder keeps its turn."""

    async def fail() -> None:
        raise DeliveryStopped("the model\nis broken", where="here")

    with pytest.raises(DeliveryStopped):
        await world.successor.take(fail)

    assert "the model is broken" in await world.said()
