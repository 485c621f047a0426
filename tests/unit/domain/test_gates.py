"""Gates: limits on the figure, the comparison on its bounds, and nothing unmeasured passes."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxiway.domain.evidence import Verdict
from taxiway.domain.gates import (
    Check,
    GateDecision,
    GatePolicy,
    Measured,
    MetricPolicy,
    SliceFigure,
    SlicePolicy,
    judge,
)
from taxiway.domain.statistics import Interval

PASSED, FAILED, INCONCLUSIVE, ERROR = Verdict.PASSED, Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.ERROR
LIMITS = MetricPolicy(min=0.65, margin=0.005)
POLICY = GatePolicy({"roc_auc": LIMITS}, confidence=0.95, latency_p99_ms=80, size_mb=200)
BY_ORIGIN = SlicePolicy(("origin",), "roc_auc", min_rows=1000, min=0.58)
FIRST = Measured({"roc_auc": 0.712}, slices=[], latency_p99_ms=12.5, size_mb=1.5)

order = [PASSED, INCONCLUSIVE, ERROR, FAILED]


def interval(lower: float, upper: float) -> Interval:
    """Return the interval of 14 days between the bounds."""
    return Interval((lower + upper) / 2, lower, upper, (upper - lower) / 3.7, 14)


def against_champion(bounds: Interval, *, metric: str = "roc_auc") -> Measured:
    """Return figures with a champion of 0.700 and this difference to it."""
    value = 0.7 + bounds.difference
    return replace(FIRST, metrics={metric: value}, champion={metric: 0.7}, differences={metric: bounds})


def check(decision: GateDecision, name: str) -> Check:
    """Return the one check of that name."""
    (found,) = [each for each in decision.checks if each.name == name]
    return found


def test_a_first_version_is_judged_by_its_limits() -> None:
    """Without a champion the comparison passes and says that there was none."""
    decision = judge(POLICY, FIRST)

    assert decision.verdict is PASSED
    assert decision.reasons == (
        "roc_auc 0.712 reaches the minimum 0.650",
        "there is no champion to compare roc_auc with",
        "latency p99 in ms 12.500 is within the maximum 80.000",
        "size in MB 1.500 is within the maximum 200.000",
    )


@pytest.mark.parametrize(
    ("figures", "name", "reason"),
    [
        ({"metrics": {"roc_auc": 0.612}}, "roc_auc minimum", "roc_auc 0.612 is below the minimum 0.650"),
        ({"metrics": {"roc_auc": 0.64996}}, "roc_auc minimum", "roc_auc 0.64996 is below the minimum 0.65000"),
        ({"latency_p99_ms": 80.4}, "latency", "latency p99 in ms 80.400 is above the maximum 80.000"),
        ({"size_mb": 312.0}, "size", "size in MB 312.000 is above the maximum 200.000"),
    ],
)
def test_a_violated_limit_fails(figures: dict[str, object], name: str, reason: str) -> None:
    """Each limit fails alone, with both figures in the sentence, told apart by their decimals."""
    decision = judge(POLICY, replace(FIRST, **figures))  # type: ignore[arg-type]

    assert decision.verdict is FAILED
    assert (check(decision, name).verdict, decision.reasons) == (FAILED, (reason,))


def test_limits_are_reached_by_equality() -> None:
    """A figure that equals its limit passes."""
    at_limits = Measured({"roc_auc": 0.65}, latency_p99_ms=80.0, size_mb=200.0)

    assert judge(POLICY, at_limits).verdict is PASSED


def test_a_maximum_is_for_metrics_that_are_better_when_low() -> None:
    """A metric above its maximum fails."""
    policy = replace(POLICY, metrics={"rmse": MetricPolicy(max=12.0)})

    assert judge(policy, replace(FIRST, metrics={"rmse": 11.9})).verdict is PASSED
    assert judge(policy, replace(FIRST, metrics={"rmse": 12.3})).reasons == ("rmse 12.300 is above the maximum 12.000",)


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [
        (0.002, 0.046, PASSED),  # better
        (-0.001, 0.001, PASSED),  # as good as
        (-0.018, 0.035, INCONCLUSIVE),
        (-0.005, 0.010, INCONCLUSIVE),  # the bound has to be above the margin
        (-0.030, -0.005, INCONCLUSIVE),
        (-0.040, -0.012, FAILED),
        (-math.inf, math.inf, INCONCLUSIVE),
    ],
)
def test_comparison(lower: float, upper: float, verdict: Verdict) -> None:
    """The lower bound above -margin passes, the upper bound below -margin fails, all else is for a person."""
    bounds = Interval(0.0, lower, upper, 0.01, 14)

    assert check(judge(POLICY, against_champion(bounds)), "roc_auc against champion").verdict is verdict


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [(-0.046, -0.002, PASSED), (-0.035, 0.018, INCONCLUSIVE), (0.012, 0.040, FAILED)],
)
def test_comparison_of_metrics_that_are_better_when_low(lower: float, upper: float, verdict: Verdict) -> None:
    """For a loss, the difference counts the other way round."""
    policy = replace(POLICY, metrics={"log_loss": MetricPolicy(margin=0.005)})

    decision = judge(policy, against_champion(interval(lower, upper), metric="log_loss"))

    assert decision.verdict is verdict


def test_comparison_sentences() -> None:
    """The sentence has both values, the difference, its bounds and the margin."""
    sentences = [
        check(judge(POLICY, against_champion(bounds)), "roc_auc against champion").reason
        for bounds in (
            interval(0.002, 0.046),
            interval(-0.040, -0.012),
            Interval(0.02, -math.inf, math.inf, math.inf, 1),
        )
    ]

    assert sentences == [
        "roc_auc 0.724 holds against the champion's 0.700: difference +0.0240, at least +0.0020 and at most +0.0460 "
        "(each with 95 % confidence, 14 days), margin 0.005",
        "roc_auc 0.674 is worse than the champion's 0.700: difference -0.0260, at least -0.0400 and at most -0.0120 "
        "(each with 95 % confidence, 14 days), margin 0.005",
        "roc_auc 0.720 is neither clearly as good as nor clearly worse than the champion's 0.700: difference +0.0200, "
        "no bounds from 1 day, margin 0.005",
    ]


def test_comparison_figures() -> None:
    """The check carries every figure that decided."""
    figures = check(judge(POLICY, against_champion(interval(0.002, 0.046))), "roc_auc against champion").figures

    assert figures.keys() == {
        "candidate", "champion", "margin", "confidence", "difference", "lower", "upper", "standard_deviation", "blocks",
    }  # fmt: skip
    assert (figures["champion"], figures["lower"], figures["blocks"]) == (0.7, 0.002, 14)


@pytest.mark.parametrize(
    ("measured", "name"),
    [
        (replace(FIRST, metrics={}), "roc_auc minimum"),
        (replace(FIRST, latency_p99_ms=None), "latency"),
        (replace(FIRST, size_mb=None), "size"),
        (replace(FIRST, slices=None), "roc_auc by origin"),
        (replace(FIRST, champion={}), "roc_auc against champion"),
        (replace(FIRST, champion={"roc_auc": 0.7}), "roc_auc against champion"),
        (replace(FIRST, champion={}, differences={"roc_auc": interval(0, 1)}), "roc_auc against champion"),
    ],
)
def test_what_was_not_measured_is_an_error(measured: Measured, name: str) -> None:
    """A figure that policy asks for and nobody measured never passes."""
    decision = judge(replace(POLICY, slices=BY_ORIGIN), measured)

    assert decision.verdict is ERROR
    assert check(decision, name).verdict is ERROR


def test_a_champion_that_cannot_be_measured_leaves_the_decision_to_a_person() -> None:
    """The limits are judged; the comparison says why there is none, and does not pass."""
    measured = replace(FIRST, champion={}, champion_problem="version 3: it needs dep_hour")

    decision = judge(POLICY, measured)

    assert decision.verdict is INCONCLUSIVE
    assert decision.reasons == (
        "roc_auc was not compared, because the champion could not be measured: version 3: it needs dep_hour",
    )
    assert judge(POLICY, replace(measured, metrics={"roc_auc": 0.5})).verdict is FAILED


def test_what_is_not_defined_is_for_a_person() -> None:
    """A metric that the rows do not define is inconclusive, in the limit, the comparison and a slice."""
    nothing = Interval(math.nan, -math.inf, math.inf, math.inf, 14)
    measured = Measured(
        {"roc_auc": math.nan},
        champion={"roc_auc": math.nan},
        differences={"roc_auc": nothing},
        slices=[SliceFigure({"origin": "EWR"}, 5000, math.nan)],
        latency_p99_ms=1.0,
        size_mb=1.0,
    )

    decision = judge(replace(POLICY, slices=BY_ORIGIN), measured)

    assert decision.verdict is INCONCLUSIVE
    assert decision.reasons == (
        "roc_auc is not defined on these rows",
        "roc_auc is not defined on these rows",
        "roc_auc is not defined in origin=EWR (5000 rows)",
    )
    json.dumps(decision.figures(), allow_nan=False)


def test_slices_name_the_groups_that_miss_the_minimum() -> None:
    """Every large group must reach the minimum; small ones are listed and not judged."""
    slices = [
        SliceFigure({"origin": "EWR"}, 4000, 0.70),
        SliceFigure({"origin": "JFK"}, 1000, 0.541),
        SliceFigure({"origin": "SWF"}, 999, 0.1),
        SliceFigure({"origin": "TTN"}, 1, math.nan),
    ]

    found = check(judge(replace(POLICY, slices=BY_ORIGIN), replace(FIRST, slices=slices)), "roc_auc by origin")

    assert found.verdict is FAILED
    assert (
        found.reason
        == "roc_auc by origin misses the minimum 0.580 in 1 of 2 judged groups: origin=JFK (1000 rows) 0.5410"
    )
    groups = found.figures["groups"]
    assert isinstance(groups, list)
    assert [group["judged"] for group in groups if isinstance(group, dict)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("slices", "reason"),
    [
        (
            [SliceFigure({"origin": "EWR"}, 1000, 0.58)],
            "roc_auc by origin keeps the minimum 0.580 in all judged groups (1)",
        ),
        ([SliceFigure({"origin": "EWR"}, 999, 0.1)], "roc_auc by origin: no group has 1000 rows, so none was judged"),
        ([], "roc_auc by origin: no group has 1000 rows, so none was judged"),
    ],
)
def test_slices_pass(slices: list[SliceFigure], reason: str) -> None:
    """Groups at the minimum pass, and so does having no group that is large enough."""
    found = check(judge(replace(POLICY, slices=BY_ORIGIN), replace(FIRST, slices=slices)), "roc_auc by origin")

    assert (found.verdict, found.reason) == (PASSED, reason)


def test_slices_may_have_a_maximum() -> None:
    """For a loss, groups above the maximum miss it."""
    policy = replace(POLICY, slices=SlicePolicy(("origin", "carrier"), "brier", min_rows=10, max=0.25))
    slices = [SliceFigure({"origin": "EWR", "carrier": "UA"}, 10, 0.26)]

    assert judge(policy, replace(FIRST, slices=slices)).reasons == (
        "brier by origin, carrier misses the maximum 0.250 in 1 of 1 judged groups: "
        "origin=EWR carrier=UA (10 rows) 0.2600",
    )


def test_the_worst_verdict_decides_and_only_its_reasons_are_given() -> None:
    """A failed limit outweighs an inconclusive comparison, and the decision's reasons are those of the failure."""
    measured = replace(against_champion(interval(-0.018, 0.035)), size_mb=500.0)

    decision = judge(POLICY, measured)

    assert decision.verdict is FAILED
    assert decision.reasons == ("size in MB 500.000 is above the maximum 200.000",)


