"""What each version did: sums per moment that somebody asked about, and counters for Prometheus.

A rollout asks again and again what happened since one moment, the begin of its step. So the newest requests are kept
one by one, and from the first question about a moment on, sums are kept for it: exact counts, and bounded samples of
the predictions. Nothing is written down: after a restart a step counts anew, so it waits for its requests once more.
(The prediction log could not give them back: it has no errors.)
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np

from taxiway.domain.drift import MAX_CATEGORIES, Bins, Values, bins_of, profile
from taxiway.domain.observation import (
    CONCORDANCE,
    EQUAL,
    Agreement,
    Latencies,
    VersionObservation,
    concordance,
    latency_bucket,
)
from taxiway.gateway.routing import CHAMPION

_RECENT = 10_000
"""Events per version that are kept one by one; a moment first asked about later counts these at most."""
_MOMENTS = 4
"""Moments per model that are summed up; the one that was not asked about for longest is forgotten."""
_SAMPLE, _ROWS = 4_096, 16
"""Rows of a sample, and of one request, at most."""
_LONGEST_TEXT, _LARGEST_INTEGER = 100, 2**63
"""Longer text and larger integers are kept as something smaller: there are as many as events times rows."""
_BUCKETS_MS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000, math.inf)

_Value: TypeAlias = float | int | str | None


@dataclass(frozen=True, slots=True)
class _Event:
    """One request that a version answered or failed, one copy that it was not sent, or a pair of answers."""

    at: datetime
    outcome: str
    latency_ms: float = 0.0
    values: tuple[Any, ...] = ()
    total: float = 0.0
    count: int = 0


_OK, _ERROR, _DROPPED, _PAIR = "ok", "error", "dropped", "pair"


@dataclass(slots=True)
class _Sample:
    """Every n-th of the rows that came, with n doubled whenever the sample is full: bounded, without chance."""

    rows: list[Any] = field(default_factory=list)
    seen: int = 0
    stride: int = 1

    def add(self, row: Any) -> None:
        if self.seen % self.stride == 0:
            self.rows.append(row)
        self.seen += 1
        if len(self.rows) >= _SAMPLE:
            self.rows = self.rows[::2]
            self.stride *= 2


@dataclass(slots=True)
class _Sums:
    """What one version did since a moment."""

    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: Counter[int] = field(default_factory=Counter)
    total: float = 0.0
    count: int = 0
    predictions: _Sample = field(default_factory=_Sample)
    pairs: _Sample = field(default_factory=_Sample)

    def add(self, event: _Event) -> None:
        self.outcomes[event.outcome] += 1
        if event.outcome == _OK:
            self.latencies[latency_bucket(event.latency_ms)] += 1
        self.total += event.total
        self.count += event.count
        sample = self.pairs if event.outcome == _PAIR else self.predictions
        for row in event.values:
            sample.add(row)


@dataclass(slots=True)
class _Counters:
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    buckets: list[int] = field(default_factory=lambda: [0] * len(_BUCKETS_MS))
    seconds: float = 0.0


class Observations:
    """Requests per (model, version): what happened since a moment, and all of them as counters."""

    def __init__(self) -> None:
        self._recent: dict[tuple[str, int], deque[_Event]] = {}
        self._since: dict[str, OrderedDict[datetime, dict[int, _Sums]]] = {}
        self._counters: dict[tuple[str, int], _Counters] = {}
        self._champions: dict[str, int] = {}

    def record(
        self, model: str, version: int, role: str, *, at: datetime, latency_ms: float, predictions: Sequence[Any] | None
    ) -> None:
        """Count one request; `predictions` is None when the version failed to answer it.

        Whatever JSON has as predictions can be counted.
        """
        if role == CHAMPION:
            self._champions[model] = version
        numbers = [number for number in map(_number, predictions or ()) if number is not None]
        outcome = _ERROR if predictions is None else _OK
        values = tuple(_value(row) for row in _few(predictions or ()))
        self._add(model, version, _Event(at, outcome, latency_ms, values, sum(numbers), len(numbers)))
        counters = self._counters.setdefault((model, version), _Counters())
        counters.outcomes[role, outcome] += 1
        counters.seconds += latency_ms / 1000
        counters.buckets[next(index for index, limit in enumerate(_BUCKETS_MS) if latency_ms <= limit)] += 1

    def drop(self, model: str, version: int, role: str, *, at: datetime) -> None:
        """Count a copy that the version was not sent because it could not keep up; that is no error of it."""
        self._add(model, version, _Event(at, _DROPPED))
        self._counters.setdefault((model, version), _Counters()).outcomes[role, _DROPPED] += 1

    def pair(
        self, model: str, version: int, *, at: datetime, champion: Sequence[Any], predictions: Sequence[Any]
    ) -> None:
        """Compare the version's answer to a request with the champion's to the same one."""
        rows = zip(_few(predictions), _few(champion), strict=False)
        self._add(
            model, version, _Event(at, _PAIR, values=tuple((_value(ours), _value(theirs)) for ours, theirs in rows))
        )

    def observe(self, model: str, versions: Iterable[int], since: datetime) -> list[VersionObservation]:
        """Return what each version did since the moment; versions without requests have zeros.

        Predictions are counted on bins of the champion's, which is the version that last answered as such.
        """
        sums = self._sums(model, since)
        versions = list(versions)
        champion = sums.get(self._champions.get(model, -1))
        bins = None if champion is None else _bins(champion.predictions.rows)
        return [_summary(version, sums.get(version) or _Sums(), bins) for version in versions]

    def forget(self, model: str, version: int) -> None:
        """Drop what is known of a version that is gone; its number may come again."""
        self._recent.pop((model, version), None)
        self._counters.pop((model, version), None)
        for sums in self._since.get(model, {}).values():
            sums.pop(version, None)

    def prometheus(self) -> str:
        """Return the counters in Prometheus' text format."""
        lines = ["# TYPE taxiway_requests_total counter"]
        for (model, version), counters in sorted(self._counters.items()):
            for (role, outcome), count in sorted(counters.outcomes.items()):
                labels = f'model="{model}",version="{version}",role="{role}",outcome="{outcome}"'
                lines.append(f"taxiway_requests_total{{{labels}}} {count}")
        lines.append("# TYPE taxiway_request_seconds histogram")
        for (model, version), counters in sorted(self._counters.items()):
            lines += _histogram(f'model="{model}",version="{version}"', counters)
        return "\n".join(lines) + "\n"

    def _add(self, model: str, version: int, event: _Event) -> None:
        self._recent.setdefault((model, version), deque(maxlen=_RECENT)).append(event)
        for since, sums in self._since.get(model, {}).items():
            if event.at >= since:
                sums.setdefault(version, _Sums()).add(event)

    def _sums(self, model: str, since: datetime) -> dict[int, _Sums]:
        """Return the sums for the moment, begun with the newest requests when it was never asked about."""
        moments = self._since.setdefault(model, OrderedDict())
        if since not in moments:
            begun = moments[since] = {}
            for (name, version), events in self._recent.items():
                for event in events if name == model else ():
                    if event.at >= since:
                        begun.setdefault(version, _Sums()).add(event)
            while len(moments) > _MOMENTS:
                moments.popitem(last=False)
        moments.move_to_end(since)
        return moments[since]


