"""Observations of two versions, unremarkable unless told otherwise."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from statistics import NormalDist

from taxiway.domain.drift import Bins, Profile
from taxiway.domain.observation import Agreement, Latencies, VersionObservation, latency_bucket

BINS = Bins(edges=(0.0, 0.5))


def seen(
    version: int,
    requests: int = 1000,
    errors: int = 0,
    *,
    slower: float = 1.0,
    moved: float = 0.0,
    dropped: int = 0,
    agreement: Agreement | None = None,
) -> VersionObservation:
    """Return what a version did: latencies around 10 ms, times `slower`, and `moved` of the predictions elsewhere."""
    answered = requests - errors
    low = round(answered * (0.5 - moved))
    return VersionObservation(
        version=version,
        requests=requests,
        errors=errors,
        dropped=dropped,
        latencies=_latencies(answered, slower),
        prediction_mean=0.5 + moved if answered else None,
        predictions=Profile(BINS, (0, low, answered - low, 0)) if answered else None,
        agreement=agreement,
    )


@cache
def _latencies(answers: int, slower: float) -> Latencies:
    spread = NormalDist(math.log(10 * slower), 0.3)
    buckets = (latency_bucket(math.exp(spread.inv_cdf((rank + 0.5) / answers))) for rank in range(answers))
    return Latencies(Counter(buckets))
