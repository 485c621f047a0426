"""What each version did: the newest requests for rollout analysis, and counters for Prometheus."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from taxiway.domain.values import VersionObservation

_KEPT = 50_000  # requests per version; older ones no longer show in `observe`
_BUCKETS_MS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000, math.inf)


@dataclass(frozen=True, slots=True)
class _Request:
    at: datetime
    latency_ms: float
    failed: bool
    total: float
    count: int


@dataclass(slots=True)
class _Counters:
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    buckets: list[int] = field(default_factory=lambda: [0] * len(_BUCKETS_MS))
    seconds: float = 0.0


class Observations:
    """Requests per (model, version): the newest in full, all of them as counters."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, int], deque[_Request]] = {}
        self._counters: dict[tuple[str, int], _Counters] = {}

    def record(
        self, model: str, version: int, role: str, *, at: datetime, latency_ms: float, predictions: Sequence[Any] | None
    ) -> None:
        """Count one request; `predictions` is None when the version failed to answer it."""
        numbers = [value for value in predictions or () if isinstance(value, int | float) and math.isfinite(value)]
        request = _Request(at, latency_ms, predictions is None, math.fsum(numbers), len(numbers))
        self._requests.setdefault((model, version), deque(maxlen=_KEPT)).append(request)
        counters = self._counters.setdefault((model, version), _Counters())
        counters.outcomes[role, "error" if predictions is None else "ok"] += 1
        counters.seconds += latency_ms / 1000
        counters.buckets[next(index for index, limit in enumerate(_BUCKETS_MS) if latency_ms <= limit)] += 1

    def observe(self, model: str, versions: Iterable[int], since: datetime) -> list[VersionObservation]:
        """Return what each version did since the moment; versions without requests have zeros."""
        return [_summary(version, self._since(model, version, since)) for version in versions]

    def forget(self, model: str, version: int) -> None:
        """Drop what is known of a version that is gone; its number may come again."""
        self._requests.pop((model, version), None)
        self._counters.pop((model, version), None)

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

    def _since(self, model: str, version: int, since: datetime) -> list[_Request]:
        return [request for request in self._requests.get((model, version), ()) if request.at >= since]


def _summary(version: int, requests: Sequence[_Request]) -> VersionObservation:
    latencies = sorted(request.latency_ms for request in requests)
    count = sum(request.count for request in requests)
    return VersionObservation(
        version=version,
        requests=len(requests),
        errors=sum(request.failed for request in requests),
        latency_p50_ms=_quantile(latencies, 0.5),
        latency_p99_ms=_quantile(latencies, 0.99),
        prediction_mean=math.fsum(request.total for request in requests) / count if count else None,
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of all values do not exceed; 0 without values."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


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
