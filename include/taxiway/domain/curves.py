"""The numbers behind the plots of an evaluation: exact where they are counts, thinned where they are long curves.

Everything here is pure arithmetic on labels and predictions that `domain.metrics.read_rows` has checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from taxiway.domain.metrics import Array

MOST_POINTS = 500
"""No curve has more points than this: more cannot be seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Scores in bins of equal width: in bin i, of `rows[i]` rows, the mean score and the share of outcomes that are 1.

    `edges` (bins + 1,) rise from 0 to 1; means and shares of empty bins are NaN.
    """

    edges: Array
    rows: Array
    predicted: Array
    observed: Array


@dataclass(frozen=True, slots=True, eq=False)
class ClassFigures:
    """Of each class: rows with it, rows guessed as it, precision, recall, F1; what is not defined is NaN."""

    rows: Array
    guessed: Array
    precision: Array
    recall: Array
    f1: Array


@dataclass(frozen=True, slots=True, eq=False)
class BinnedQuantiles:
    """Quantiles of y in bins of x with equal numbers of rows: `values` (levels, bins) at the bins' median x."""

    x: Array
    values: Array


def roc_points(truth: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    """Return (false, true) positive rates at every threshold, from (0, 0) to (1, 1); NaN when a label is missing.

    `truth` (n,) is 0 or 1. Rows of equal scores pass a threshold together (Fawcett 2006, Pattern Recognition Letters
    27).
    """
    negatives, positives = _passed(truth, scores)
    with np.errstate(invalid="ignore"):
        return np.r_[0, negatives] / negatives[-1], np.r_[0, positives] / positives[-1]


def pr_points(truth: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    """Return (recall, precision) at every threshold, from recall 0 on; recall is NaN without a positive row.

    At recall 0 precision has no value of its own: it is that of the highest threshold.
    """
    negatives, positives = _passed(truth, scores)
    precision = positives / (positives + negatives)
    with np.errstate(invalid="ignore"):
        return np.r_[0, positives] / positives[-1], np.r_[precision[0], precision]


def calibration(outcomes: ArrayLike, scores: ArrayLike, *, bins: int = 10) -> Calibration:
    """Compare scores in [0, 1] with outcomes of 0 or 1, in bins of equal width that include their upper edge."""
    happened, score = np.asarray(outcomes, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    edges = np.linspace(0, 1, bins + 1)
    codes = np.searchsorted(edges[1:-1], score)
    rows = np.bincount(codes, minlength=bins)
    means = [np.bincount(codes, weights=values, minlength=bins) for values in (score, happened)]
    with np.errstate(invalid="ignore"):
        predicted, observed = (total / rows for total in means)
    return Calibration(edges, rows, predicted, observed)


def share_bounds(share: ArrayLike, rows: ArrayLike) -> tuple[Array, Array]:
    """Return the 95 % interval of a share of so many rows (Wilson 1927, JASA 22); NaN where there are none."""
    p, n, z = np.asarray(share, dtype=np.float64), np.asarray(rows, dtype=np.float64), 1.959964
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def confusion(truth: ArrayLike, guess: ArrayLike, classes: int) -> Array:
    """Return how often each class (row) was guessed as each (column), from codes 0 to classes - 1."""
    counts = np.bincount(np.asarray(truth) * classes + np.asarray(guess), minlength=classes**2)
    return counts.reshape(classes, classes)


def class_figures(counts: Array) -> ClassFigures:
    """Return precision, recall and F1 of each class of a confusion matrix."""
    hits, rows, guessed = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return ClassFigures(rows, guessed, hits / guessed, hits / rows, 2 * hits / (rows + guessed))


def row_shares(counts: Array) -> Array:
    """Return each row of counts as shares of the row; NaN in empty rows."""
    with np.errstate(invalid="ignore"):
        shares: Array = counts / counts.sum(axis=1, keepdims=True)
    return shares


def binned_quantiles(x: ArrayLike, y: ArrayLike, levels: Sequence[float], *, bins: int = 20) -> BinnedQuantiles:
    """Return how the distribution of y changes with x; fewer bins when there are not thirty rows for each."""
    order = np.argsort(np.asarray(x), kind="stable")
    parts = np.array_split(order, max(1, min(bins, len(order) // 30)))
    values = np.array([np.quantile(np.asarray(y)[part], levels) for part in parts]).T
    return BinnedQuantiles(np.array([np.median(np.asarray(x)[part]) for part in parts]), values)


def thinned(x: ArrayLike, y: ArrayLike, *, most: int = MOST_POINTS) -> tuple[Array, Array]:
    """Return at most `most` of the points, spread evenly along the curve; the first and the last one stay."""
    across, up = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(across) <= most:
        return across, up
    extent = [float(np.ptp(values)) or 1.0 for values in (across, up)]
    length = np.r_[0, np.cumsum(np.hypot(np.diff(across) / extent[0], np.diff(up) / extent[1]))]
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], most)).clip(max=len(across) - 1))
    kept[-1] = len(across) - 1
    return across[kept], up[kept]


def _passed(truth: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    """Count rows of label 0 and of label 1 at or above each distinct score, from the highest score down."""
    levels, codes = np.unique(np.asarray(scores), return_inverse=True)
    positive = np.asarray(truth) == 1
    counts = [np.bincount(codes[rows], minlength=len(levels)) for rows in (~positive, positive)]
    negatives, positives = (np.cumsum(count[::-1]).astype(np.float64) for count in counts)
    return negatives, positives
