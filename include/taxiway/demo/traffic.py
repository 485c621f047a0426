"""Replays rows of the dataset as traffic on production, as clients would send it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taxiway.ports import ServingTarget

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was sent and who answered: rows by version."""

    rows: int
    requests: int
    rows_by_version: dict[int, int]


def replay(
    target: ServingTarget, model: str, frame: pd.DataFrame, *, batch: int, progress: Callable[[int], None]
) -> Replayed:
    """Send the rows in order, `batch` rows a request; raises what the target raises at the first refusal."""
    rows_by_version: dict[int, int] = {}
    requests = 0
    for start in range(0, len(frame), batch):
        part = frame.iloc[start : start + batch]
        answer = target.predict(model, part)
        rows_by_version[answer.version] = rows_by_version.get(answer.version, 0) + len(part)
        requests += 1
        progress(start + len(part))
    return Replayed(len(frame), requests, rows_by_version)
