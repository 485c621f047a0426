"""How predictions may move when a column is changed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.domain.behaviour import direction, invariance, other_rows

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("before", "after", "allowed", "largest", "holds"),
    [
        ([0.1, 0.2], [0.1, 0.2], 0.0, 0.0, True),
        ([0.1, 0.2], [0.1, 0.5], 0.3, 0.3, True),
        ([0.1, 0.2], [0.1, 0.5], 0.29, 0.3, False),
        ([0.5, 0.2], [0.1, 0.3], 0.3, 0.4, False),
        ([0.5], [0.5 + 1e-7], 0.0, 1e-7, True),
        ([0.5], [None], 1e9, math.inf, False),
        ([math.nan], [0.5], 1e9, math.inf, False),
        ([math.inf], [math.inf], 1e9, math.inf, False),
        ([[0.1, 0.9], [0.5, 0.5]], [[0.3, 0.7], [0.5, 0.5]], 0.2, 0.2, True),
        ([[0.1, 0.9], [0.5, 0.5]], [[0.3, 0.7], [0.9, 0.1]], 0.2, 0.4, False),
        ([[0.1, 0.9]], [[None, 0.9]], 1e9, math.inf, False),
    ],
)
def test_the_largest_change_decides(
    before: list[Any], after: list[Any], allowed: float, largest: float, holds: bool
) -> None:
    """Numbers by their distance, scores by the largest of a row's; rounding is no change, no number is the largest."""
    found = invariance(before, after, max_change=allowed, labels=False)

    assert (found.largest, found.holds) == (pytest.approx(largest), holds)


@pytest.mark.parametrize(
    ("before", "after", "allowed", "largest", "holds"),
    [
        (["a", "b"], ["a", "b"], 0.0, 0.0, True),
        (["a", "b"], ["a", "c"], 0.5, 1.0, False),
        (["a", "b"], ["a", "c"], 1.0, 1.0, True),
        ([1, 5], [1, 2], 0.5, 1.0, False),
        (["a"], [None], 1.0, math.inf, False),
    ],
)
def test_another_label_is_a_change_of_one(
    before: list[Any], after: list[Any], allowed: float, largest: float, holds: bool
) -> None:
    """Between labels there is no distance, even when they are numbers."""
    found = invariance(before, after, max_change=allowed, labels=True)

    assert (found.largest, found.holds) == (largest, holds)


def test_figures_of_an_invariance() -> None:
    """The figures tell how many rows moved too far, how much all did on average, and which row did most."""
    found = invariance([1.0, 1.0, 1.0, 1.0], [1.0, 1.1, 0.7, 1.0], max_change=0.1, labels=False)

    assert (found.rows, found.share, found.worst) == (4, 0.75, 2)
    assert (found.mean, found.largest) == (pytest.approx(0.1), pytest.approx(0.3))


@pytest.mark.parametrize(
    ("after", "rises", "min_share", "share", "holds"),
    [
        ([2.0, 2.0, 2.0, 2.0], True, 1.0, 1.0, True),
        ([2.0, 2.0, 2.0, 2.0], False, 0.5, 0.0, False),
        ([0.0, 0.0, 0.0, 0.0], False, 1.0, 1.0, True),
        ([1.0, 1.0, 1.0, 1.0], True, 1.0, 1.0, True),
        ([1.0, 1.0, 1.0, 1.0], False, 1.0, 1.0, True),
        ([1.0 - 1e-7, 1.0, 1.0, 1.0], True, 1.0, 1.0, True),
        ([2.0, 2.0, 2.0, 0.9], True, 0.75, 0.75, True),
        ([2.0, 2.0, 2.0, 0.9], True, 0.76, 0.75, False),
        ([2.0, 2.0, 2.0, None], True, 0.75, 0.75, True),
        ([2.0, 2.0, 2.0, math.inf], True, 1.0, 0.75, False),
    ],
)
def test_enough_rows_go_the_expected_way_or_stay(
    after: list[Any], rises: bool, min_share: float, share: float, holds: bool
) -> None:
    """The share of rows decides; who stays within rounding is no objection, who has no number is one."""
    found = direction([1.0, 1.0, 1.0, 1.0], after, rises=rises, min_share=min_share)

    assert (found.share, found.holds) == (share, holds)


def test_rounding_is_relative_to_large_predictions() -> None:
    """A millionth of a large prediction is rounding, ten times as much is not."""
    assert direction([1e6], [1e6 - 0.9], rises=True, min_share=1).holds
    assert not direction([1e6], [1e6 - 9], rises=True, min_share=1).holds


def test_figures_of_a_direction() -> None:
    """The largest change is the one against the direction, the mean has its sign, the worst row went furthest back."""
    found = direction([1.0, 1.0, 1.0], [2.0, 0.5, 0.9], rises=True, min_share=0.3)

    assert (found.rows, found.worst, found.largest) == (3, 1, 0.5)
    assert found.mean == pytest.approx(0.4 / 3)
    assert direction([1.0, 1.0], [2.0, 3.0], rises=True, min_share=1).largest == 0


@pytest.mark.parametrize("rises", [True, False])
def test_no_rows_break_nothing(rises: bool) -> None:
    """Without rows everything holds, with zero rows in the figures."""
    for found in (
        invariance([], [], max_change=0, labels=False),
        invariance([], [], max_change=0, labels=True),
        direction([], [], rises=rises, min_share=1),
    ):
        assert (found.rows, found.holds, found.share) == (0, True, 1.0)


@given(NUMBERS, st.floats(0, 1))
def test_what_rises_falls_the_other_way(values: list[float], share: float) -> None:
    """Turning both the predictions and the expectation around changes nothing."""
    moved = values[::-1]
    up = direction(values, moved, rises=True, min_share=share)
    down = direction([-value for value in values], [-value for value in moved], rises=False, min_share=share)

    assert (up.share, up.holds, up.largest) == (down.share, down.holds, down.largest)


@given(NUMBERS)
def test_any_change_is_allowed_by_itself(values: list[float]) -> None:
    """An invariance with the largest change as its limit holds."""
    largest = invariance(values, values[::-1], max_change=0, labels=False).largest

    assert invariance(values, values[::-1], max_change=largest, labels=False).holds


@given(st.lists(st.sampled_from(["a", "b", None, 1]), min_size=1, max_size=30), st.integers(0, 2**32))
def test_other_rows_have_another_value(values: list[Any], seed: int) -> None:
    """Every row gets one with another value, unless all have the same; None is a value of its own."""
    positions = list(range(len(values)))
    drawn = other_rows(values, positions, np.random.default_rng(seed))

    for position, other in zip(positions, drawn, strict=True):
        assert (other is None) == (len(set(values)) == 1)
        assert other is None or values[other] != values[position]


def test_other_rows_are_drawn_evenly() -> None:
    """Values come as often as other rows have them, not as often as there are values."""
    values = ["a"] * 10 + ["b"] * 90 + ["c"] * 10
    drawn = other_rows(values, [0] * 5000, np.random.default_rng(1))
    counts = np.bincount([int(row) for row in drawn if row is not None], minlength=len(values))

    assert counts[:10].sum() == 0
    assert counts[10:100].sum() / 5000 == pytest.approx(0.9, abs=0.02)
    assert counts[10:].min() > 0
