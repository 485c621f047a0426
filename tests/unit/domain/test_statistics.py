"""The bootstrap equals resampling the rows themselves, covers as promised, and says when it cannot say."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from taxiway.domain.metrics import METRICS, compute
from taxiway.domain.statistics import LEVELS, PairedRows, expanded_tail, finite, paired_block_bootstrap
from taxiway.errors import ContractError, DataError

CASES = [(kind, metric) for kind, suited in METRICS.items() for metric in suited]


def paired(kind: str, *, rows: int = 240, days: int = 8, seed: int = 3) -> PairedRows:
    """Make rows where the candidate is a little better than the champion."""
    rng = np.random.default_rng(seed)
    blocks = rng.permutation(np.arange(rows) % days) + 15_000
    truth = rng.normal(size=rows)
    views = [truth + rng.normal(size=rows) * noise for noise in (1.0, 0.8)]
    if kind == "regression":
        return PairedRows(truth, views[0], views[1], blocks)
    if kind == "binary":
        scores = [1 / (1 + np.exp(-view)) for view in views]
        return PairedRows((truth > 0).astype(int), scores[0], scores[1], blocks)
    labels = np.digitize(truth, [-0.5, 0.5])
    logits = [np.exp(-np.abs(view[:, None] - np.array([-1.0, 0.0, 1.0]))) for view in views]
    champion, candidate = (each / each.sum(axis=1, keepdims=True) for each in logits)
    return PairedRows(labels, champion, candidate, blocks)


@pytest.mark.parametrize(("kind", "metric"), CASES)
def test_interval_equals_resampling_rows(kind: str, metric: str) -> None:
    """Resampling sums of blocks gives exactly what copying the rows of the drawn days and measuring again gives."""
    rows = paired(kind)
    labels, champion, candidate = (np.asarray(values) for values in (rows.labels, rows.champion, rows.candidate))
    ids = np.asarray(rows.blocks)
    weights = np.random.default_rng(11).multinomial(8, np.full(8, 1 / 8), size=60)
    drawn = []
    for weight in weights:
        taken = np.repeat(np.arange(len(ids)), weight[ids - ids.min()])
        ours = compute(kind, metric, labels[taken], candidate[taken])
        drawn.append(ours - compute(kind, metric, labels[taken], champion[taken]))
    tail = expanded_tail(0.8, 8)

    interval = paired_block_bootstrap(kind, metric, rows, confidence=0.8, resamples=60, rng=np.random.default_rng(11))

    assert interval.lower == pytest.approx(np.quantile(drawn, tail, method="lower"), abs=1e-12)
    assert interval.upper == pytest.approx(np.quantile(drawn, 1 - tail, method="higher"), abs=1e-12)
    assert interval.standard_deviation == pytest.approx(np.std(drawn), abs=1e-12)
    assert interval.blocks == 8


@pytest.mark.parametrize(("kind", "metric"), CASES)
def test_difference_is_candidate_minus_champion(kind: str, metric: str) -> None:
    """The difference is exact, and swapping the models mirrors the interval."""
    rows = paired(kind)
    mirrored = PairedRows(rows.labels, rows.candidate, rows.champion, rows.blocks)
    ahead, behind = (
        paired_block_bootstrap(kind, metric, each, confidence=0.95, rng=np.random.default_rng(5), resamples=99)
        for each in (rows, mirrored)
    )

    expected = compute(kind, metric, rows.labels, rows.candidate) - compute(kind, metric, rows.labels, rows.champion)
    assert ahead.difference == expected
    assert (behind.difference, behind.lower, behind.upper) == pytest.approx((-expected, -ahead.upper, -ahead.lower))


@pytest.mark.parametrize(("kind", "metric"), CASES)
def test_the_same_predictions_do_not_differ(kind: str, metric: str) -> None:
    """A model compared with itself has difference and bounds of exactly zero."""
    rows = paired(kind)
    same = PairedRows(rows.labels, rows.champion, rows.champion, rows.blocks)

    interval = paired_block_bootstrap(kind, metric, same, confidence=0.95, rng=np.random.default_rng(1))

    assert (interval.difference, interval.lower, interval.upper, interval.standard_deviation) == (0, 0, 0, 0)


def test_rounding_scores_to_quantiles_hardly_matters() -> None:
    """With more distinct scores than levels, bounds stay within 1e-4 of those from the scores themselves."""
    rows = paired("binary", rows=3 * LEVELS, days=10)
    labels, ids = np.asarray(rows.labels), np.asarray(rows.blocks)
    weights = np.random.default_rng(2).multinomial(10, np.full(10, 0.1), size=20)
    drawn = []
    for weight in weights:
        taken = np.repeat(np.arange(len(ids)), weight[ids - ids.min()])
        ours, theirs = (np.asarray(scores)[taken] for scores in (rows.candidate, rows.champion))
        drawn.append(
            compute("binary", "roc_auc", labels[taken], ours) - compute("binary", "roc_auc", labels[taken], theirs)
        )

    interval = paired_block_bootstrap(
        "binary", "roc_auc", rows, confidence=0.95, resamples=20, rng=np.random.default_rng(2)
    )

    assert interval.standard_deviation == pytest.approx(np.std(drawn), abs=1e-4)
    assert interval.lower == pytest.approx(np.quantile(drawn, expanded_tail(0.95, 10), method="lower"), abs=1e-4)


def test_one_sided_bounds_cover_as_promised() -> None:
    """With 14 days that differ, each bound misses the truth in about 5 % of samples; row-wise bounds miss far more."""
    rng = np.random.default_rng(21)
    missed = {"days": 0, "rows": 0}
    samples = 300
    for _ in range(samples):
        shared = np.repeat(rng.normal(size=14), 20)
        champion = np.abs(rng.normal(size=280)) + 5
        candidate = champion + shared + rng.normal(size=280)
        for name, blocks in {"days": np.repeat(np.arange(14), 20), "rows": np.arange(280)}.items():
            rows = PairedRows(np.zeros(280), champion, candidate, blocks)
            interval = paired_block_bootstrap("regression", "mae", rows, confidence=0.95, resamples=300, rng=rng)
            missed[name] += (interval.lower > 0) + (interval.upper < 0)

    assert 0.06 < missed["days"] / samples < 0.15  # two bounds of 5 % each
    assert missed["rows"] / samples > 0.4


@pytest.mark.parametrize("blocks", [4, 14, 60])
def test_tails_are_those_of_the_t_distribution(blocks: int) -> None:
    """The tail widens as Hesterberg's formula says with the exact t quantile."""
    exact = stats.norm.cdf(-math.sqrt(blocks / (blocks - 1)) * stats.t.ppf(0.95, blocks - 1))

    assert expanded_tail(0.95, blocks) == pytest.approx(exact, rel=0.01)
    assert expanded_tail(0.95, blocks) < 0.05


