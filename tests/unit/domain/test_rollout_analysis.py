"""The judgement of a step: sure harm aborts, what may become sure goes on, and a person decides the rest."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from taxiway.domain.drift import Bins, Profile
from taxiway.domain.evidence import Verdict
from taxiway.domain.observation import CONCORDANCE, EQUAL, Agreement, VersionObservation, concordance
from taxiway.domain.rollout_analysis import Analysis, AnalysisPolicy, Look, Step, analyse, distance
from tests.unit.domain.observed import seen

POLICY = AnalysisPolicy(max_error_rate=0.01, max_latency_ratio=1.5, max_prediction_shift=0.2)
STEP = Step(5, timedelta(minutes=10), 200)
SHADOW = Step(0, timedelta(minutes=10), 200)
CLASSES = Bins(categories=("far", "near"))
PASSED, FAILED, INCONCLUSIVE = Verdict.PASSED, Verdict.FAILED, Verdict.INCONCLUSIVE


def judge(
    champion: VersionObservation,
    challenger: VersionObservation,
    *,
    step: Step = STEP,
    policy: AnalysisPolicy = POLICY,
    minutes: float = 10,
) -> Analysis:
    """Analyse a step that has lasted so long."""
    return analyse(policy, Look(step, champion, challenger, timedelta(minutes=minutes), 0.01))


@pytest.mark.parametrize(
    ("champion", "challenger", "at_first", "at_last"),
    [
        (seen(2), seen(3), PASSED, PASSED),
        (seen(2), seen(3, errors=10), PASSED, PASSED),
        (seen(2), seen(3, errors=11), None, INCONCLUSIVE),  # more than allowed, and perhaps chance
        (seen(2), seen(3, errors=40), FAILED, FAILED),
        (seen(2, errors=40), seen(3, errors=40), None, INCONCLUSIVE),  # the callers' fault, perhaps
        (seen(2, errors=11), seen(3, errors=60), FAILED, FAILED),
        (seen(2, 0), seen(3, errors=40), FAILED, FAILED),
        (seen(2, 10), seen(3, 10, errors=10), FAILED, FAILED),  # who fails all needs no more requests
        (seen(2, 5), seen(3, 5, errors=1), None, None),
        (seen(2), seen(3, slower=1.4), PASSED, PASSED),
        (seen(2), seen(3, slower=1.6), None, INCONCLUSIVE),
        (seen(2), seen(3, slower=3.0), FAILED, FAILED),
        (seen(2, 300), seen(3, 300, slower=2.0), None, None),
        (seen(2), seen(3, moved=0.19), PASSED, PASSED),
        (seen(2), seen(3, moved=0.3), INCONCLUSIVE, INCONCLUSIVE),
        (seen(2), seen(3, 199), None, None),
        (seen(2, 199), seen(3), None, None),
        (seen(2, 0), seen(3), None, None),
        (seen(2), seen(3, 0), None, None),
    ],
)
def test_verdicts(
    champion: VersionObservation, challenger: VersionObservation, at_first: Verdict | None, at_last: Verdict | None
) -> None:
    """When the step has had its time and requests, and when its patience is over too, each case has its verdict."""
    assert judge(champion, challenger).verdict is at_first
    assert judge(champion, challenger, minutes=30).verdict is at_last or challenger.requests < 600


def test_an_undecided_step_takes_three_times_as_long_at_most() -> None:
    """It goes on until it has had three times its duration and its requests; then a person decides."""
    unsure = seen(3, errors=11)

    assert judge(seen(2), unsure, minutes=29).verdict is None
    assert judge(seen(2), seen(3, 599, errors=7), minutes=60).verdict is None
    assert judge(seen(2), unsure, minutes=30).verdict is INCONCLUSIVE


def test_sure_harm_does_not_wait_for_the_end_of_the_step() -> None:
    """Errors and latency abort at any moment; a shift waits for the end."""
    assert judge(seen(2), seen(3, errors=40), minutes=0).verdict is FAILED
    assert judge(seen(2), seen(3, slower=3.0), minutes=0).verdict is FAILED
    assert judge(seen(2), seen(3, moved=0.4), minutes=0).verdict is None


@pytest.mark.parametrize(
    ("challenger", "words"),
    [
        (
            seen(3, errors=40),
            ["40 of 1000 requests failed; the policy allows 1.00%", "surely more than 2.", "0 of 1000"],
        ),
        (seen(3, slower=3.0), ["p95 latency is 2.97 x the champion's", "surely more than 2.", "allowed is 1.5 x"]),
        (seen(3, moved=0.3), ["shifted by 0.30", "allowed is 0.2", "mean 0.5 became 0.8"]),
        (seen(3), ["0 of 1000 requests failed", "p95 latency is 1.00 x", "shifted by 0.00"]),
        (seen(3, dropped=7), ["7 copies more were not sent"]),
    ],
)
def test_reasons_are_sentences_with_figures(challenger: VersionObservation, words: list[str]) -> None:
    """A person reads what was measured, what is sure, and what is allowed."""
    reason = judge(seen(2), challenger).reason
    for word in words:
        assert word in reason


def test_figures_are_given_in_any_case() -> None:
    """The evidence has every comparison, also of a step that passes."""
    figures = judge(seen(2), seen(3, agreement=Agreement(900, 0.97, EQUAL)), step=SHADOW).figures

    assert figures.keys() >= {"error_rate", "latency_ratio", "latency_ratio_at_least", "prediction_shift", "agreement"}
    assert figures["agreement"] == 0.97


def test_the_quantile_suits_the_number_of_requests() -> None:
    """The latency compared is one that ten of the step's requests exceed."""
    for requests, quantile in ((0, "p50"), (100, "p90"), (200, "p95"), (1000, "p99")):
        step = replace(STEP, min_requests=requests)
        assert judge(seen(2, 5000), seen(3, 5000), step=step).figures["latency"] == f"{quantile} latency"


