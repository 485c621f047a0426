"""Bounds that hold at every look at once: right on known cases, monotone, and rarely wrong however often one looks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from taxiway.domain.sequential import least_share, surely_more, surprising_count

ALPHA = 0.05


@pytest.mark.parametrize(
    ("count", "trials", "share", "sure"),
    [
        (0, 1000, 0.01, False),
        (10, 1000, 0.01, False),
        (15, 1000, 0.01, False),
        (30, 1000, 0.01, True),
        (2, 2, 0.01, True),
        (1, 1, 0.01, False),
        (1, 100_000, 0.0, True),
        (0, 5, 0.0, False),
        (5, 5, 1.0, False),
    ],
)
def test_what_a_count_proves(count: int, trials: int, share: float, sure: bool) -> None:
    """Three times the share of many is proof, twice that of few is not; one proves that the share is not zero."""
    assert surely_more(count, trials, share, alpha=ALPHA) is sure


def test_the_evidence_is_the_mean_likelihood_ratio() -> None:
    """For one success in one trial the ratio of each alternative is q / p, as its definition says."""
    odds = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
    share = 0.2
    ratio = math.fsum(r / (1 + share * (r - 1)) for r in odds) / len(odds)

    assert surely_more(1, 1, share, alpha=1 / ratio + 1e-9)
    assert not surely_more(1, 1, share, alpha=1 / ratio - 1e-9)


def test_bounds_agree_with_the_test() -> None:
    """The lower bound is the largest share that is proven, the surprising count the smallest that proves."""
    bound = least_share(30, 600, alpha=ALPHA)
    assert surely_more(30, 600, bound - 1e-6, alpha=ALPHA)
    assert not surely_more(30, 600, bound + 1e-6, alpha=ALPHA)
    assert least_share(0, 0, alpha=ALPHA) == 0

    count = surprising_count(600, 0.05, alpha=ALPHA)
    assert surely_more(count, 600, 0.05, alpha=ALPHA)
    assert not surely_more(count - 1, 600, 0.05, alpha=ALPHA)
    assert surprising_count(10, 0.95, alpha=ALPHA) == 11  # nothing that ten can do is proof


def test_a_look_at_every_request_is_wrong_one_time_in_twenty_at_most() -> None:
    """Of 1000 runs with exactly the share, looked at after each request, 5 % at most ever seem to have more."""
    fails = np.random.default_rng(1).random((1000, 2000)) < 0.02
    counts = np.cumsum(fails, axis=1)
    surprising = np.array([surprising_count(trials, 0.02, alpha=ALPHA) for trials in range(1, 2001)])

    assert (counts >= surprising).any(axis=1).mean() <= ALPHA