def test_one_block_bounds_nothing() -> None:
    """Rows of a single day have a difference, but no bound."""
    interval = paired_block_bootstrap(
        "binary", "roc_auc", paired("binary", days=1), confidence=0.95, rng=np.random.default_rng(1)
    )

    assert interval.difference != 0
    assert (interval.lower, interval.upper, interval.blocks) == (-math.inf, math.inf, 1)
    assert json.loads(json.dumps(interval.to_json(), allow_nan=False))["lower"] is None


def test_undefined_draws_count_against_both_bounds() -> None:
    """When the positives are on one day of three, too many draws have no AUC, so nothing is bounded."""
    labels, blocks = np.array([0, 1, 0, 0, 0, 0]), np.array([1, 1, 2, 2, 3, 3])
    rows = PairedRows(labels, np.linspace(0, 1, 6), np.linspace(1, 0, 6), blocks)

    interval = paired_block_bootstrap("binary", "roc_auc", rows, confidence=0.95, rng=np.random.default_rng(1))

    assert (interval.lower, interval.upper) == (-math.inf, math.inf)
    assert math.isfinite(interval.standard_deviation)


def test_undefined_difference_is_nan() -> None:
    """Rows of one class define no AUC: the difference is NaN and nothing is bounded."""
    rows = PairedRows(np.zeros(6), np.linspace(0, 1, 6), np.linspace(1, 0, 6), np.arange(6))

    interval = paired_block_bootstrap("binary", "roc_auc", rows, confidence=0.95, rng=np.random.default_rng(1))

    assert math.isnan(interval.difference)
    assert (interval.lower, interval.upper, interval.standard_deviation) == (-math.inf, math.inf, math.inf)
    assert interval.to_json()["difference"] is None


def test_the_same_generator_gives_the_same_interval() -> None:
    """Nothing but the generator is random."""
    first, second = (
        paired_block_bootstrap("binary", "roc_auc", paired("binary"), confidence=0.9, rng=np.random.default_rng(4))
        for _ in range(2)
    )

    assert first == second


@pytest.mark.parametrize("blocks", [np.zeros(3, dtype=int), np.linspace(0, 1, 240)])
def test_blocks_are_one_integer_per_row(blocks: np.ndarray) -> None:
    """Blocks of another length or type are refused."""
    rows = paired("binary")

    with pytest.raises(DataError, match="one integer per row"):
        paired_block_bootstrap(
            "binary",
            "roc_auc",
            PairedRows(rows.labels, rows.champion, rows.candidate, blocks),
            confidence=0.95,
            rng=np.random.default_rng(1),
        )


def test_unusable_predictions_are_refused() -> None:
    """Predictions are checked as everywhere."""
    rows = paired("binary")
    broken = PairedRows(rows.labels, rows.champion, np.full(240, 2.0), rows.blocks)

    with pytest.raises(ContractError, match=r"in \[0, 1\]"):
        paired_block_bootstrap("binary", "roc_auc", broken, confidence=0.95, rng=np.random.default_rng(1))


def test_finite_figures() -> None:
    """Numpy numbers become plain ones; what is not finite becomes None."""
    assert [finite(value) for value in (None, math.nan, math.inf, -math.inf, 0.5)] == [None, None, None, None, 0.5]
    assert type(finite(np.float64(0.5))) is float
