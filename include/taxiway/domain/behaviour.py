"""Behavioural tests: how predictions move when one column of their rows is changed, and whether they may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

_TOLERANCE = 1e-6
"""Relative to predictions above 1, absolute below: what rounding may move."""


@dataclass(frozen=True, slots=True)
class Movement:
    """How predictions moved: `share` of the rows did as expected, `worst` is the position of the one that did least.

    `largest` is the largest change (invariance), or the largest one against the expected direction; `mean` is the mean
    change (invariance: without its sign). Not finite when a prediction is not.
    """

    rows: int
    largest: float
    mean: float
    share: float
    worst: int
    holds: bool


def other_rows(values: Sequence[Any], positions: Sequence[int], rng: np.random.Generator) -> list[int | None]:
    """Return for each position a row that has another value, drawn evenly from all that have; None: there is none.

    None, which stands for a missing value, is a value as any other.
    """
    kinds: dict[Any, int] = {}
    codes = np.array([kinds.setdefault(value, len(kinds)) for value in values], dtype=int)
    order = np.argsort(codes, kind="stable")  # rows of one value are neighbours: draw from what is before and after
    counts = np.bincount(codes, minlength=len(kinds))
    starts = np.cumsum(counts) - counts
    drawn: list[int | None] = []
    for position in positions:
        start, count = starts[codes[position]], counts[codes[position]]
        if count == len(codes):
            drawn.append(None)
            continue
        place = int(rng.integers(len(codes) - count))
        drawn.append(int(order[place if place < start else place + count]))
    return drawn


def invariance(before: Sequence[Any], after: Sequence[Any], *, max_change: float, labels: bool) -> Movement:
    """Judge predictions that may hardly move: no row by more than `max_change`.

    Predictions are numbers (n), class scores (n, k), of which the largest change counts, or labels (n; `labels`), where
    another label is a change of 1. A prediction that is no finite number moves without bounds.
    """
    moved = _unlike(before, after) if labels else _distances(_numbers(before), _numbers(after))
    within = moved <= max_change + _TOLERANCE
    return _movement(badness=moved, changes=moved, expected=within, holds=bool(within.all()))


def direction(before: Sequence[float], after: Sequence[float], *, rises: bool, min_share: float) -> Movement:
    """Judge numbers (n) of which at least `min_share` must rise (or fall), or stay within rounding."""
    first, second = _numbers(before), _numbers(after)
    with np.errstate(invalid="ignore"):
        changes = second - first
    against = np.where(np.isfinite(changes), -changes if rises else changes, np.inf)
    expected = against <= _TOLERANCE * np.maximum(1.0, np.abs(first))
    share = float(expected.mean()) if len(expected) else 1.0
    return _movement(badness=np.maximum(against, 0.0), changes=changes, expected=expected, holds=share >= min_share)


def _movement(*, badness: Array, changes: Array, expected: Array, holds: bool) -> Movement:
    if not len(badness):
        return Movement(rows=0, largest=0.0, mean=0.0, share=1.0, worst=0, holds=holds)
    return Movement(
        rows=len(badness),
        largest=float(badness.max()),
        mean=float(changes.mean()),
        share=float(expected.mean()),
        worst=int(badness.argmax()),
        holds=holds,
    )


def _numbers(values: Sequence[Any]) -> Array:
    return np.array(values, dtype=np.float64)  # None becomes NaN


def _unlike(before: Sequence[Any], after: Sequence[Any]) -> Array:
    pairs = zip(before, after, strict=True)
    return np.array([np.inf if None in pair else float(pair[0] != pair[1]) for pair in pairs], dtype=np.float64)


def _distances(before: Array, after: Array) -> Array:
    with np.errstate(invalid="ignore"):
        distances: Array = np.abs(after - before)
    distances[~np.isfinite(distances)] = np.inf
    if distances.ndim > 1:
        distances = distances.max(axis=1, initial=0.0)
    return distances
