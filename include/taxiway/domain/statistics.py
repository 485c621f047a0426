"""How sure the difference between two models is: a paired block bootstrap.

Champion and candidate predict the same rows. Rows of one day are not independent (weather, a strike, a broken feed
move all of them), so whole days are resampled with replacement, both models on the same draw: the pairing takes out
what moves both, and the days carry the noise that is left (Kuensch 1989, Annals of Statistics 17, for blocks of
dependent data; Field & Welsh 2007, JRSS B 69, for resampling whole clusters). Blocks themselves are taken as
independent.

Bounds are percentiles of the resampled differences (Efron & Tibshirani 1993, chapter 13), at tails widened for few
blocks (the expanded percentile interval: Hesterberg 2015, The American Statistician 69): 14 days behave like a t
distribution with 13 degrees of freedom, and plain percentiles would be too narrow.

The convention for `confidence`: `lower` and `upper` are two *one-sided* bounds, each holding with that confidence. The
gate asks one-sided questions ("is the candidate not worse?", "is it worse?"); read as a two-sided interval, the pair
has confidence 2 x confidence - 1 (0.90 for 0.95).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from taxiway.domain.evidence import Json
from taxiway.domain.metrics import Array, Blocks, Metric, Rows, find, read_rows
from taxiway.errors import DataError

LEVELS = 2000
"""Scores are rounded to this many quantiles before resampling; the difference itself is exact."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The difference (candidate - champion) of a metric with one-sided bounds (see the module's text).

    With fewer than two blocks, or a metric that too many resamples do not define, nothing bounds the difference:
    the bound is infinite. `difference` is NaN when the metric is undefined on all rows.
    """

    difference: float
    lower: float
    upper: float
    standard_deviation: float
    blocks: int

    def to_json(self) -> dict[str, Json]:
        """Return the figures; what is not finite becomes null."""
        return {
            "difference": finite(self.difference),
            "lower": finite(self.lower),
            "upper": finite(self.upper),
            "standard_deviation": finite(self.standard_deviation),
            "blocks": self.blocks,
        }


@dataclass(frozen=True, slots=True, eq=False)
class PairedRows:
    """The same n rows predicted by both models.

    Labels and predictions as in `domain.metrics`; `blocks` (n,) holds an integer per row, such as its day number.
    """

    labels: ArrayLike
    champion: ArrayLike
    candidate: ArrayLike
    blocks: ArrayLike
    classes: Sequence[Any] = ()


def paired_block_bootstrap(
    kind: str,
    metric: str,
    rows: PairedRows,
    *,
    confidence: float,
    rng: np.random.Generator,
    resamples: int = 1000,
) -> Interval:
    """Return the difference (candidate - champion) of the metric and how sure it is.

    Raises what `domain.metrics.compute` raises, and DataError when `blocks` is not one integer per row.
    """
    found = find(kind, metric)
    blocks = _read_blocks(rows)
    candidate = read_rows(kind, rows.labels, rows.candidate, classes=rows.classes)
    champion = read_rows(kind, rows.labels, rows.champion, classes=rows.classes)
    difference = found.of(candidate) - found.of(champion)
    if blocks.count < 2:
        return Interval(difference, -math.inf, math.inf, math.inf, blocks.count)
    weights = rng.multinomial(blocks.count, np.full(blocks.count, 1 / blocks.count), size=resamples).astype(np.float64)
    drawn = _resampled(found, candidate, blocks, weights) - _resampled(found, champion, blocks, weights)
    tail = expanded_tail(confidence, blocks.count)
    # A draw without a value could have been anything, so it counts against either bound.
    undefined = np.isnan(drawn)
    lower = np.quantile(np.where(undefined, -np.inf, drawn), tail, method="lower")
    upper = np.quantile(np.where(undefined, np.inf, drawn), 1 - tail, method="higher")
    deviation = math.inf if undefined.all() else float(np.nanstd(drawn))
    return Interval(difference, float(lower), float(upper), deviation, blocks.count)


def expanded_tail(confidence: float, blocks: int) -> float:
    """Return the tail at which a percentile of `blocks` (at least 2) resampled blocks is a one-sided bound.

    Hesterberg 2015: Phi(-sqrt(n / (n - 1)) t), with t the quantile of the t distribution with n - 1 degrees of freedom.
    """
    widened = math.sqrt(blocks / (blocks - 1)) * _t_quantile(confidence, blocks - 1)
    return NormalDist().cdf(-widened)


def finite(value: float | None) -> float | None:
    """Return the value for a JSON document, None when there is no finite one."""
    return None if value is None or not math.isfinite(value) else float(value)


def _t_quantile(probability: float, freedom: int) -> float:
    # Abramowitz & Stegun 26.7.5: good to 0.1 % at 0.95 from 3 degrees of freedom on; below that two or three blocks
    # are the larger problem.
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / float(freedom**power) for power, term in enumerate(terms, start=1))


def _read_blocks(rows: PairedRows) -> Blocks:
    ids = np.asarray(rows.blocks)
    if ids.dtype.kind not in "iu" or ids.shape != np.shape(rows.labels):
        raise DataError(f"blocks must be one integer per row, not {ids.dtype} of shape {ids.shape}")
    return Blocks.of(ids)


def _resampled(metric: Metric, rows: Rows, blocks: Blocks, weights: Array) -> Array:
    if metric.by_rank:
        rows = _coarse(rows)
    return metric.value(weights @ metric.sums(rows, blocks))


def _coarse(rows: Rows) -> Rows:
    """Round the scores to their quantiles, keeping their order; few distinct scores stay as they are."""
    if rows.scores is None or len(np.unique(rows.scores)) <= LEVELS:
        return rows
    edges = np.quantile(rows.scores, np.linspace(0, 1, LEVELS + 1)[1:-1])
    return replace(rows, scores=np.searchsorted(edges, rows.scores, side="right"))
