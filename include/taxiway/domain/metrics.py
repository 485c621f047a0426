"""The metrics that models are judged by: exact, with ties, one value for any set of rows.

Every metric is a function of *sums over rows*: `Metric.sums` adds up the rows of each block, `Metric.value` turns
sums into the metric. So the metric of any union or resample of blocks follows from one small matrix, which is what
`domain.statistics` resamples; the metric of all rows is the case of a single block.

What labels and predictions are, by kind of task:

- binary: labels are 0/1 (or booleans); predictions are one score per row, the probability of label 1, in [0, 1].
  A score of 0.5 or more counts as a guess of label 1.
- multiclass: labels are integers or text; predictions are either labels (1-D), or class probabilities (2-D, one
  column per class in the sorted order of the classes; the guess is the most probable class, the first of equals).
  `classes` names all classes, so that rows without one of them mean the same; without it the labels show them all.
- regression: labels and predictions are finite numbers.

A metric that these rows do not define (ROC AUC of one class only, R2 of constant labels) is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxiway.errors import ContractError, DataError, SpecError

Array: TypeAlias = NDArray[Any]

_EPSILON = float(np.finfo(np.float64).eps)
_SHOWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Labels and predictions of the same n rows, checked and encoded; every array has shape (n,).

    `truth` and `guess` are class codes (0 to classes - 1), or values in regression. `scores` is the probability of
    label 1 (binary only). `likelihood` is the probability given to the true class; None when only labels are predicted.
    """

    truth: Array
    guess: Array
    classes: int = 0
    scores: Array | None = None
    likelihood: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Which block each row belongs to: `ids` (n,) in 0 to count - 1."""

    ids: Array
    count: int

    @classmethod
    def of(cls, ids: ArrayLike) -> Blocks:
        """Return the blocks of any integer ids, numbered from 0."""
        distinct, codes = np.unique(np.asarray(ids), return_inverse=True)
        return cls(codes, len(distinct))


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as sums and their value.

    `sums(rows, blocks)` has shape (blocks, terms); `value` maps sums of shape (..., terms) to values (...).
    `by_rank` says that only the order of the scores matters.
    """

    higher_is_better: bool
    sums: Callable[[Rows, Blocks], Array]
    value: Callable[[Array], Array]
    by_rank: bool = False

    def of(self, rows: Rows) -> float:
        """Return the metric of all rows."""
        everything = Blocks(np.zeros(len(rows.truth), dtype=np.int64), 1)
        return float(self.value(self.sums(rows, everything))[0])


def compute(kind: str, metric: str, labels: ArrayLike, predictions: ArrayLike, *, classes: Sequence[Any] = ()) -> float:
    """Return the metric of the rows; NaN when these rows do not define it.

    Raises SpecError when the metric does not suit the kind, DataError for unusable labels, ContractError for
    predictions that are not what the kind asks for.
    """
    return find(kind, metric).of(read_rows(kind, labels, predictions, classes=classes))


def compute_by_block(
    kind: str,
    metric: str,
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    blocks: ArrayLike,
    classes: Sequence[Any] = (),
) -> Array:
    """Return the metric of each block of rows, in the rising order of the blocks' ids; raises as `compute` does."""
    found = find(kind, metric)
    return found.value(found.sums(read_rows(kind, labels, predictions, classes=classes), Blocks.of(blocks)))


def find(kind: str, metric: str) -> Metric:
    """Return the metric for a kind of task; raises SpecError when it does not suit."""
    suited = METRICS.get(kind)
    if suited is None:
        raise SpecError(f"there is no kind of task {kind!r}; known: {', '.join(METRICS)}")
    if metric not in suited:
        raise SpecError(f"metric {metric!r} does not suit a {kind} task; choose from {', '.join(suited)}")
    return suited[metric]


def higher_is_better(metric: str) -> bool:
    """Return whether a larger value of the metric is better; raises SpecError for an unknown metric."""
    for suited in METRICS.values():
        if metric in suited:
            return suited[metric].higher_is_better
    raise SpecError(f"there is no metric {metric!r}")


def read_rows(kind: str, labels: ArrayLike, predictions: ArrayLike, *, classes: Sequence[Any] = ()) -> Rows:
    """Check and encode labels and predictions of a kind of task (see the module's text); raises as `compute` does."""
    truth, predicted = np.asarray(labels), np.asarray(predictions)
    if truth.ndim != 1 or len(truth) == 0:
        raise DataError(f"a metric needs a column of labels with at least one row, not shape {truth.shape}")
    if predicted.ndim == 0 or len(predicted) != len(truth):
        raise ContractError(f"the model must return one prediction per row: {len(truth)} rows, got {predicted.shape}")
    if kind == "multiclass":
        return _multiclass_rows(truth, predicted, classes)
    truth = _numbers(truth, "labels", DataError)
    predicted = _numbers(predicted, "predictions", ContractError)
    if predicted.ndim != 1:
        raise ContractError(
            f"a {kind} model must return one number per row, not shape {predicted.shape}",
            next_step="for a classifier return predict_proba(features)[:, 1].",
        )
    return _binary_rows(truth, predicted) if kind == "binary" else Rows(truth, predicted)


