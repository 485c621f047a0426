"""How often whole rollouts err, on simulated versions; benchmarks/rollout_error_rates.py measures more of them."""

from __future__ import annotations

from benchmarks.rollout_error_rates import BAD, EQUAL, Version, measure


def test_an_equal_challenger_is_not_aborted_by_chance() -> None:
    """Whatever both versions fail, many looks at an equal challenger abort none of these rollouts."""
    for name in ("0.5 % errors", "3 % errors, callers' fault"):
        assert measure(EQUAL[name], EQUAL[name], runs=15, seed=1).aborted == 0, name


def test_a_bad_challenger_is_stopped() -> None:
    """Three times the allowed errors, twice the latency where 1.5 times is allowed: no rollout gets through."""
    for name in ("3 % errors", "2 x latency"):
        rates = measure(Version(), BAD[name], runs=15, seed=2)
        assert (rates.stopped, rates.aborted > 0.8) == (1, True), name
