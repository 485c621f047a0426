"""Candidates with bad answers, under traffic: each is stopped where it shows, and callers never notice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taxiway.domain.rollout import Phase
from taxiway.domain.values import TrafficPlan
from tests.gateway_process import wait_until
from tests.unit.bad_candidates import CANARY, CLASSES, NUMBERS, RARE, SHADOW, Code, Production, production, watched

pytestmark = pytest.mark.timeout(600)  # the first test may have to build the models' environment
MODELS = {
    NUMBERS: {
        "good": Code("return x"),
        "slower": Code("time.sleep(0.05); return x"),
        "fails": Code(f"if (x >= {RARE}).any(): raise ValueError('never seen')\n        return x"),
        "shifted": Code("return x + 0.4"),
    },
    CLASSES: {
        "good": Code("return np.where(x < 0.5, 'low', 'high')"),
        "shifted": Code("return np.where(x < 0.1, 'low', 'high')"),
    },
}

NO = "a person decided to stop"


@pytest.fixture(scope="module")
def productions(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> Iterator[dict[str, Production]]:
    with production(tmp_path_factory, keys, MODELS) as made:
        yield made


@pytest.fixture
def numbers(productions: dict[str, Production]) -> Production:
    return productions[NUMBERS]


@pytest.fixture
def classes(productions: dict[str, Production]) -> Production:
    return productions[CLASSES]


def test_a_candidate_that_fails_on_rare_rows_ends_in_its_shadow(numbers: Production) -> None:
    """3 % of the rows make it fail, 1 % are allowed: it is out before a caller depends on it."""
    with numbers.traffic() as answers:
        state = watched(numbers.roll_out("fails", SHADOW), Phase.ABORTED)

    assert "requests failed; the policy allows 1.00% (surely more than" in state.reason
    assert 0.02 < numbers.history("fails")[2]["measured"]["compared"]["error_rate"] < 0.05
    assert {(200, "1")} == {(status, version) for status, version, _ in answers.got}
    numbers.check_stopped("fails", state.reason, "deploying", "shadow")


def test_a_slower_candidate_ends_in_its_shadow(numbers: Production) -> None:
    """Many times the champion's latency is sure after few requests, and nobody waited for it."""
    with numbers.traffic() as answers:
        state = watched(numbers.roll_out("slower", SHADOW), Phase.ABORTED)

    assert "latency is" in state.reason
    assert "allowed is 5 x" in state.reason
    assert numbers.history("slower")[2]["measured"]["compared"]["latency_ratio_at_least"] > 5
    assert {(200, "1")} == {(status, version) for status, version, _ in answers.got}
    numbers.check_stopped("slower", state.reason, "deploying", "shadow")


def test_shifted_numbers_wait_for_a_person(numbers: Production) -> None:
    """Other predictions are not worse ones: the shadow stays a shadow until somebody says no."""
    rollout = numbers.roll_out("shifted", SHADOW)
    with numbers.traffic() as answers:
        held = watched(rollout, Phase.WAITING, Phase.ABORTED)
        assert rollout.look().phase is Phase.WAITING
        rollout.look(False)
        wait_until(lambda: rollout.look().phase is Phase.ABORTED)

    assert "the predictions are shifted by 0.4" in held.reason
    assert "allowed is 0.2" in held.reason
    waited = numbers.history("shifted")[2]
    assert (waited["phase"], waited["reason"]) == ("waiting", held.reason)
    assert 0 < waited["measured"]["compared"]["agreement"] < 0.7
    assert {(200, "1")} == {(status, version) for status, version, _ in answers.got}
    numbers.check_stopped("shifted", NO, "deploying", "shadow", "waiting")


def test_shifted_classes_wait_for_a_person(classes: Production) -> None:
    """Another share of each class is a shift too; the canary keeps its share until somebody says no."""
    rollout = classes.roll_out("shifted", CANARY)
    with classes.traffic() as answers:
        held = watched(rollout, Phase.WAITING, Phase.ABORTED)
        assert classes.target.status("classes").plan == TrafficPlan(stable=1, challenger=2, challenger_percent=50)
        rollout.look(False)
        wait_until(lambda: rollout.look().phase is Phase.ABORTED)

    assert "the predictions are shifted by 0." in held.reason
    assert classes.history("shifted")[2]["reason"] == held.reason
    assert {200} == {status for status, _, _ in answers.got}
    classes.check_stopped("shifted", NO, "deploying", "canary", "waiting")
