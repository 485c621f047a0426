"""Production goes back in one switch, and what was taken out stays out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from taxiway.domain.values import CHALLENGER, CHAMPION, PREVIOUS, TrafficPlan
from taxiway.errors import DeliveryStopped
from taxiway.stages.aliases import alias_history
from taxiway.stages.candidates import CLOSED, REASON, STATE, State, state_of
from taxiway.stages.rollback import Order
from tests.unit.model_versions import MODEL, Field
from tests.unit.rolled_back import (
    aliases,
    approved,
    champion_moves,
    loaded,
    roll_back,
    serves,
    states,
    three_versions,
    went_back,
)


@pytest.fixture
def field(keys: tuple[Path, Path]) -> Field:
    """Production serves version 3; 2 is the previous one, 1 is retired."""
    return three_versions(keys)


def test_production_and_aliases_go_back_to_the_previous_champion(field: Field) -> None:
    """The previous version serves and is champion; the bad one is marked and `previous` never points to it."""
    done = roll_back(field)

    assert (3, 2, True, ()) == (done.left, done.to, done.recorded, done.problems)
    assert went_back(field)
    assert [2] == loaded(field)
    assert field.notifier.sent[-1].title.endswith("rolled back from version 3 to 2")


def test_a_rollback_leaves_evidence_of_who_and_why(field: Field) -> None:
    """The version that was taken out keeps who ordered it and the reason, and the outcome leads there."""
    done = roll_back(field)

    run_id = field.registry.candidate(MODEL, 3).run_id
    evidence = field.registry.get_json(run_id, "taxiway/rollback.json")
    assert ["wrong answers"] == evidence["reasons"]
    assert "dana" == evidence["figures"]["by"]
    assert field.registry.page(run_id, "taxiway/rollback.json") == done.evidence


def test_every_move_of_an_alias_has_its_history(field: Field) -> None:
    """When, from where, to where, by whom and why: of deliveries and of rollbacks."""
    roll_back(field)

    assert champion_moves(field, 2) == [
        (1, 2, "delivery of version 2", "its rollout ended well"),
        (3, 2, "dana", "wrong answers"),
    ]
    moved = {move["alias"] for move in alias_history(field.registry, field.registry.candidate(MODEL, 3))}
    assert moved == {"champion", "challenger", "staging"}
    assert [move["to"] for move in alias_history(field.registry, field.registry.candidate(MODEL, 1))][-1] == 1


def test_a_version_can_be_named(field: Field) -> None:
    """A named version that was approved before serves again, even when it is no longer warm."""
    assert (3, 1) == (roll_back(field, to=1).left, serves(field).stable)  # type: ignore[union-attr]
    assert [State.PRODUCTION, State.RETIRED, State.ROLLED_BACK] == states(field)


def test_a_version_without_approval_is_refused(field: Field) -> None:
    """Nothing moves when the named version was never approved for production, and no order is left behind."""
    never_approved = field.candidate("fourth")

    with pytest.raises(DeliveryStopped, match="never approved"):
        roll_back(field, to=never_approved.version)
    assert TrafficPlan(stable=3) == serves(field)
    assert [] == field.orders.waiting(MODEL)


def test_a_first_version_has_nothing_to_go_back_to(keys: tuple[Path, Path]) -> None:
    """The only version stays, and the message says what to do."""
    field = Field(keys)
    field.deliver("first")

    with pytest.raises(DeliveryStopped, match="no previous version"):
        roll_back(field)


def test_a_rolled_back_version_is_not_delivered_again_by_itself(field: Field) -> None:
    """Admission, rollout and promotion refuse it, and say how a person brings it back."""
    roll_back(field)

    steps: list[Callable[[], object]] = [
        lambda: field.delivery(3).admit(field.verifier),
        lambda: field.rollout(3).claim(),
        lambda: field.rollout(3).start(),
        lambda: field.delivery(3).promote(field.production),
    ]
    for step in steps:
        with pytest.raises(DeliveryStopped, match=r"rolled_back: wrong answers .*taxiway rollback \w+ --to 3"):
            step()
    assert went_back(field)


def test_a_person_brings_a_version_back_by_name(field: Field) -> None:
    """The one that served meanwhile retires and becomes `previous`: it was not bad."""
    roll_back(field)

    field.rollbacks.roll_back(Order("dana", "it was the network", to=3))

    assert [State.RETIRED, State.RETIRED, State.PRODUCTION] == states(field)
    assert aliases(field).items() >= {CHAMPION: 3, PREVIOUS: 2}.items()
    assert "by dana: it was the network" == field.registry.candidate(MODEL, 3).tags[REASON]
    assert [2, 3] == loaded(field)


def test_an_unnamed_rollback_never_goes_to_a_bad_version(field: Field) -> None:
    """A closed previous version is passed over for the newest good one."""
    field.registry.set_tags(MODEL, 2, {STATE: State.ROLLED_BACK.value})

    assert 1 == roll_back(field).to


def test_a_promotion_that_was_cut_off_is_rolled_back_to_the_champion(field: Field) -> None:
    """When another version than the champion serves, the champion is the way back."""
    field.registry.set_alias(MODEL, CHAMPION, 2)

    done = roll_back(field)

    assert (3, 2) == (done.left, done.to)
    assert State.ROLLED_BACK is states(field)[2]
    assert TrafficPlan(stable=2) == serves(field)


def test_a_repeated_order_is_one_order(field: Field) -> None:
    """The same run of the DAG, or the same command typed twice, does not go back twice."""
    by_dag = Order("dana", "wrong answers", name="manual__1")
    first, again = (field.rollbacks.roll_back(by_dag) for _ in range(2))
    typed = roll_back(field)

    assert [(3, 2)] * 3 == [(done.left, done.to) for done in (first, again, typed)]
    assert "name a version" in typed.problems[0]
    assert 1 == field.rollbacks.roll_back(Order("dana", "also wrong")).to


@pytest.mark.parametrize("share", [0, 20, 100], ids=["loaded", "canary", "promoting"])
def test_a_repeated_order_ends_what_has_come_since(field: Field, share: int) -> None:
    """The same command a minute later leaves the version that it chose alone in production, whatever has begun."""
    roll_back(field)
    fourth = approved(field, "fourth")
    field.rollout(fourth).start()
    plans = {0: TrafficPlan(stable=2), 20: TrafficPlan(2, fourth, 20), 100: TrafficPlan(stable=fourth)}
    field.production.set_traffic(MODEL, plans[share])

    done = roll_back(field)

    assert (2, TrafficPlan(stable=2), 2) == (done.to, serves(field), aliases(field)[CHAMPION])
    assert state_of(field.registry.candidate(MODEL, fourth)) in CLOSED
    with pytest.raises(DeliveryStopped):
        field.rollout(fourth).look()


def test_the_same_order_at_another_time_is_another_one(field: Field) -> None:
    """Who has the same reason again next week wants the version out that serves then."""
    roll_back(field)
    field.clock.advance(timedelta(days=7))

    assert 1 == roll_back(field).to


def test_to_the_version_that_serves_ends_a_rollout_only(field: Field) -> None:
    """A rollout is stopped by naming the champion: it stays, and the new version is rejected."""
    approved(field, "fourth")
    field.rollout(4).start()
    roll_back(field, to=3)

    assert [State.PRODUCTION, State.REJECTED] == states(field)[2:]
    assert (3, 2) == (aliases(field)[CHAMPION], aliases(field)[PREVIOUS])
    assert CHALLENGER not in aliases(field)
