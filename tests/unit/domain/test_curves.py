"""The numbers behind plots equal those of scikit-learn and scipy, and stay few."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve

from taxiway.domain.curves import (
    MOST_POINTS,
    binned_quantiles,
    calibration,
    class_figures,
    confusion,
    pr_points,
    roc_points,
    row_shares,
    share_bounds,
    thinned,
)


@st.composite
def binary_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels with both classes, and scores of which many are equal."""
    labels = draw(arrays(np.int64, st.integers(2, 60), elements=st.integers(0, 1)))
    labels[0], labels[-1] = 0, 1
    steps = draw(st.sampled_from([1, 4, 1000]))
    return labels, draw(arrays(np.int64, len(labels), elements=st.integers(0, steps))) / steps


@given(binary_rows())
@settings(max_examples=60, deadline=None)
def test_roc_points_equal_scikit_learn(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """Every threshold is a point, ties together, and the area below is the metric's."""
    expected = reference.roc_curve(*rows, drop_intermediate=False)[:2]

    across, up = roc_points(*rows)

    assert np.allclose(across, expected[0])
    assert np.allclose(up, expected[1])
    assert reference.auc(across, up) == pytest.approx(reference.roc_auc_score(*rows))


@given(binary_rows())
@settings(max_examples=60, deadline=None)
def test_pr_points_equal_scikit_learn(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """Every threshold is a point; only where nothing is recalled, precision is that of the highest threshold."""
    precision, recall, _ = reference.precision_recall_curve(*rows)

    found_recall, found_precision = pr_points(*rows)

    assert np.allclose(found_recall[1:], recall[:-1][::-1])
    assert np.allclose(found_precision[1:], precision[:-1][::-1])
    assert (found_recall[0], found_precision[0]) == (0, found_precision[1])


def test_curves_of_one_label_are_not_defined() -> None:
    """Without one of the labels there are no rates of it, and no error."""
    across, up = roc_points([1, 1], [0.2, 0.4])

    assert np.isnan(across).all()
    assert up.tolist() == [0, 0.5, 1]
    assert np.isnan(pr_points([0, 0], [0.2, 0.4])[0]).all()


def test_calibration_equals_scikit_learn() -> None:
    """The bins that have rows are scikit-learn's uniform ones; empty bins stay in their place."""
    rng = np.random.default_rng(1)
    scores = np.r_[0.6 * rng.beta(1, 5, 400), 0.0, 1.0, 0.1]
    labels = (rng.random(403) < scores).astype(int)

    found = calibration(labels, scores)
    observed, predicted = calibration_curve(labels, scores, n_bins=10)

    assert (found.rows.sum(), (found.rows == 0).any()) == (403, True)
    assert found.observed[found.rows > 0] == pytest.approx(observed)
    assert found.predicted[found.rows > 0] == pytest.approx(predicted)
    assert np.isnan(found.observed[found.rows == 0]).all()
    assert found.edges == pytest.approx(np.linspace(0, 1, 11))


@pytest.mark.parametrize(("hits", "rows"), [(0, 5), (3, 10), (500, 1000), (7, 7)])
def test_bounds_of_shares_equal_scipy(hits: int, rows: int) -> None:
    """The interval of a share is Wilson's, also at 0 and 1; of no rows there is none."""
    expected = binomtest(hits, rows).proportion_ci(method="wilson")

    assert [float(bound) for bound in share_bounds(hits / rows, rows)] == pytest.approx([expected.low, expected.high])
    assert np.isnan(share_bounds(np.nan, 0)).all()


def test_confusion_and_figures_of_classes_equal_scikit_learn() -> None:
    """Rows are the truth, columns the guesses; a class that nobody guessed or that does not occur is not defined."""
    rng = np.random.default_rng(2)
    truth, guess = rng.choice([0, 1, 3], 300), rng.choice([0, 2, 3], 300)

    counts = confusion(truth, guess, 4)
    found = class_figures(counts)
    precision, recall, f1, rows = reference.precision_recall_fscore_support(
        truth, guess, labels=range(4), zero_division=np.nan
    )

    assert (counts == reference.confusion_matrix(truth, guess, labels=range(4))).all()
    assert found.precision == pytest.approx(precision, nan_ok=True)
    assert found.recall == pytest.approx(recall, nan_ok=True)
    assert found.f1 == pytest.approx(f1, nan_ok=True)
    assert found.rows.tolist() == rows.tolist()
    assert np.nansum(row_shares(counts), axis=1).tolist() == pytest.approx([1, 1, 0, 1])


def test_quantiles_follow_the_rows_of_their_bin() -> None:
    """Each bin has the same number of rows in the order of x, and the quantiles of their y."""
    rng = np.random.default_rng(3)
    x = rng.permutation(1000).astype(float)
    y = 3 * x

    found = binned_quantiles(x, y, (0, 0.5, 1))

    assert found.x == pytest.approx(np.arange(20) * 50 + 24.5)
    assert found.values[0] == pytest.approx(np.arange(20) * 150)
    assert found.values[2] == pytest.approx(np.arange(20) * 150 + 147)
    assert binned_quantiles(x[:15], y[:15], (0.5,)).values.shape == (1, 1)


@given(st.integers(2, 3000), st.sampled_from(["steps", "line", "still"]))
@settings(max_examples=40, deadline=None)
def test_thinned_curves_keep_their_shape(points: int, shape: str) -> None:
    """A long curve gets few points that it had before, with both ends, and no gap in between."""
    rng = np.random.default_rng(points)
    x = np.sort(rng.random(points))
    y = {"steps": np.floor(np.cumsum(rng.random(points)) / 3), "line": x * 7, "still": np.zeros(points)}[shape]

    across, up = thinned(x, y)

    assert len(across) == len(up) <= MOST_POINTS
    assert (across[0], up[0], across[-1], up[-1]) == (x[0], y[0], x[-1], y[-1])
    assert set(zip(across, up, strict=True)) <= set(zip(x, y, strict=True))
    assert np.interp(x, across, up) == pytest.approx(y, abs=0.02 * max(np.ptp(y), 1) + np.diff(y).max(initial=0))
