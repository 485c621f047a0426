"""What a candidate has to prove: measured figures and a policy in, checks with verdicts out.

Limits (minimum, maximum, slices, latency, size) are judged on the figure itself. The comparison with the champion is
judged on the bounds of the difference (see `domain.statistics`), turned so that more is better: `passed` when the
lower bound is above -margin, `failed` when the upper bound is below -margin, else `inconclusive`. What policy asks
for and nobody measured is an `error`; what the rows do not define is `inconclusive`, and so is the comparison with a
champion that can no longer be measured: a person decides then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from taxiway.domain.evidence import Json, Verdict, worst
from taxiway.domain.metrics import higher_is_better
from taxiway.domain.statistics import Interval, finite


@dataclass(frozen=True, slots=True)
class MetricPolicy:
    """Limits of one metric, and how much worse than the champion (in units of the metric) is still acceptable."""

    min: float | None = None
    max: float | None = None
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class SlicePolicy:
    """Limits of a metric in each group of at least `min_rows` rows."""

    by: tuple[str, ...]
    metric: str
    min_rows: int
    min: float | None = None
    max: float | None = None

    def is_missed_by(self, value: float) -> bool:
        """Tell whether a group with this value is outside of the limits."""
        return (self.min is not None and value < self.min) or (self.max is not None and value > self.max)


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """Everything that the gates of one model ask for; `confidence` is that of each one-sided bound."""

    metrics: Mapping[str, MetricPolicy]
    confidence: float
    latency_p99_ms: float
    size_mb: float
    slices: SlicePolicy | None = None


@dataclass(frozen=True, slots=True)
class SliceFigure:
    """The metric in one group of rows; `group` is the value of each column that makes the group."""

    group: Mapping[str, str]
    rows: int
    value: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a candidate; None (or no entry) means not measured.

    `metrics` are the candidate's values on the holdout; `champion` the champion's values on the same rows, None when
    nothing serves yet; `differences` are candidate minus champion. `champion_problem` says why the champion that
    serves could not be measured.
    """

    metrics: Mapping[str, float]
    champion: Mapping[str, float] | None = None
    differences: Mapping[str, Interval] = field(default_factory=dict)
    slices: Sequence[SliceFigure] | None = None
    latency_p99_ms: float | None = None
    size_mb: float | None = None
    champion_problem: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was judged, with a sentence that a person can read."""

    name: str
    verdict: Verdict
    reason: str
    figures: Mapping[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """Return the check as a JSON object."""
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "figures": dict(self.figures),
        }


@dataclass(frozen=True, slots=True)
class GateDecision:
    """All checks of a candidate and the worst of their verdicts."""

    verdict: Verdict
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return the sentences of the checks that decided: those with the overall verdict."""
        return tuple(check.reason for check in self.checks if check.verdict is self.verdict)

    def figures(self) -> dict[str, Json]:
        """Return every check as JSON, ready for `Evidence.figures`."""
        return {"checks": [check.to_json() for check in self.checks]}


def judge(policy: GatePolicy, measured: Measured) -> GateDecision:
    """Judge the measured figures by the policy."""
    checks = tuple(_checks(policy, measured))
    return GateDecision(worst(check.verdict for check in checks), checks)


def _checks(policy: GatePolicy, measured: Measured) -> Iterator[Check]:
    for metric, limits in policy.metrics.items():
        value = measured.metrics.get(metric)
        if limits.min is not None:
            yield _limit(f"{metric} minimum", metric, value, limits.min, upper=False)
        if limits.max is not None:
            yield _limit(f"{metric} maximum", metric, value, limits.max, upper=True)
        if limits.margin is not None:
            yield _comparison(metric, limits.margin, policy.confidence, measured)
    if policy.slices is not None:
        yield _slices(policy.slices, measured.slices)
    yield _limit("latency", "latency p99 in ms", measured.latency_p99_ms, policy.latency_p99_ms, upper=True)
    yield _limit("size", "size in MB", measured.size_mb, policy.size_mb, upper=True)


def _limit(name: str, what: str, value: float | None, limit: float, *, upper: bool) -> Check:
    figures: dict[str, Json] = {"value": finite(value), "maximum" if upper else "minimum": limit}
    if value is None:
        return Check(name, Verdict.ERROR, f"{what} was not measured", figures)
    if math.isnan(value):
        return Check(name, Verdict.INCONCLUSIVE, f"{what} is not defined on these rows", figures)
    shown, bound = _apart(value, limit)
    if value > limit if upper else value < limit:
        side = "above the maximum" if upper else "below the minimum"
        return Check(name, Verdict.FAILED, f"{what} {shown} is {side} {bound}", figures)
    side = "within the maximum" if upper else "reaches the minimum"
    return Check(name, Verdict.PASSED, f"{what} {shown} {'is ' if upper else ''}{side} {bound}", figures)