def _binary_rows(truth: Array, scores: Array) -> Rows:
    if not np.isin(truth, (0, 1)).all():
        raise DataError("the labels of a binary task must be 0 or 1")
    if scores.min() < 0 or scores.max() > 1:
        raise ContractError(
            f"the scores of a binary model must be in [0, 1], not from {scores.min():g} to {scores.max():g}",
            next_step="return the probability of label 1.",
        )
    truth = truth.astype(np.int64)
    guess = (scores >= 0.5).astype(np.int64)
    return Rows(truth, guess, 2, scores, np.where(truth == 1, scores, 1 - scores))


def _multiclass_rows(labels: Array, predictions: Array, classes: Sequence[Any]) -> Rows:
    labels = _class_names(labels, "labels", DataError)
    known = np.unique(_class_names(np.asarray(classes), "classes", SpecError) if len(classes) else labels)
    _require_known(labels, known, "labels", DataError)
    if predictions.ndim == 1:
        guesses = _class_names(predictions, "predictions", ContractError)
        if guesses.dtype.kind != labels.dtype.kind:
            raise ContractError("predicted labels are of another type than the labels")
        if len(classes):
            _require_known(guesses, known, "predicted labels", ContractError)
        return _labelled_rows(labels, guesses, known)
    probabilities = _numbers(predictions, "predictions", ContractError)
    if probabilities.shape[1:] != (len(known),):
        raise ContractError(
            f"class probabilities need one column for each of the {len(known)} classes, got {predictions.shape}"
        )
    if probabilities.min() < 0 or np.abs(probabilities.sum(axis=1) - 1).max() > 1e-3:
        raise ContractError("class probabilities must not be negative and must add up to 1 in every row")
    truth = np.searchsorted(known, labels)
    likelihood = probabilities[np.arange(len(truth)), truth]
    return Rows(truth, probabilities.argmax(axis=1), len(known), likelihood=likelihood)


def _require_known(values: Array, known: Array, name: str, error: type[ContractError | DataError]) -> None:
    if values.dtype.kind != known.dtype.kind:
        raise error(f"the {name} are of another type than the classes")
    strangers = np.unique(values[~np.isin(values, known)])
    if strangers.size:
        shown = ", ".join(str(value) for value in strangers[:_SHOWN])
        raise error(f"some {name} are not among the {len(known)} classes: {shown}")


def _labelled_rows(labels: Array, guesses: Array, known: Array) -> Rows:
    everything = np.unique(np.concatenate([known, labels, guesses]))
    return Rows(np.searchsorted(everything, labels), np.searchsorted(everything, guesses), len(everything))


def _class_names(values: Array, name: str, error: type[ContractError | DataError | SpecError]) -> Array:
    """Return the values as text, or as numbers; missing and mixed ones are errors."""
    if values.dtype.kind == "U" or all(isinstance(value, str) for value in values):
        return values.astype(str)
    return _numbers(values, name, error)


def _numbers(values: Array, name: str, error: type[ContractError | DataError | SpecError]) -> Array:
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError) as problem:
        raise error(f"{name} must be numbers") from problem
    if not np.isfinite(numbers).all():
        raise error(f"{int((~np.isfinite(numbers)).sum())} {name} are missing or not finite")
    return numbers


def _add(blocks: Blocks, *columns: Array) -> Array:
    sums = [np.bincount(blocks.ids, weights=column, minlength=blocks.count) for column in columns]
    return np.stack(sums, axis=-1)


def _count(blocks: Blocks, codes: Array, size: int) -> Array:
    counts = np.bincount(blocks.ids * size + codes, minlength=blocks.count * size)
    return counts.reshape(blocks.count, size).astype(np.float64)


def _ratio(numerator: Array, denominator: Array) -> Array:
    undefined = np.full(np.shape(numerator), np.nan)
    ratio: Array = np.divide(numerator, denominator, out=undefined, where=denominator > 0)
    return ratio


def _mean_of(term: Callable[[Rows], Array]) -> Callable[[Rows, Blocks], Array]:
    def sums(rows: Rows, blocks: Blocks) -> Array:
        return _add(blocks, term(rows), np.ones(len(rows.truth)))

    return sums


def _mean(sums: Array) -> Array:
    return _ratio(sums[..., 0], sums[..., 1])


def _root_mean(sums: Array) -> Array:
    return _mean(sums) ** 0.5


def _correct(rows: Rows) -> Array:
    hits: Array = rows.truth == rows.guess
    return hits.astype(np.float64)


