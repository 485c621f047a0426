"""What a target saw of one version: counts and small summaries, enough to compare two versions and no more."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from taxiway.domain.drift import Profile

_WIDTH = 1.02
"""Neighbouring limits of latency buckets: a latency is known to 2 %."""
_SHORTEST_MS = 0.01


@dataclass(frozen=True, slots=True)
class Latencies:
    """How long answers took: bucket b counts those in (1.02^(b-1), 1.02^b] milliseconds."""

    counts: Mapping[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Count the answers."""
        return sum(self.counts.values())

    def smallest(self, rank: int) -> float:
        """Return what the rank-th smallest latency (from 1) does not exceed; infinite when there are fewer."""
        bucket = _at(rank, sorted(self.counts.items()))
        return math.inf if bucket is None else _WIDTH**bucket

    def largest(self, rank: int) -> float:
        """Return what the rank-th largest latency (from 1) exceeds; 0 when there are fewer."""
        bucket = _at(rank, sorted(self.counts.items(), reverse=True))
        return 0.0 if bucket is None else _WIDTH ** (bucket - 1)

    def quantile(self, share: float) -> float:
        """Return what at least this share does not exceed, to 1 %; 0 without answers."""
        bucket = _at(max(1, math.ceil(share * self.total)), sorted(self.counts.items()))
        return 0.0 if bucket is None else _WIDTH ** (bucket - 0.5)


def latency_bucket(milliseconds: float) -> int:
    """Return the bucket of a latency; what is shorter than 10 microseconds counts as that."""
    return math.ceil(math.log(max(milliseconds, _SHORTEST_MS)) / math.log(_WIDTH))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How alike a shadow and the champion answered the same `requests`.

    `value` is the share of equal answers for classes, and the concordance for numbers (see `concordance`).
    """

    requests: int
    value: float
    measure: str


EQUAL, CONCORDANCE = "equal answers", "concordance"


def concordance(ours: ArrayLike, theirs: ArrayLike) -> float:
    """Return Lin's concordance correlation of paired numbers: 1 for equal ones, 0 for unrelated ones.

    2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2) (L. Lin, Biometrics 45, 1989): unlike a correlation it falls with a shift
    or another scale. Constants that are equal agree.
    """
    x, y = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    spread = float(x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    return 1.0 if spread == 0 else float(2 * np.mean((x - x.mean()) * (y - y.mean())) / spread)


@dataclass(frozen=True, slots=True)
class VersionObservation:
    """What one version did since a moment.

    Counts are requests. `dropped` are copies that a shadow was not sent because it could not keep up: no errors.
    `latencies` are those of answered requests. `predictions` are on bins of the champion's predictions, so two
    versions' profiles can be compared; a bounded sample of the rows.
    """

    version: int
    requests: int = 0
    errors: int = 0
    dropped: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    prediction_mean: float | None = None
    predictions: Profile | None = None
    agreement: Agreement | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the observation as a JSON object."""
        agreement = self.agreement
        return {
            **{name: getattr(self, name) for name in ("version", "requests", "errors", "dropped", "prediction_mean")},
            "latencies": {str(bucket): count for bucket, count in self.latencies.counts.items()},
            "predictions": self.predictions and self.predictions.to_json(),
            "agreement": agreement and [agreement.requests, agreement.value, agreement.measure],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> VersionObservation:
        """Read what `to_json` wrote; raises KeyError when a field is missing, TypeError when one is unknown."""
        predictions, agreement = document["predictions"], document["agreement"]
        read = {
            "latencies": Latencies({int(bucket): count for bucket, count in document["latencies"].items()}),
            "predictions": None if predictions is None else Profile.from_json(predictions),
            "agreement": None if agreement is None else Agreement(*agreement),
        }
        return cls(**{**document, **read})

    def figures(self) -> dict[str, Any]:
        """Return the figures that a person reads."""
        return {
            **{name: getattr(self, name) for name in ("requests", "errors", "dropped", "prediction_mean")},
            **{
                f"latency_p{share:.0%}_ms".replace("%", ""): round(self.latencies.quantile(share), 2) for share in _READ
            },
        }


_READ = (0.5, 0.95, 0.99)


def _at(rank: int, ordered: Sequence[tuple[int, int]]) -> int | None:
    """Return the bucket that holds the rank-th count, None beyond the last."""
    return next((bucket for bucket, reached in _reached(ordered) if reached >= rank), None)


def _reached(ordered: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    total = 0
    for bucket, count in ordered:
        total += count
        yield bucket, total