def test_figures_are_json() -> None:
    """All checks become one JSON document without numbers that JSON does not know."""
    unbounded = Interval(0.01, -math.inf, math.inf, math.inf, 1)

    document = json.loads(json.dumps(judge(POLICY, against_champion(unbounded)).figures(), allow_nan=False))

    assert [each["name"] for each in document["checks"]] == [
        "roc_auc minimum",
        "roc_auc against champion",
        "latency",
        "size",
    ]
    assert document["checks"][1]["figures"]["upper"] is None


differences = st.floats(-0.2, 0.2)


@given(differences, differences, st.floats(0, 0.1), st.floats(0, 0.2))
@settings(deadline=None)
def test_better_figures_never_get_a_worse_verdict(one: float, other: float, margin: float, gain: float) -> None:
    """Moving the whole interval up, or widening the margin, never makes the verdict worse."""
    low, high = sorted((one, other))
    policy = replace(POLICY, metrics={"roc_auc": MetricPolicy(margin=margin)})
    wider = replace(POLICY, metrics={"roc_auc": MetricPolicy(margin=margin + gain)})
    before = judge(policy, against_champion(interval(low, high))).verdict

    assert order.index(judge(policy, against_champion(interval(low + gain, high + gain))).verdict) <= order.index(
        before
    )
    assert order.index(judge(wider, against_champion(interval(low, high))).verdict) <= order.index(before)


@given(differences, differences, st.floats(0, 0.1))
@settings(deadline=None)
def test_directions_mirror(one: float, other: float, margin: float) -> None:
    """A difference in a loss gets the verdict that its mirror image gets in a score."""
    low, high = sorted((one, other))
    score = replace(POLICY, metrics={"roc_auc": MetricPolicy(margin=margin)})
    loss = replace(POLICY, metrics={"log_loss": MetricPolicy(margin=margin)})

    assert (
        judge(score, against_champion(interval(low, high))).verdict
        is judge(loss, against_champion(interval(-high, -low), metric="log_loss")).verdict
    )


@given(st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_a_minimum_holds_exactly(value: float, minimum: float) -> None:
    """A minimum fails exactly when the figure is smaller, and then the sentence shows two different numbers."""
    policy = replace(POLICY, metrics={"roc_auc": MetricPolicy(min=minimum)})

    found = check(judge(policy, replace(FIRST, metrics={"roc_auc": value})), "roc_auc minimum")

    assert found.verdict is (FAILED if value < minimum else PASSED)
    if abs(value - minimum) > 1e-11 and found.verdict is FAILED:
        shown, bound = found.reason.removeprefix("roc_auc ").split(" is below the minimum ")
        assert shown != bound