def _known(probabilities: Array | None) -> Array:
    if probabilities is None:
        raise ContractError("this metric needs class probabilities, and the model returns labels")
    return probabilities


def _surprise(rows: Rows) -> Array:
    # Clipped as scikit-learn does, so that one certain mistake does not make the mean infinite.
    logarithms: Array = np.log(np.clip(_known(rows.likelihood), _EPSILON, 1 - _EPSILON))
    return -logarithms


def _miss_squared(rows: Rows) -> Array:
    return (1 - _known(rows.likelihood)) ** 2


def _error_squared(rows: Rows) -> Array:
    return (rows.truth - rows.guess) ** 2


def _error_absolute(rows: Rows) -> Array:
    return abs(rows.truth - rows.guess)


def _level_counts(rows: Rows, blocks: Blocks) -> Array:
    """Count the rows of label 0, then of label 1, at each distinct score in rising order: (blocks, 2 x levels)."""
    levels, codes = np.unique(_known(rows.scores), return_inverse=True)
    return _count(blocks, rows.truth * len(levels) + codes, 2 * len(levels))


def _roc_auc(sums: Array) -> Array:
    """Share of (positive, negative) pairs in the right order, ties half (Hanley & McNeil 1982, Radiology 143)."""
    negatives, positives = np.split(sums, 2, axis=-1)
    outranked = np.cumsum(negatives, axis=-1) - negatives / 2
    pairs = negatives.sum(axis=-1) * positives.sum(axis=-1)
    return _ratio((positives * outranked).sum(axis=-1), pairs)


def _pr_auc(sums: Array) -> Array:
    """Average precision: precision at each score, weighted by the recall gained there (no interpolation)."""
    negatives, positives = np.split(sums[..., ::-1], 2, axis=-1)[::-1]
    selected = np.cumsum(negatives + positives, axis=-1)
    precision = np.cumsum(positives, axis=-1) / np.maximum(selected, 1)
    return _ratio((precision * positives).sum(axis=-1), positives.sum(axis=-1))


def _class_counts(rows: Rows, blocks: Blocks) -> Array:
    """Count hits, guesses and rows of each class: (blocks, 3 x classes)."""
    hit = rows.truth == rows.guess
    hits = _count(Blocks(blocks.ids[hit], blocks.count), rows.truth[hit], rows.classes)
    guessed = _count(blocks, rows.guess, rows.classes)
    return np.concatenate([hits, guessed, _count(blocks, rows.truth, rows.classes)], axis=-1)


def _f1_macro(sums: Array) -> Array:
    """Mean of 2 hits / (guesses + rows) over the classes that occur among labels or guesses."""
    hits, guessed, actual = np.split(sums, 3, axis=-1)
    occurs = guessed + actual > 0
    f1 = np.where(occurs, 2 * hits / np.maximum(guessed + actual, 1), 0)
    return _ratio(f1.sum(axis=-1), occurs.sum(axis=-1))


def _spread_sums(rows: Rows, blocks: Blocks) -> Array:
    # Labels are centred first: a sum of squares of large numbers would lose the spread to rounding.
    centred = rows.truth - np.median(rows.truth)
    return _add(blocks, np.ones(len(centred)), centred, centred**2, _error_squared(rows))


def _r2(sums: Array) -> Array:
    """One minus residual over total sum of squares."""
    count, total, squares, residual = np.moveaxis(sums, -1, 0)
    spread = squares - total**2 / count
    return 1 - _ratio(residual, np.where(spread > 1e-12 * squares, spread, 0))


_ACCURACY = Metric(True, _mean_of(_correct), _mean)
_LOG_LOSS = Metric(False, _mean_of(_surprise), _mean)
_F1_MACRO = Metric(True, _class_counts, _f1_macro)

_BINARY = {
    "roc_auc": Metric(True, _level_counts, _roc_auc, by_rank=True),
    "pr_auc": Metric(True, _level_counts, _pr_auc, by_rank=True),
    "accuracy": _ACCURACY,
    "brier": Metric(False, _mean_of(_miss_squared), _mean),
    "log_loss": _LOG_LOSS,
    "f1_macro": _F1_MACRO,
}
_MULTICLASS = {"accuracy": _ACCURACY, "f1_macro": _F1_MACRO, "log_loss": _LOG_LOSS}
_REGRESSION = {
    "rmse": Metric(False, _mean_of(_error_squared), _root_mean),
    "mae": Metric(False, _mean_of(_error_absolute), _mean),
    "r2": Metric(True, _spread_sums, _r2),
}

METRICS: Mapping[str, Mapping[str, Metric]] = {
    "binary": _BINARY,
    "multiclass": _MULTICLASS,
    "regression": _REGRESSION,
}
"""Which metrics suit which kind of task."""
