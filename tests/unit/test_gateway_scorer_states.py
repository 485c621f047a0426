"""What a scorer says of itself while its process does not live, or cannot be started."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from taxiway.errors import DeliveryStopped
from taxiway.gateway.config import Config
from taxiway.gateway.scorers import Scorer

pytestmark = pytest.mark.timeout(30)
READY_FILE = 'while [ "$1" != --ready-file ]; do shift; done; exec > "$2"\n'
"""The beginning of a script that stands for a model's python: what it prints goes to the ready file."""


async def test_between_two_deaths_nobody_is_told_that_it_is_ready(tmp_path: Path) -> None:
    """A scorer that dies as soon as it is ready is starting until the next one is; who deploys it waits for that."""
    place = tmp_path / "place"
    async with _scorer(tmp_path, _python(tmp_path, "echo ready\n")) as scorer:
        await _until(lambda: scorer.starts > 1 and not any(place.iterdir()))  # the first time nobody pauses
        deployment = asyncio.create_task(scorer.settled())
        await asyncio.sleep(0)
        found = scorer.state, deployment.done()
        deployment.cancel()

    assert found == ("starting", False)
    assert "the scorer died (exit code 0)" in scorer.ending


async def test_a_model_that_writes_to_the_ready_file_as_it_likes_fails(tmp_path: Path) -> None:
    """More than a line can hold is no announcement: the deployment is refused, and does not wait for ever."""
    babbling = _python(tmp_path, "head -c 200000 /dev/zero\nsleep 3600\n")
    async with _scorer(tmp_path, babbling) as scorer:
        with pytest.raises(DeliveryStopped, match="something else than a line"):
            await scorer.settled()


async def test_an_error_that_nobody_foresaw_is_told_to_who_waits(tmp_path: Path) -> None:
    """Whatever goes wrong before the start, the deployment is refused with it, and a later start may succeed."""
    prepare = _python(tmp_path, "echo ready\nsleep 3600\n")
    errors = iter([KeyError("a bug")])

    async def broken_once() -> Path:
        for error in errors:
            raise error
        return await prepare()

    async with _scorer(tmp_path, broken_once) as scorer:
        with pytest.raises(DeliveryStopped, match=r"KeyError: 'a bug'.*gateway's log"):
            await scorer.settled()
        await _until(lambda: scorer.state == "ready")


def _python(directory: Path, script: str) -> Callable[[], Awaitable[Path]]:
    """Return what prepares a scorer with a script in the place of the model's python."""
    python = directory / "model" / "python"  # where the fence lets it be seen
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\n{READY_FILE}{script}")
    python.chmod(0o755)

    async def prepare() -> Path:
        return python

    return prepare


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (no other thread may look: what it saw would be over when it is told)
        await asyncio.sleep(0.01)


@asynccontextmanager
async def _scorer(directory: Path, prepare: Callable[[], Awaitable[Path]]) -> AsyncIterator[Scorer]:
    """Run a scorer during the block; its processes are in the directory's `place`."""
    place = directory / "place"
    place.mkdir()
    config = Config("staging", directory, directory, "token")
    scorer = Scorer("flights version 1", directory / "model", prepare=prepare, place=place, config=config)
    try:
        yield scorer
    finally:
        await scorer.stop()
