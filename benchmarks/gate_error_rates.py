"""How often the gate errs: model pairs with a known true difference of ROC AUC, judged as a build judges them.

Each pair is one holdout with the scores of two models. Scores are binormal: (m + u) x label + v + e, with e normal and
correlated between the models. With day effects, u (how well labels separate) and v (where scores lie) are normal per
day, mostly the same for both models and partly each model's own, and the share of label 1 differs by day. The ROC AUC
over all days is then Phi(m / sqrt(2 + var u + 2 var v)), so m gives each model exactly the AUC that it shall have.

Baseline, on the same pairs: the point comparison, which promotes when the measured difference is not below -margin
(or not below zero). For contrast: the same gate told that rows are independent. It is given 100 blocks of random rows,
which has the same spread as resampling single rows and costs much less.

False promotes are counted where it is hardest, at a true difference of exactly -margin: there a perfect gate with
confidence 0.95 passes 5 %. So the target is missed when the counts contradict "at most 5 %": binomial test at 0.05, of
all pairs together and of each holdout by itself (Bonferroni), or when the point comparison errs less than 5 times more.

    python benchmarks/gate_error_rates.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from taxiway.domain.evidence import Verdict
from taxiway.domain.gates import judge
from taxiway.spec import ModelSpec
from taxiway.spec_ci import Gates
from taxiway.spec_files import load_spec
from taxiway.stages.evaluate import measure
from taxiway.stages.gate import measured, policy

PROJECT = Path(__file__).resolve().parents[1]
TARGET = 0.05
CONTRAST = 5
SURPRISING = 0.05
MARGIN = 0.01
CHAMPION_AUC = 0.70
DIFFERENCES = (-2 * MARGIN, -MARGIN, 0.0, MARGIN, 4 * MARGIN)
LABEL_SHARE = 0.25
LIKENESS = 0.9
"""Correlation of the two models' noise in a row, and of their day effects."""
DAY_EFFECT = 0.3
"""Standard deviation of u and v: daily AUCs vary by .07, as on the flights data."""
ROW_BLOCKS = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: holdouts as (days, rows per day), and pairs per case."""

    holdouts: tuple[tuple[int, int], ...]
    pairs_at_margin: int
    pairs_elsewhere: int
    pairs_by_rows: int


FULL = Plan(((7, 200), (14, 200), (28, 200), (14, 1000)), pairs_at_margin=400, pairs_elsewhere=75, pairs_by_rows=75)
QUICK = Plan(((7, 200), (14, 200)), pairs_at_margin=50, pairs_elsewhere=6, pairs_by_rows=6)


@dataclass(frozen=True, slots=True)
class Case:
    """The conditions under which pairs are drawn."""

    days: int
    rows_per_day: int
    day_effects: bool
    difference: float


@dataclass(frozen=True, slots=True)
class Counts:
    """Verdicts of the gate on the pairs of a case, and what the other rules would have promoted."""

    case: Case
    pairs: int
    passed: int
    inconclusive: int
    failed: int
    point_within_margin: int
    point_not_below: int
    pairs_by_rows: int
    passed_by_rows: int
    median_deviation: float


def main() -> int:
    """Measure, print the figures, and return 0 when the target is met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer holdouts and pairs")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    results = []
    print(_header())
    for day_effects in (False, True):
        for days, rows_per_day in plan.holdouts:
            row = [count(Case(days, rows_per_day, day_effects, difference), plan) for difference in DIFFERENCES]
            print(_row(row), flush=True)
            results += row
    figures = summary(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures | {"cases": [asdict(each) for each in results]}, indent=1))
    print(
        f"\n{figures['pairs']} pairs. Equal or better, but not promoted: gate failed {figures['false_rejects']:.1%}, "
        f"point comparison (not below zero) {figures['false_rejects_point']:.1%}.\nWorse by exactly the margin, but "
        f"promoted: point comparison (within margin) {figures['false_promotes_point']:.1%}, gate below "
        f"(95 % interval {figures['low']:.1%} to {figures['high']:.1%}; p {figures['p_together']:.2f}, "
        f"worst holdout {figures['p_worst_holdout']:.2f})"
    )
    print(
        f"false promotes {figures['false_promotes']:.1%}, target <= {TARGET:.0%} (as far as so many pairs can tell): "
        f"{figures['verdict']}"
    )
    return 0 if figures["verdict"] == "met" else 1


def summary(results: list[Counts]) -> dict[str, Any]:
    """Return the figures of all cases together, with the verdict on the target."""
    worse = [each for each in results if each.case.difference == -MARGIN]
    good = [each for each in results if each.case.difference >= 0]
    pairs, promoted = sum(each.pairs for each in worse), sum(each.passed for each in worse)
    good_pairs = sum(each.pairs for each in good)
    point = sum(each.point_within_margin for each in worse) / pairs
    together = _surprise(promoted, pairs)
    alone = min(1.0, len(worse) * min(_surprise(each.passed, each.pairs) for each in worse))
    low, high = binomtest(promoted, pairs).proportion_ci(0.95)
    met = min(together, alone) >= SURPRISING and point >= CONTRAST * promoted / pairs
    return {
        "pairs": sum(each.pairs for each in results),
        "false_promotes": promoted / pairs,
        "low": low,
        "high": high,
        "false_promotes_point": point,
        "false_rejects": sum(each.failed for each in good) / good_pairs,
        "false_rejects_point": 1 - sum(each.point_not_below for each in good) / good_pairs,
        "p_together": together,
        "p_worst_holdout": alone,
        "target": TARGET,
        "verdict": "met" if met else "missed",
    }