def _few(rows: Sequence[Any]) -> Sequence[Any]:
    """Return evenly spaced rows of a request, so that one large request does not fill a sample."""
    return rows[:: -(-len(rows) // _ROWS)] if len(rows) > _ROWS else rows


def _number(row: Any) -> float | None:
    """Return one answer as a number, or None when it is none, not finite, or does not fit a float."""
    try:
        number = float(row) if isinstance(row, int | float) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _value(row: Any) -> _Value:
    """Return one answer as a number, a class, or None when it is neither; of scores per class, the highest's class."""
    if isinstance(row, list) and row and all(isinstance(score, int | float) for score in row):
        return f"class {max(range(len(row)), key=row.__getitem__)}"
    if isinstance(row, bool):
        return str(row)
    if isinstance(row, str):
        return _short(row)
    return row if isinstance(row, int) and abs(row) < _LARGEST_INTEGER else _number(row)


def _short(text: str) -> str:
    """Return a text that is kept thousands of times: the begin of a long one, and what tells it from others."""
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"{text[:_LONGEST_TEXT]}... ({hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:16]})"


def _bins(sample: Sequence[_Value]) -> Bins | None:
    """Return the bins that a sample fixes: numbers by quantile; text, and whole numbers of few kinds, by class."""
    known = [value for value in sample if value is not None]
    if not known:
        return None
    whole = all(isinstance(value, int) for value in known) and len(set(known)) <= MAX_CATEGORIES
    if whole or any(isinstance(value, str) for value in known):
        return bins_of(_array(known))
    return bins_of(np.array(known, dtype=float))


def _array(sample: Sequence[_Value]) -> Values:
    values = np.empty(len(sample), dtype=object)
    values[:] = sample
    return values


def _summary(version: int, sums: _Sums, bins: Bins | None) -> VersionObservation:
    sample = sums.predictions.rows
    return VersionObservation(
        version=version,
        requests=sums.outcomes[_OK] + sums.outcomes[_ERROR],
        errors=sums.outcomes[_ERROR],
        dropped=sums.outcomes[_DROPPED],
        latencies=Latencies(dict(sums.latencies)),
        prediction_mean=sums.total / sums.count if sums.count and math.isfinite(sums.total) else None,
        predictions=profile(_array(sample), bins) if sample and bins else None,
        agreement=_agreement(sums, bins),
    )


def _agreement(sums: _Sums, bins: Bins | None) -> Agreement | None:
    """Compare the pairs; a pair without a number on both sides agrees in nothing."""
    pairs = sums.pairs.rows
    if not pairs or bins is None:
        return None
    requests = min(sums.outcomes[_PAIR], len(pairs))
    if bins.categories is not None:
        return Agreement(requests, sum(ours == theirs for ours, theirs in pairs) / len(pairs), EQUAL)
    numbers = [pair for pair in pairs if all(isinstance(value, int | float) for value in pair)]
    value = concordance(*zip(*numbers, strict=True)) * len(numbers) / len(pairs) if numbers else 0.0
    return Agreement(requests, value, CONCORDANCE)


def _histogram(labels: str, counters: _Counters) -> list[str]:
    lines = []
    total = 0
    for limit, count in zip(_BUCKETS_MS, counters.buckets, strict=True):
        total += count
        bound = "+Inf" if math.isinf(limit) else f"{limit / 1000:g}"
        lines.append(f'taxiway_request_seconds_bucket{{{labels},le="{bound}"}} {total}')
    lines.append(f"taxiway_request_seconds_sum{{{labels}}} {counters.seconds:.6f}")
    lines.append(f"taxiway_request_seconds_count{{{labels}}} {total}")
    return lines
