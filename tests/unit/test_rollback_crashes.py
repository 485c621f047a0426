"""Rollback while MLflow is down, or when it or this process goes away at any step: the order is made good later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway.domain.values import CHAMPION, TrafficPlan
from taxiway.errors import DeliveryStopped, RegistryUnavailable, TargetUnavailable, TransientError
from taxiway.stages.candidates import State
from taxiway.stages.rollback import Order
from tests.unit.model_versions import MODEL, Field
from tests.unit.rolled_back import (
    DANA,
    Dead,
    Wire,
    aliases,
    approved,
    fork,
    roll_back,
    serves,
    states,
    three_versions,
    went_back,
    without_mlflow,
)


@pytest.fixture
def field(keys: tuple[Path, Path]) -> Field:
    """Production serves version 3; 2 is the previous one, 1 is retired."""
    return three_versions(keys)


def test_without_mlflow_production_goes_back_and_the_order_waits(field: Field) -> None:
    """The gateway knows what it has ready; the registry is as it was, and the order's file says what is to do."""
    done = without_mlflow(field)

    assert (3, 2, False) == (done.left, done.to, done.recorded)
    assert TrafficPlan(stable=2) == serves(field)
    assert 3 == aliases(field)[CHAMPION]
    assert Path(done.evidence).is_file()


def test_what_waited_is_recorded_once_mlflow_answers(field: Field) -> None:
    """Housekeeping, or any stage that moves traffic, makes the registry say what production does."""
    without_mlflow(field)

    assert [2] == [order.to for order in field.rollbacks.settle()]
    assert went_back(field)
    assert [] == field.rollbacks.settle()
    assert went_back(field)


def test_the_next_rollback_records_what_waited(field: Field) -> None:
    """Repeating the command is enough; naming another version records both."""
    without_mlflow(field)
    other = Order("dana", "also wrong", to=1)

    assert (3, 2, True) == ((done := roll_back(field)).left, done.to, done.recorded)
    assert went_back(field)
    without_mlflow(field, replace(other, to=2))
    field.rollbacks.roll_back(other)
    assert [State.PRODUCTION, State.ROLLED_BACK, State.ROLLED_BACK] == states(field)


def test_nothing_moves_before_what_waits_is_recorded(field: Field) -> None:
    """No rollout begins, no promotion and no clean-up moves traffic on what the registry said before."""
    approved(field, "fourth")
    without_mlflow(field)

    steps: list[Callable[[], object]] = [
        lambda: field.rollout(4).start(),
        lambda: field.delivery(4).promote(field.production),
        lambda: field.delivery(3).stop("x", production=field.production, notifier=field.notifier),
    ]
    for step in steps:
        with pytest.raises(TransientError, match="rollback to version 2 by dana is not recorded yet"):
            step()
    assert TrafficPlan(stable=2) == serves(field)
    field.rollbacks.settle()
    field.rollout(4).start()
    assert 2 == serves(field).stable  # type: ignore[union-attr]


def test_without_mlflow_a_challenger_is_no_way_back(field: Field) -> None:
    """What is being rolled out, and what is newer than the champion, is never chosen without a name."""
    approved(field, "fourth")
    field.rollout(4).start()

    done = without_mlflow(field)
    field.rollbacks.settle()

    assert (3, 2) == (done.left, done.to)
    assert [State.ROLLED_BACK, State.REJECTED] == states(field)[2:]


def test_without_mlflow_and_without_a_warm_version(keys: tuple[Path, Path]) -> None:
    """When the gateway has nothing ready, the message names what it has, and nothing is left behind."""
    field = Field(keys)
    field.deliver("first")

    for order in (DANA, replace(DANA, to=7)):
        with pytest.raises(DeliveryStopped, match=r"MLflow does not answer, .* it has 1 \(ready\)"):
            without_mlflow(field, order)
    assert [] == field.orders.waiting(MODEL)


def test_a_version_that_is_not_ready_is_refused_without_mlflow(field: Field) -> None:
    """A failed version cannot be chosen, by name or without."""
    field.production.failed[2] = "out of memory"

    for order in (DANA, replace(DANA, to=2)):
        with pytest.raises(DeliveryStopped, match=r"2 \(failed\)"):
            without_mlflow(field, order)


def test_production_that_does_not_answer_is_an_error(field: Field) -> None:
    """Nothing was decided, so nothing waits."""
    field.production.unavailable = True

    with pytest.raises(TargetUnavailable):
        roll_back(field)
    assert [] == field.orders.waiting(MODEL)


def test_a_lost_switch_is_made_good(field: Field) -> None:
    """When the switch may or may not have arrived, the order waits, and repeating it converges."""
    field.production.broken_switches = 1

    with pytest.raises(TargetUnavailable):
        roll_back(field)
    assert [2] == [order.to for order in field.orders.waiting(MODEL)]
    roll_back(field)
    assert went_back(field)


def test_owners_who_cannot_be_told_stop_nothing(field: Field) -> None:
    """A dead channel is a note, not a rollback that is never recorded."""
    field.notifier.failing = True

    done = roll_back(field)

    assert done.recorded
    assert "owners were not told" in done.problems[0]
    assert went_back(field)


REPEATS: dict[str, Callable[[Field], object]] = {
    "the command again": roll_back,
    "the run of the DAG again": lambda field: field.rollbacks.roll_back(replace(DANA, name="run")),
    "what comes next settles": lambda field: field.rollbacks.settle(),
}


@pytest.mark.parametrize("again", REPEATS)
def test_killed_at_any_step_a_repeat_converges(field: Field, tmp_path: Path, again: str) -> None:
    """Between any two calls of the outside world: production is never torn, and repeating ends in the same state."""
    for call in range(1, 200):
        wire, killed = Wire(first_bad=call, error=Dead), fork(field, tmp_path / str(call))
        rollbacks = killed.rollbacks
        watched = replace(rollbacks, registry=wire.watch(killed.registry), production=wire.watch(killed.production))
        try:
            watched.roll_back(replace(DANA, name="run"))
        except Dead:
            pass
        else:
            assert call > 20, "nothing was watched"
            return
        assert serves(killed) in (TrafficPlan(stable=3), TrafficPlan(stable=2))
        ordered = bool(killed.orders.waiting(MODEL)) or serves(killed) == TrafficPlan(stable=2)
        REPEATS[again](killed)
        assert went_back(killed) if ordered or "settles" not in again else serves(killed) == TrafficPlan(stable=3)
    pytest.fail("the rollback never ended")


def test_mlflow_may_go_away_at_any_step(field: Field, tmp_path: Path) -> None:
    """Wherever MLflow stops to answer, production goes back; when it answers again, everything is recorded."""
    for call in range(1, 200):
        wire = Wire(first_bad=call, error=lambda: RegistryUnavailable("gone"))
        cut_off = fork(field, tmp_path / str(call))

        done = replace(cut_off.rollbacks, registry=wire.watch(cut_off.registry)).roll_back(DANA)

        assert TrafficPlan(stable=2) == serves(cut_off)
        cut_off.rollbacks.settle()
        assert went_back(cut_off)
        if wire.calls < call:
            assert done.recorded
            return
    pytest.fail("the rollback never ended")