def _comparison(metric: str, margin: float, confidence: float, measured: Measured) -> Check:
    name = f"{metric} against champion"
    if measured.champion_problem:
        reason = f"{metric} was not compared, because the champion could not be measured: {measured.champion_problem}"
        return Check(name, Verdict.INCONCLUSIVE, reason, {"margin": margin})
    if measured.champion is None:
        return Check(name, Verdict.PASSED, f"there is no champion to compare {metric} with", {"margin": margin})
    interval, value = measured.differences.get(metric), measured.metrics.get(metric)
    champion = measured.champion.get(metric)
    if interval is None or value is None or champion is None:
        return Check(name, Verdict.ERROR, f"{metric} was not compared with the champion", {"margin": margin})
    figures: dict[str, Json] = {
        "candidate": finite(value),
        "champion": finite(champion),
        "margin": margin,
        "confidence": confidence,
        **interval.to_json(),
    }
    if math.isnan(interval.difference):
        return Check(name, Verdict.INCONCLUSIVE, f"{metric} is not defined on these rows", figures)
    verdict, finding = _compare(interval, margin, higher=higher_is_better(metric))
    ours, theirs = _apart(value, champion)
    reason = (
        f"{metric} {ours} {finding} the champion's {theirs}: difference {interval.difference:+.4f}, "
        f"{_bounds(interval, confidence)}, margin {margin:g}"
    )
    return Check(name, verdict, reason, figures)


def _compare(interval: Interval, margin: float, *, higher: bool) -> tuple[Verdict, str]:
    lowest, highest = (interval.lower, interval.upper) if higher else (-interval.upper, -interval.lower)
    if lowest > -margin:
        return Verdict.PASSED, "holds against"
    if highest < -margin:
        return Verdict.FAILED, "is worse than"
    return Verdict.INCONCLUSIVE, "is neither clearly as good as nor clearly worse than"


def _bounds(interval: Interval, confidence: float) -> str:
    days = f"{interval.blocks} day" + ("" if interval.blocks == 1 else "s")
    if not (math.isfinite(interval.lower) and math.isfinite(interval.upper)):
        return f"no bounds from {days}"
    return (
        f"at least {interval.lower:+.4f} and at most {interval.upper:+.4f} "
        f"(each with {confidence * 100:g} % confidence, {days})"
    )


def _slices(policy: SlicePolicy, figures: Sequence[SliceFigure] | None) -> Check:
    name = f"{policy.metric} by {', '.join(policy.by)}"
    if figures is None:
        return Check(name, Verdict.ERROR, f"{name} was not measured")
    judged = [figure for figure in figures if figure.rows >= policy.min_rows]
    outside = [figure for figure in judged if policy.is_missed_by(figure.value)]
    undefined = [figure for figure in judged if math.isnan(figure.value)]
    if outside:
        verdict = Verdict.FAILED
        reason = f"{name} misses {_limits_text(policy)} in {len(outside)} of {len(judged)} judged groups: " + ", ".join(
            f"{_group(each)} {each.value:.4f}" for each in outside
        )
    elif undefined:
        verdict = Verdict.INCONCLUSIVE
        reason = f"{policy.metric} is not defined in {', '.join(_group(each) for each in undefined)}"
    elif judged:
        verdict, reason = Verdict.PASSED, f"{name} keeps {_limits_text(policy)} in all judged groups ({len(judged)})"
    else:
        verdict, reason = Verdict.PASSED, f"{name}: no group has {policy.min_rows} rows, so none was judged"
    return Check(name, verdict, reason, _slice_figures(policy, figures))


def _slice_figures(policy: SlicePolicy, figures: Sequence[SliceFigure]) -> dict[str, Json]:
    groups: list[Json] = [
        {
            "group": dict(figure.group),
            "rows": figure.rows,
            "value": finite(figure.value),
            "judged": figure.rows >= policy.min_rows,
        }
        for figure in figures
    ]
    return {"minimum": policy.min, "maximum": policy.max, "min_rows": policy.min_rows, "groups": groups}


def _limits_text(policy: SlicePolicy) -> str:
    limits = (("the minimum", policy.min), ("the maximum", policy.max))
    return " and ".join(f"{name} {limit:.3f}" for name, limit in limits if limit is not None)


def _group(figure: SliceFigure) -> str:
    return f"{' '.join(f'{column}={value}' for column, value in figure.group.items())} ({figure.rows} rows)"


def _apart(value: float, other: float) -> tuple[str, str]:
    """Return both numbers with the same decimals (3 or more), enough to tell them apart."""
    decimals = 3
    while decimals < 12 and value != other and f"{value:.{decimals}f}" == f"{other:.{decimals}f}":
        decimals += 1
    return f"{value:.{decimals}f}", f"{other:.{decimals}f}"
