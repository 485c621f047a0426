"""Drift: bins fixed by the reference, profiles that add up, and an index that is right, finite and calm."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from taxiway.domain.drift import MAX_CATEGORIES, Bins, Profile, bins_of, noise, profile, psi

RNG_SEED = 7


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(RNG_SEED)


def objects(*values: object) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def index(reference: np.ndarray, current: np.ndarray) -> float:
    bins = bins_of(reference)
    return psi(profile(reference, bins).counts, profile(current, bins).counts)


def test_psi_is_the_published_formula() -> None:
    """On large counts the half count vanishes and the sum over (q - p) ln(q / p) is left."""
    million = 1_000_000
    expected = (0.5 - 0.2) * math.log(0.5 / 0.2) + (0.5 - 0.8) * math.log(0.5 / 0.8)

    assert psi([2 * million, 8 * million], [5 * million, 5 * million]) == pytest.approx(expected, abs=1e-5)


def test_psi_of_the_same_shares_is_zero() -> None:
    """The same shares give 0 whatever the numbers of rows; bins that nobody uses change nothing."""
    assert psi([10, 30, 0], [10, 30, 0]) == 0
    assert psi([1000, 3000], [10, 30]) == pytest.approx(0, abs=1e-3)


def test_psi_is_symmetric_and_finite_for_empty_bins() -> None:
    """Exchanging the sides changes nothing, and a bin that one side never had keeps the index finite."""
    assert psi([100, 0], [0, 100]) == psi([0, 100], [100, 0])
    assert 5 < psi([100, 0], [0, 100]) < math.inf


def test_psi_refuses_what_it_cannot_compare() -> None:
    """Different numbers of bins, and a side without rows, are errors and not zeros."""
    with pytest.raises(ValueError, match="2 and 3 bins"):
        psi([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="no rows"):
        psi([1, 2], [0, 0])


def test_numeric_bins_are_deciles_of_the_reference() -> None:
    """A continuous reference fills ten bins evenly and the bins outside of its range not at all."""
    counts = profile(np.arange(1000.0), bins_of(np.arange(1000.0))).counts

    assert counts[0] == counts[-2] == counts[-1] == 0
    assert all(90 <= count <= 110 for count in counts[1:-2])
    assert len(counts) == 10 + 3


def test_value_that_fills_many_deciles_has_a_bin_of_its_own() -> None:
    """In a column that is mostly zero (precipitation), zeros and small values are told apart."""
    rain = np.concatenate([np.zeros(900), np.linspace(0.01, 1, 100)])

    assert profile(rain, bins_of(rain)).counts == (0, 900, 100, 0, 0)


def test_numeric_column_of_few_values_is_binned_by_value() -> None:
    """A weekday gets one bin per day, so that a shift between two neighbours is seen."""
    weekdays = np.tile(np.arange(7), 100)
    moved = np.where(weekdays == 3, 4, weekdays)

    assert profile(weekdays, bins_of(weekdays)).counts == (0, *([100] * 7), 0, 0)
    assert index(weekdays, moved) > 0.2


def test_values_below_and_above_the_reference_are_counted_apart() -> None:
    """What the reference never had lands outside, on either side; infinities do too."""
    bins = bins_of(np.arange(1000.0))
    counts = profile(np.array([-0.5, -np.inf, 999.5, np.inf, 1e9]), bins).counts

    assert (counts[0], counts[-2]) == (2, 3)


def test_constant_column_notices_every_other_value() -> None:
    """A reference of one value (a month, say) has room for values on both sides of it."""
    march = np.full(500, 3)

    assert index(march, march) == 0
    assert index(march, np.full(500, 2)) > 1
    assert index(march, np.full(500, 4)) > 1


def test_one_outlier_changes_nothing(rng: np.random.Generator) -> None:
    """A single absurd value neither hides a drift nor makes one, on either side."""
    reference, same, moved = rng.normal(0, 1, 5000), rng.normal(0, 1, 5000), rng.normal(1, 1, 5000)

    assert index(np.append(reference, 1e6), np.append(same, 1e6)) < 0.02
    assert index(reference, np.append(same, 1e6)) < 0.02
    assert index(reference, np.append(moved, 1e6)) == pytest.approx(index(reference, moved), abs=0.01)


def test_missing_values_are_a_bin_of_their_own(rng: np.random.Generator) -> None:
    """None, NaN and text in a numeric column are missing; a feed that loses values has drifted."""
    reference = rng.normal(0, 1, 1000)
    holes = reference.copy()
    holes[:400] = np.nan
    bins = bins_of(reference)

    assert profile(objects(1.0, "2.0", None, float("nan"), "much"), bins).missing == pytest.approx(3 / 5)
    assert profile(holes, bins).missing == pytest.approx(0.4)
    assert index(reference, holes) > 0.2


def test_column_without_any_value_can_be_profiled() -> None:
    """A reference that is all missing compares equal to itself and not to values."""
    nothing = np.full(100, np.nan)

    assert index(nothing, nothing) == 0
    assert index(nothing, np.arange(100.0)) > 1
    assert bins_of(nothing).labels == ("any", "missing")


def test_categories_are_counted_with_a_bin_for_new_ones() -> None:
    """Known categories keep their bins; new ones and missing ones get theirs; order does not matter."""
    bins = bins_of(objects("EWR", "JFK", "EWR", None, "LGA"))

    assert bins.labels == ("EWR", "JFK", "LGA", "other", "missing")
    assert profile(objects("JFK", "BOS", float("nan"), None, "EWR", "JFK"), bins).counts == (1, 2, 0, 1, 2)


def test_new_category_is_drift() -> None:
    """A category that takes a fifth of the rows and was never there before moves the index."""
    reference = objects(*["A"] * 500, *["B"] * 500)

    assert index(reference, objects(*["A"] * 400, *["B"] * 400, *["C"] * 200)) > 0.2


def test_rare_categories_beyond_the_limit_are_counted_together() -> None:
    """A column of thousands of names keeps the most frequent ones; the others are known as `other` in the reference."""
    frequent = [f"C{number}" for number in range(MAX_CATEGORIES)] * 10
    bins = bins_of(objects(*frequent, "rare 1", "rare 2"))

    assert len(bins.labels) == MAX_CATEGORIES + 2
    assert profile(objects("rare 1", "rare 3"), bins).counts[-2] == 2


def test_booleans_are_categories() -> None:
    """A flag has two categories."""
    assert bins_of(np.array([True, False, True])).labels == ("False", "True", "other", "missing")


def test_profiles_of_parts_add_up_to_the_profile_of_the_whole(rng: np.random.Generator) -> None:
    """Hours add up to a day: the sum of the parts' profiles is the whole's."""
    values = rng.normal(0, 1, 1000)
    bins = bins_of(values)

    assert profile(values[:300], bins) + profile(values[300:], bins) == profile(values, bins)


def test_profiles_on_different_bins_do_not_add_up() -> None:
    """Counts of different bins are never mixed."""
    with pytest.raises(ValueError, match="different bins"):
        _ = Profile(Bins((0.0,)), (1, 1, 0)) + Profile(Bins((1.0,)), (1, 1, 0))


@pytest.mark.parametrize("values", [np.arange(100.0) / 7, objects("a", "b", None)])
def test_profile_survives_json(values: np.ndarray) -> None:
    """A profile read back from its JSON text is the same, and so are its bins."""
    found = profile(values, bins_of(values))

    assert Profile.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_no_rows_make_a_profile_of_zeros() -> None:
    """An empty window counts nothing and has no missing share."""
    found = profile(np.array([]), bins_of(np.arange(100.0)))

    assert (found.rows, found.missing) == (0, 0.0)


def test_sample_of_the_same_distribution_does_not_drift(rng: np.random.Generator) -> None:
    """Two samples of thousands of rows stay far below the usual limit of 0.1."""
    assert max(index(rng.normal(0, 1, 5000), rng.normal(0, 1, 5000)) for _ in range(50)) < 0.02


def test_noise_keeps_false_alarms_rare(rng: np.random.Generator) -> None:
    """With days that differ from each other, windows without drift pass the noise at most now and then."""
    alarms = 0
    for _ in range(100):
        reference, window = (rng.normal(rng.normal(0, 1, (days, 1)), 1, (days, 200)) for days in (28, 28))
        bins = bins_of(reference.ravel())
        blocks = np.array([profile(day, bins).counts for day in reference])
        limit = noise(blocks, window_blocks=28, rng=rng)
        alarms += psi(blocks.sum(axis=0), profile(window.ravel(), bins).counts) > limit

    assert alarms <= 5


def test_noise_is_small_where_days_are_alike(rng: np.random.Generator) -> None:
    """Independent rows have hardly any noise, so calm columns keep their power."""
    days = rng.normal(0, 1, (28, 200))
    bins = bins_of(days.ravel())

    assert 0 < noise(np.array([profile(day, bins).counts for day in days]), window_blocks=28, rng=rng) < 0.03


def test_noise_of_too_few_days_is_unknown(rng: np.random.Generator) -> None:
    """Four days say nothing about how days differ: the noise is 0 and the policy alone decides."""
    assert noise([[5, 5], [9, 1], [1, 9], [5, 5]], window_blocks=4, rng=rng) == 0
