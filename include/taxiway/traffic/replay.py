"""Replays rows of a model's dataset as traffic on an environment, as clients would send them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from taxiway.bootstrap import Services
from taxiway.domain.values import Window
from taxiway.errors import DataError, NotFoundError
from taxiway.spec import ModelSpec
from taxiway.spec_files import load_environments
from taxiway.stages.scoring_protocol import as_split, request
from taxiway.traffic.pace import Answer, Batch, Pace, send
from taxiway.traffic.tally import Summary, Tally

if TYPE_CHECKING:
    import pandas as pd

_NEWEST = timedelta(days=7)
_CHUNK_ROWS = 1000  # rows that are turned into JSON at a time


@dataclass(frozen=True, slots=True)
class Replay:
    """Which rows to send where: those from `start` to `end` (the newest week of the data), `rows` of them at most.

    With `loop` they begin again when they are over. Each request carries `batch` rows.
    """

    spec: ModelSpec
    environment: str
    start: datetime | None = None
    end: datetime | None = None
    rows: int | None = None
    batch: int = 1
    loop: bool = False


def rows_of(replay: Replay, services: Services) -> pd.DataFrame:
    """Return the rows with key, timestamp and features; raises DataError when there are none."""
    data = services.data(replay.spec)
    end = replay.end or data.newest()
    window = Window(replay.start or end - _NEWEST, end)
    task = replay.spec.task
    columns = dict.fromkeys([task.key, task.timestamp, *replay.spec.data.features])
    frame = data.read(window, list(columns)).iloc[: replay.rows]
    if frame.empty:
        raise DataError(
            f"there are no rows from {window.start:%Y-%m-%d} to {window.end:%Y-%m-%d}",
            where=replay.spec.data.uri,
            next_step="choose other dates with --from and --to.",
        )
    return frame


def batches(frame: pd.DataFrame, size: int) -> Iterator[Batch]:
    """Yield requests of `size` rows in the order of the frame; the last one may have fewer."""
    chunk = size * max(1, _CHUNK_ROWS // size)
    for start in range(0, len(frame), chunk):
        split = as_split(frame.iloc[start : start + chunk])
        for first in range(0, len(split["data"]), size):
            rows = split["data"][first : first + size]
            yield Batch(request({**split, "data": rows}), len(rows))


async def replay_rows(
    replay: Replay,
    frame: pd.DataFrame,
    services: Services,
    pace: Pace,
    *,
    hear: Callable[[Answer], None] = lambda answer: None,
    stop: asyncio.Event | None = None,
) -> Summary:
    """Send the rows and return what came back; a failed request is counted, and is no error.

    Raises NotFoundError when the environment is not known or does not serve the model, TargetUnavailable when its
    gateway does not answer.
    """
    model = replay.spec.model
    status = await asyncio.to_thread(services.target(replay.environment).status, model)
    if status.plan is None:
        raise NotFoundError(
            f"{model} is not served in {replay.environment}", next_step="deliver a version of it (`taxiway status`)."
        )
    tally = Tally()

    def heard(answer: Answer) -> None:
        tally.hear(answer)
        hear(answer)

    url, token = _address(replay.environment, model, services), services.data_token(replay.environment)
    await send(url, requests(replay, frame), pace, heard, stop, token=token)
    return tally.summary()


def requests(replay: Replay, frame: pd.DataFrame) -> Iterator[Batch]:
    """Yield the requests of the replay, endlessly when it loops."""
    while True:
        yield from batches(frame, replay.batch)
        if not replay.loop:
            return


def _address(environment: str, model: str, services: Services) -> str:
    known = load_environments(services.settings.environments, services.settings.variables)
    return f"{known[environment].url.rstrip('/')}/models/{model}/invocations"
