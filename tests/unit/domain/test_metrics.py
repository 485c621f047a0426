"""Metrics equal scikit-learn's, keep their invariants, and refuse what they cannot read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as reference

from taxiway.domain.metrics import METRICS, compute, compute_by_block, higher_is_better
from taxiway.errors import ContractError, DataError, SpecError
from taxiway.spec_values import SUITED_METRICS

BINARY: dict[str, Callable[..., float]] = {
    "roc_auc": reference.roc_auc_score,
    "pr_auc": reference.average_precision_score,
    "accuracy": lambda labels, scores: reference.accuracy_score(labels, scores >= 0.5),
    "brier": reference.brier_score_loss,
    "log_loss": lambda labels, scores: reference.log_loss(labels, scores, labels=[0, 1]),
    "f1_macro": lambda labels, scores: reference.f1_score(labels, scores >= 0.5, average="macro"),
}
REGRESSION: dict[str, Callable[..., float]] = {
    "rmse": reference.root_mean_squared_error,
    "mae": reference.mean_absolute_error,
    "r2": reference.r2_score,
}

both_labels = arrays(np.int64, st.integers(2, 60), elements=st.integers(0, 1)).filter(
    lambda labels: 0 < labels.mean() < 1
)


@st.composite
def binary_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels with both classes and scores on a coarse grid, so that ties are common."""
    labels = draw(both_labels)
    steps = draw(st.sampled_from([1, 4, 1000]))
    scores = draw(arrays(np.int64, len(labels), elements=st.integers(0, steps))) / steps
    return labels, scores


@given(binary_rows())
@settings(max_examples=60, deadline=None)
def test_binary_metrics_equal_scikit_learn(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """Every binary metric is scikit-learn's, ties and certain mistakes included."""
    labels, scores = rows
    for name, expected in BINARY.items():
        assert compute("binary", name, labels, scores) == pytest.approx(expected(labels, scores), abs=1e-12), name


def test_regression_metrics_equal_scikit_learn() -> None:
    """Every regression metric is scikit-learn's, also far away from zero."""
    rng = np.random.default_rng(7)
    for offset in (0.0, 1e6):
        labels = rng.normal(offset, 3, 500)
        predictions = labels + rng.normal(0, 1, 500)
        for name, expected in REGRESSION.items():
            assert compute("regression", name, labels, predictions) == pytest.approx(expected(labels, predictions)), (
                name
            )


def test_multiclass_metrics_equal_scikit_learn() -> None:
    """Multiclass metrics are scikit-learn's, from probabilities and from labels."""
    rng = np.random.default_rng(8)
    names = np.array(["amber", "green", "red"])
    labels = rng.choice(names, 300)
    probabilities = rng.dirichlet([1, 1, 1], 300)
    guesses = names[probabilities.argmax(axis=1)]
    accuracy, f1 = reference.accuracy_score(labels, guesses), reference.f1_score(labels, guesses, average="macro")

    assert compute("multiclass", "log_loss", labels, probabilities) == pytest.approx(
        reference.log_loss(labels, probabilities)
    )
    for predictions in (probabilities, guesses, guesses.astype(object)):
        assert compute("multiclass", "accuracy", labels, predictions) == pytest.approx(accuracy)
        assert compute("multiclass", "f1_macro", labels, predictions) == pytest.approx(f1)


def test_f1_counts_classes_that_only_one_side_knows() -> None:
    """A class that occurs only among the guesses, or only among the labels, counts with F1 zero."""
    labels, guesses = [1, 1, 2, 3], [1, 1, 4, 4]

    expected = reference.f1_score(labels, guesses, average="macro", zero_division=0)
    assert compute("multiclass", "f1_macro", labels, guesses) == pytest.approx(expected)


def test_named_classes_order_the_columns() -> None:
    """With `classes`, probability columns follow their sorted order even when the rows miss a class."""
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])

    assert compute("multiclass", "accuracy", ["a", "c"], probabilities, classes=["c", "a", "b"]) == 1.0
    with pytest.raises(ContractError, match="2 classes"):
        compute("multiclass", "accuracy", ["a", "c"], probabilities)


