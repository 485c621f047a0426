"""Drift: how far a column moved from its reference, measured on bins that the reference fixes.

The bins of a numeric column are quantiles of the reference (its own values when there are few), with one bin below
and one above the reference's range; those of a categorical column are its categories, with one bin for new ones.
Missing values have a bin of their own. Fixed bins make a profile small, and profiles of hours or partitions add up
to the profile of the whole. One outlier moves one count and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = npt.NDArray[Any]
Counts: TypeAlias = Sequence[int] | npt.NDArray[np.int64]
Counts2D: TypeAlias = Sequence[Sequence[int]] | npt.NDArray[np.int64]

QUANTILE_BINS = 10
"""Deciles, the usual choice for the index; a numeric column with up to twice as many values is binned by value."""
MAX_CATEGORIES = 100
"""Categories beyond the most frequent ones are counted together with new ones."""
_PSEUDO_COUNT = 0.5
_RESAMPLES, _FALSE_ALARMS, _FEWEST_BLOCKS = 300, 0.01, 5


@dataclass(frozen=True, slots=True)
class Bins:
    """How values of one column are counted: by rising upper `edges` (numeric), or by `categories`.

    Edges e0..ek make the bins x <= e0, e0 < x <= e1, ..., x > ek; categories are followed by a bin for all others.
    The last bin counts what is missing: None, NaN, and text in a numeric column.
    """

    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Name each bin, in the order of the counts."""
        if self.categories is not None:
            return (*self.categories, "other", "missing")
        if not self.edges:
            return ("any", "missing")
        between = (f"({low:g}, {high:g}]" for low, high in pairwise(self.edges))
        return (f"<= {self.edges[0]:g}", *between, f"> {self.edges[-1]:g}", "missing")


@dataclass(frozen=True, slots=True)
class Profile:
    """How often each bin occurred; profiles on the same bins add up."""

    bins: Bins
    counts: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Count the rows."""
        return sum(self.counts)

    @property
    def missing(self) -> float:
        """Return the share of missing values; 0 when there are no rows."""
        return self.counts[-1] / self.rows if self.rows else 0.0

    def __add__(self, other: Profile) -> Profile:
        """Return the profile of both sets of rows; raises ValueError when the bins differ."""
        if self.bins != other.bins:
            raise ValueError("profiles on different bins do not add up")
        return Profile(self.bins, tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)))

    def to_json(self) -> dict[str, Any]:
        """Return the profile as a JSON object."""
        categories = None if self.bins.categories is None else list(self.bins.categories)
        return {"edges": list(self.bins.edges), "categories": categories, "counts": list(self.counts)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Profile:
        """Read what `to_json` wrote; raises KeyError when a field is missing."""
        categories = document["categories"]
        bins = Bins(tuple(document["edges"]), None if categories is None else tuple(categories))
        return cls(bins, tuple(document["counts"]))


def bins_of(reference: Values) -> Bins:
    """Return the bins that the reference's values fix: numeric arrays by quantile, all others by category."""
    if reference.dtype.kind in "iuf":
        return _numeric_bins(reference.astype(float))
    found = Counter({_category(value): count for value, count in _tally(reference).items()})
    found.pop(None, None)
    most = sorted(found.items(), key=lambda item: (-item[1], str(item[0])))[:MAX_CATEGORIES]
    return Bins(categories=tuple(sorted(str(category) for category, _ in most)))


def profile(values: Values, bins: Bins) -> Profile:
    """Count the values in the bins; no rows give a profile of zeros."""
    if bins.categories is None:
        return _numeric_profile(_floats(values), bins)
    position = {category: index for index, category in enumerate(bins.categories)}
    counts = [0] * (len(position) + 2)
    for value, count in _tally(values).items():
        category = _category(value)
        counts[-1 if category is None else position.get(category, len(position))] += count
    return Profile(bins, tuple(counts))


