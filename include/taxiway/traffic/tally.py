"""Adds answers up to what a person wants to know of them."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import asdict, dataclass, field

from taxiway.traffic.pace import Answer


@dataclass(frozen=True, slots=True)
class Summary:
    """What was sent and what came back: counts, latencies in milliseconds, requests per second."""

    requests: int
    failed: int
    failures: dict[str, int]
    rows: int
    answers_by_version: dict[int, int]
    rows_by_version: dict[int, int]
    p50_ms: float
    p99_ms: float
    rate: float
    seconds: float

    def to_json(self) -> dict[str, object]:
        """Return the summary as a JSON object."""
        return asdict(self)


@dataclass(slots=True)
class Tally:
    """Hears answers one by one; `latencies` are of the good answers, in milliseconds."""

    failures: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    rows: Counter[int] = field(default_factory=Counter)
    latencies: array[float] = field(default_factory=lambda: array("d"))
    began: float = math.inf
    ended: float = -math.inf

    @property
    def requests(self) -> int:
        """How many requests were answered or failed."""
        return self.failures.total() + self.answers.total()

    def hear(self, answer: Answer) -> None:
        """Count one answer."""
        self.began = min(self.began, answer.due)
        self.ended = max(self.ended, answer.due + answer.seconds)
        if answer.version is None:
            self.failures[answer.outcome] += 1
            return
        self.answers[answer.version] += 1
        self.rows[answer.version] += answer.rows
        self.latencies.append(answer.seconds * 1000)

    def summary(self) -> Summary:
        """Return the figures so far."""
        seconds = max(0.0, self.ended - self.began)
        ordered = sorted(self.latencies)
        return Summary(
            requests=self.requests,
            failed=self.failures.total(),
            failures=dict(sorted(self.failures.items())),
            rows=self.rows.total(),
            answers_by_version=dict(sorted(self.answers.items())),
            rows_by_version=dict(sorted(self.rows.items())),
            p50_ms=round(quantile(ordered, 0.5), 2),
            p99_ms=round(quantile(ordered, 0.99), 2),
            rate=round(self.requests / seconds, 1) if seconds else 0.0,
            seconds=round(seconds, 2),
        )


def quantile(ordered: list[float], share: float) -> float:
    """Return the smallest value that at least `share` of all values do not exceed; 0 without values."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