@given(binary_rows())
@settings(max_examples=60, deadline=None)
def test_auc_depends_on_order_only_and_turns_with_the_labels(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """ROC AUC is the same for a rising function of the scores, and one minus itself for swapped labels."""
    labels, scores = rows
    auc = compute("binary", "roc_auc", labels, scores)

    assert 0 <= auc <= 1
    assert compute("binary", "roc_auc", labels, scores / 2 + 0.25) == pytest.approx(auc)
    assert compute("binary", "roc_auc", 1 - labels, scores) == pytest.approx(1 - auc)


@given(binary_rows(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_metrics_do_not_depend_on_the_order_of_rows(rows: tuple[np.ndarray, np.ndarray], random: Any) -> None:
    """Shuffling rows changes no metric."""
    labels, scores = rows
    order = random.sample(range(len(labels)), len(labels))
    for name in METRICS["binary"]:
        assert compute("binary", name, labels[order], scores[order]) == pytest.approx(
            compute("binary", name, labels, scores)
        ), name


def test_better_predictions_are_better_in_every_metric() -> None:
    """Moving every prediction towards the truth moves each metric in its better direction."""
    rng = np.random.default_rng(9)
    labels = rng.integers(0, 2, 400)
    scores = rng.random(400)
    better = (scores + labels) / 2
    values = rng.normal(size=400)
    guesses = values + rng.normal(size=400)
    for kind, (truth, worse, good) in {
        "binary": (labels, scores, better),
        "regression": (values, guesses, (values + guesses) / 2),
    }.items():
        for name in METRICS[kind]:
            gain = compute(kind, name, truth, good) - compute(kind, name, truth, worse)
            assert (gain > 0) is higher_is_better(name), name


def test_auc_of_known_rows() -> None:
    """Perfect order is 1, reversed order 0, one constant score one half."""
    labels = [0, 0, 1, 1]

    assert compute("binary", "roc_auc", labels, [0.1, 0.2, 0.3, 0.4]) == 1.0
    assert compute("binary", "roc_auc", labels, [0.4, 0.3, 0.2, 0.1]) == 0.0
    assert compute("binary", "roc_auc", labels, [0.5] * 4) == 0.5
    assert compute("binary", "roc_auc", [False, False, True, True], [0.1, 0.2, 0.3, 0.4]) == 1.0


@pytest.mark.parametrize(
    ("kind", "metric", "labels", "predictions"),
    [
        ("binary", "roc_auc", [1, 1, 1], [0.1, 0.5, 0.9]),
        ("binary", "roc_auc", [0, 0], [0.1, 0.5]),
        ("binary", "pr_auc", [0, 0], [0.1, 0.5]),
        ("regression", "r2", [0.1, 0.1, 0.1], [0.0, 0.1, 0.2]),
    ],
)
def test_undefined_metrics_are_nan(kind: str, metric: str, labels: list[float], predictions: list[float]) -> None:
    """A metric that the rows do not define is NaN, not a number that looks like a result."""
    assert math.isnan(compute(kind, metric, labels, predictions))


@pytest.mark.parametrize(
    ("kind", "metric", "labels", "predictions", "error", "words"),
    [
        ("binary", "rmse", [0, 1], [0.1, 0.9], SpecError, "choose from roc_auc"),
        ("ranking", "roc_auc", [0, 1], [0.1, 0.9], SpecError, "no kind of task"),
        ("binary", "roc_auc", [], [], DataError, "at least one row"),
        ("binary", "roc_auc", [0, 2], [0.1, 0.9], DataError, "0 or 1"),
        ("binary", "roc_auc", [0, None], [0.1, 0.9], DataError, "labels are missing"),
        ("binary", "roc_auc", ["no", "yes"], [0.1, 0.9], DataError, "labels must be numbers"),
        ("binary", "roc_auc", [0, 1], [0.1], ContractError, "one prediction per row"),
        ("binary", "roc_auc", [0, 1], 0.5, ContractError, "one prediction per row"),
        ("binary", "roc_auc", [0, 1], [0.1, math.nan], ContractError, "1 predictions are missing"),
        ("binary", "roc_auc", [0, 1], [-0.1, 1.5], ContractError, "from -0.1 to 1.5"),
        ("binary", "roc_auc", [0, 1], [[0.9, 0.1], [0.1, 0.9]], ContractError, "one number per row"),
        ("regression", "mae", [1.0, math.inf], [1.0, 2.0], DataError, "not finite"),
        ("regression", "mae", [1.0, 2.0], ["a", "b"], ContractError, "predictions must be numbers"),
        ("multiclass", "log_loss", ["a", "b"], ["a", "b"], ContractError, "needs class probabilities"),
        ("multiclass", "accuracy", ["a", "b"], [0, 1], ContractError, "another type"),
        ("multiclass", "accuracy", ["a", None], ["a", "b"], DataError, "labels must be numbers"),
        ("multiclass", "accuracy", ["a", "b"], [[0.9, 0.9], [0.1, 0.9]], ContractError, "add up to 1"),
        ("multiclass", "accuracy", ["a", "b"], [[1.5, -0.5], [0.1, 0.9]], ContractError, "not be negative"),
    ],
)
def test_unusable_rows_are_refused(
    kind: str, metric: str, labels: Any, predictions: Any, error: type[Exception], words: str
) -> None:
    """Labels are a fault of the data, predictions one of the model, a metric that does not suit one of the spec."""
    with pytest.raises(error, match=words):
        compute(kind, metric, labels, predictions)


@pytest.mark.parametrize("predictions", [["a", "b"], [[0.5, 0.5], [0.5, 0.5]]], ids=["labels", "scores"])
def test_labels_beyond_the_named_classes_are_refused(predictions: Any) -> None:
    """A label that is none of the classes is a fault of the data, whatever the model answers."""
    with pytest.raises(DataError, match="some labels are not among the 2 classes: x"):
        compute("multiclass", "accuracy", ["a", "x"], predictions, classes=["a", "b"])


def test_guesses_beyond_the_named_classes_are_refused() -> None:
    """A predicted label that is none of the classes is a fault of the model."""
    with pytest.raises(ContractError, match="some predicted labels are not among the 2 classes: x"):
        compute("multiclass", "accuracy", ["a", "b"], ["a", "x"], classes=["a", "b"])


@pytest.mark.parametrize(("labels", "classes"), [([0, 1], ["0", "1"]), (["0", "1"], [0, 1])])
def test_labels_of_another_type_than_the_classes_are_refused(labels: Any, classes: Any) -> None:
    """Text is never taken for a number, nor a number for text."""
    with pytest.raises(DataError, match="another type than the classes"):
        compute("multiclass", "accuracy", labels, labels, classes=classes)


def test_classes_in_numbers_are_ordered_as_numbers() -> None:
    """The columns of ten or more numbered classes follow the numbers, as a classifier's own classes do."""
    classes = range(12)

    assert compute("multiclass", "accuracy", [2, 10], np.eye(12)[[2, 10]], classes=classes) == 1.0


@pytest.mark.parametrize("name", METRICS["multiclass"])
def test_rows_without_one_of_the_classes_have_a_metric(name: str) -> None:
    """A slice in which a class does not occur is measured as scikit-learn measures it."""
    rng = np.random.default_rng(10)
    classes = ["amber", "green", "red"]
    labels = rng.choice(["amber", "red"], 60)
    scores = rng.dirichlet([1, 1, 1], 60)
    guesses = np.array(classes)[scores.argmax(axis=1)]
    expected = {
        "accuracy": reference.accuracy_score(labels, guesses),
        "f1_macro": reference.f1_score(labels, guesses, average="macro", zero_division=0),
        "log_loss": reference.log_loss(labels, scores, labels=classes),
    }

    assert compute("multiclass", name, labels, scores, classes=classes) == pytest.approx(expected[name])


@pytest.mark.parametrize("kind", METRICS)
def test_metric_of_each_block_is_the_metric_of_its_rows(kind: str) -> None:
    """What is computed for all blocks at once is what each block's rows give alone, undefined ones included."""
    rng = np.random.default_rng(11)
    days = rng.permutation(np.repeat([15000, 15001, 15007], [40, 30, 1]))
    labels: np.ndarray = rng.integers(0, 2, 71)
    predictions = rng.random(71)
    classes: tuple[int, ...] = ()
    if kind == "multiclass":
        labels, predictions, classes = rng.integers(0, 3, 71), rng.dirichlet([1, 1, 1], 71), (0, 1, 2)
    for name in METRICS[kind]:
        found = compute_by_block(kind, name, labels, predictions, blocks=days, classes=classes)
        alone = [
            compute(kind, name, labels[days == day], predictions[days == day], classes=classes)
            for day in (15000, 15001, 15007)
        ]

        assert found == pytest.approx(alone, nan_ok=True), name


def test_metrics_of_the_spec_are_those_that_can_be_computed() -> None:
    """What a spec may name for a kind of task is exactly what there is a formula for."""
    assert {kind: set(names) for kind, names in SUITED_METRICS.items()} == {
        kind: set(suited) for kind, suited in METRICS.items()
    }


def test_directions() -> None:
    """Errors and losses are better when low, everything else when high; an unknown name is refused."""
    names = {name for suited in METRICS.values() for name in suited}

    assert {name for name in names if not higher_is_better(name)} == {"brier", "log_loss", "rmse", "mae"}
    with pytest.raises(SpecError, match="no metric 'speed'"):
        higher_is_better("speed")