def psi(reference: Counts, current: Counts) -> float:
    """Return the population stability index of two sets of counts on the same bins; 0 means the same shares.

    PSI = sum over bins of (q - p) ln(q / p), with p and q the shares in reference and current (N. Siddiqi, Credit Risk
    Scorecards, 2006; it is the symmetrised Kullback-Leibler divergence of H. Jeffreys, 1946). Each bin of each side
    gets half a count first (Jeffreys' prior), so empty bins are finite and weigh less the more rows there are. Bins
    that are empty on both sides are left out. Raises ValueError when the numbers of bins differ or a side has no rows.
    """
    p, q = np.asarray(reference, dtype=float), np.asarray(current, dtype=float)
    if p.shape != q.shape:
        raise ValueError(f"{p.size} and {q.size} bins cannot be compared")
    if p.sum() == 0 or q.sum() == 0:
        raise ValueError("the index of no rows is not defined")
    used = (p + q) > 0
    p, q = _smoothed_shares(p[used]), _smoothed_shares(q[used])
    return float(np.sum((q - p) * np.log(q / p)))


def noise(blocks: Counts2D, *, window_blocks: int, rng: np.random.Generator) -> float:
    """Return the PSI that one window in a hundred exceeds though nothing drifted.

    `blocks` (n, bins) counts the reference's rows block by block (days, say: rows of one day share its weather). Pairs
    of a reference of n blocks and a window of `window_blocks` are drawn from them with replacement (the bootstrap
    of whole clusters, Field & Welsh 2007, JRSS B 69). A column that follows the blocks, as the weekday does, is
    nearly all noise to it. Fewer than five blocks tell nothing: 0.
    """
    counts = np.asarray(blocks)
    n = len(counts)
    if n < _FEWEST_BLOCKS:
        return 0.0
    shares = np.full(n, 1 / n)
    references = rng.multinomial(n, shares, size=_RESAMPLES) @ counts
    windows = rng.multinomial(window_blocks, shares, size=_RESAMPLES) @ counts
    drawn = [psi(*pair) for pair in zip(references, windows, strict=True) if all(side.any() for side in pair)]
    return float(np.quantile(drawn, 1 - _FALSE_ALARMS)) if drawn else 0.0


def _smoothed_shares(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    smoothed: npt.NDArray[np.float64] = counts + _PSEUDO_COUNT
    return smoothed / float(smoothed.sum())


def _numeric_bins(values: npt.NDArray[np.float64]) -> Bins:
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return Bins()
    edges = np.unique(finite)
    smallest = edges[0]
    if edges.size > 2 * QUANTILE_BINS:
        # "lower" takes values that occur; a smallest value that fills a bin by itself stays an edge
        edges = np.unique(np.quantile(finite, np.linspace(0, 1, QUANTILE_BINS + 1), method="lower")[1:])
    below = np.nextafter(smallest, -np.inf)  # the smallest value belongs to the range; what is below it does not
    return Bins(edges=(float(below), *(float(edge) for edge in edges)))


def _numeric_profile(values: npt.NDArray[np.float64], bins: Bins) -> Profile:
    known = values[~np.isnan(values)]
    found = np.bincount(np.searchsorted(bins.edges, known, side="left"), minlength=len(bins.edges) + 1)
    return Profile(bins, (*(int(count) for count in found), int(values.size - known.size)))


def _floats(values: Values) -> npt.NDArray[np.float64]:
    try:
        return values.astype(float)
    except (TypeError, ValueError):
        return np.array([_float(value) for value in values], dtype=float)


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _tally(values: Values) -> Counter[Any]:
    return Counter(values.tolist())


def _category(value: Any) -> str | None:
    """Return the value's text, or None for None, NaN and other values that do not equal themselves."""
    try:
        missing = value is None or bool(value != value)
    except TypeError:  # a missing value of another library that has no truth
        missing = True
    return None if missing else str(value)