def _surprise(promoted: int, pairs: int) -> float:
    """Return how probable so many promotions are when the true rate is the target."""
    return float(binomtest(promoted, pairs, TARGET, alternative="greater").pvalue)


def _header() -> str:
    titles = ["days x rows", "day effects", "sd", *(f"{each:+.2f}" for each in DIFFERENCES)]
    titles += [f"{rule} at {-MARGIN:+.2f}" for rule in ("point, within margin", "point, not below", "blocks of rows")]
    return "\n".join(
        [
            "Shares of pairs in %, by true difference. Gate: passed / inconclusive / failed. Last columns: promoted.",
            f"Margin {MARGIN:g}; sd: of the measured difference, as the bootstrap sees it (median).\n",
            f"| {' | '.join(titles)} |",
            "|---" * len(titles) + "|",
        ]
    )


def _row(results: list[Counts]) -> str:
    at_margin = next(each for each in results if each.case.difference == -MARGIN)
    case = at_margin.case
    cells = [f"{case.days} x {case.rows_per_day}", "yes" if case.day_effects else "no"]
    cells.append(f"{at_margin.median_deviation:.4f}")
    for each in results:
        cells.append(" / ".join(_percent(part, each.pairs) for part in (each.passed, each.inconclusive, each.failed)))
    cells += [_percent(part, at_margin.pairs) for part in (at_margin.point_within_margin, at_margin.point_not_below)]
    cells.append(_percent(at_margin.passed_by_rows, at_margin.pairs_by_rows))
    return f"| {' | '.join(cells)} |"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}"


def count(case: Case, plan: Plan) -> Counts:
    """Draw and judge the pairs of a case."""
    at_margin = case.difference == -MARGIN
    pairs = plan.pairs_at_margin if at_margin else plan.pairs_elsewhere
    pairs_by_rows = plan.pairs_by_rows if at_margin else 0
    spec = _spec()
    verdicts: Counter[Verdict] = Counter()
    differences, deviations = [], []
    passed_by_rows = 0
    for seed in range(pairs):
        holdout, champion, candidate = draw(case, seed, spec)
        verdict, difference, deviation = gate(spec, holdout, champion, candidate)
        verdicts[verdict] += 1
        differences.append(difference)
        deviations.append(deviation)
        if seed < pairs_by_rows:
            dealt = np.random.default_rng(seed).integers(ROW_BLOCKS, size=len(holdout))
            mixed = holdout.assign(**{spec.task.timestamp: _dates(dealt)})
            passed_by_rows += gate(spec, mixed, champion, candidate)[0] is Verdict.PASSED
    return Counts(
        case,
        pairs,
        verdicts[Verdict.PASSED],
        verdicts[Verdict.INCONCLUSIVE],
        verdicts[Verdict.FAILED],
        sum(each >= -MARGIN for each in differences),
        sum(each >= 0 for each in differences),
        pairs_by_rows,
        passed_by_rows,
        float(np.median(deviations)),
    )


def gate(
    spec: ModelSpec, holdout: pd.DataFrame, champion: NDArray[np.float64], candidate: NDArray[np.float64]
) -> tuple[Verdict, float, float]:
    """Return the verdict as a build gets it, the measured difference and its standard deviation."""
    metrics = measure(spec, holdout, candidate, champion)
    figures = {"metrics": metrics, "champion": 1, "slices": []}
    found = measured(figures, {"latency_p99_ms": 1.0, "size_mb": 1.0})
    interval = found.differences["roc_auc"]
    return judge(policy(spec.gates), found).verdict, interval.difference, interval.standard_deviation


def draw(case: Case, seed: int, spec: ModelSpec) -> tuple[pd.DataFrame, NDArray[np.float64], NDArray[np.float64]]:
    """Return a holdout (label and timestamp) with the scores of champion and candidate."""
    rng = np.random.default_rng(
        [seed, case.days, case.rows_per_day, case.day_effects, round(1e6 * (1 + case.difference))]
    )
    effect = DAY_EFFECT if case.day_effects else 0.0
    days = np.repeat(np.arange(case.days), case.rows_per_day)
    # Beta(2, 6) has the mean LABEL_SHARE and a standard deviation of .14.
    shares = rng.beta(2, 6, size=case.days) if case.day_effects else np.full(case.days, LABEL_SHARE)
    labels = (rng.random(len(days)) < shares[days]).astype(np.int64)
    separation, level = (effect * _alike(rng, case.days)[:, days] for _ in range(2))
    spread = math.sqrt(2 + effect**2 + 2 * effect**2)
    aucs = (CHAMPION_AUC, CHAMPION_AUC + case.difference)
    means = np.array([[spread * NormalDist().inv_cdf(auc)] for auc in aucs])
    scores = (means + separation) * labels + level + _alike(rng, len(days))
    champion, candidate = 1 / (1 + np.exp(-scores))
    return pd.DataFrame({spec.task.label: labels, spec.task.timestamp: _dates(days)}), champion, candidate


def _alike(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Return standard normal noise (2, size), one row per model, with correlation LIKENESS between the models."""
    return math.sqrt(LIKENESS) * rng.normal(size=size) + math.sqrt(1 - LIKENESS) * rng.normal(size=(2, size))


def _dates(days: NDArray[np.int64]) -> pd.DatetimeIndex:
    return pd.Timestamp("2013-01-01", tz="UTC") + pd.to_timedelta(days, unit="D")


def _spec() -> ModelSpec:
    spec = load_spec(PROJECT / "include" / "models" / "flight_delays.yaml", {"TAXIWAY_HOME": "."})
    return spec.model_copy(update={"gates": Gates.model_validate({"metrics": {"roc_auc": {"margin": MARGIN}}})})


if __name__ == "__main__":
    sys.exit(main())