@pytest.mark.parametrize(
    ("agreement", "minutes", "verdict"),
    [
        (Agreement(500, 0.99, EQUAL), 10, PASSED),
        (Agreement(500, 0.80, EQUAL), 10, INCONCLUSIVE),
        (Agreement(20, 1.0, EQUAL), 10, None),  # 20 equal answers do not show 90 %
        (Agreement(20, 1.0, EQUAL), 30, INCONCLUSIVE),
        (Agreement(500, 0.99, CONCORDANCE), 10, PASSED),
        (Agreement(500, 1.0, CONCORDANCE), 10, PASSED),
        (Agreement(500, 0.2, CONCORDANCE), 10, INCONCLUSIVE),
        (Agreement(3, 1.0, CONCORDANCE), 30, INCONCLUSIVE),
        (None, 30, INCONCLUSIVE),
    ],
)
def test_a_shadow_that_does_not_agree_holds_for_a_person(
    agreement: Agreement | None, minutes: float, verdict: Verdict | None
) -> None:
    """Low agreement, and agreement that is not sure, is for a person; without a wanted one it is a figure only."""
    challenger = seen(3, agreement=agreement)
    wanted = replace(POLICY, min_agreement=0.9)

    assert judge(seen(2), challenger, step=SHADOW, policy=wanted, minutes=minutes).verdict is verdict
    assert judge(seen(2), challenger, step=SHADOW).verdict is PASSED
    assert judge(seen(2), challenger, policy=wanted).verdict is PASSED  # a canary is compared with nobody


def test_a_step_without_minimum_passes_without_requests() -> None:
    """A step that asks for no requests passes with none."""
    nothing = VersionObservation(2), VersionObservation(3)

    assert judge(*nothing, step=Step(5)).verdict is PASSED


def test_chance_is_no_shift() -> None:
    """Few requests differ by chance; the same difference of many is a shift."""
    assert judge(seen(2, 20), seen(3, 20, moved=0.25), step=Step(5)).verdict is PASSED
    assert judge(seen(2, 400), seen(3, 400, moved=0.25), step=Step(5)).verdict is INCONCLUSIVE


@pytest.mark.parametrize(
    ("ours", "theirs", "apart"),
    [
        (Profile(CLASSES, (50, 50, 0, 0)), Profile(CLASSES, (80, 20, 0, 0)), 0.3),
        (Profile(CLASSES, (50, 50, 0, 0)), Profile(CLASSES, (0, 0, 10, 0)), 1.0),
        (Profile(CLASSES, (50, 50, 0, 0)), Profile(CLASSES, (45, 45, 0, 10)), 0.1),
        (Profile(Bins((0.0, 1.0)), (0, 10, 0, 0)), Profile(Bins((0.0, 1.0)), (0, 6, 4, 0)), 0.4),
        (Profile(Bins((0.0, 1.0)), (0, 10, 0, 0)), Profile(Bins((0.0, 1.0)), (0, 9, 0, 1)), 0.1),
        (Profile(Bins((0.0, 1.0)), (0, 10, 0, 0)), Profile(CLASSES, (5, 5, 0, 0)), 1.0),
    ],
)
def test_distance_of_predictions(ours: Profile, theirs: Profile, apart: float) -> None:
    """New classes, missing predictions, other numbers and another kind of answer all count."""
    assert distance(ours, theirs) == pytest.approx(apart)
    assert distance(ours, ours) == 0


def test_concordance() -> None:
    """Equal numbers agree fully; a shift, another scale, or opposite numbers agree less."""
    numbers = [1.0, 2.0, 3.0, 4.0]

    assert concordance(numbers, numbers) == 1
    assert concordance([5.0] * 4, [5.0] * 4) == 1
    assert concordance(numbers, [6.0, 7.0, 8.0, 9.0]) == pytest.approx(2 * 1.25 / (2.5 + 25))
    assert concordance(numbers, [2.0, 4.0, 6.0, 8.0]) < 0.7
    assert concordance(numbers, numbers[::-1]) == -1
