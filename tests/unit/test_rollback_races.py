"""A rollback that comes between any two steps of a delivery wins, and two deliveries never move traffic at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from taxiway.domain.values import CHAMPION, TrafficPlan
from taxiway.errors import PermanentError, TransientError
from taxiway.stages.candidates import CLOSED, State
from taxiway.stages.deliver import Delivery
from taxiway.stages.roll_out import RollOut
from taxiway.stages.rollback import Order
from tests.unit.domain.observed import seen
from tests.unit.model_versions import MODEL, Field
from tests.unit.rolled_back import Meanwhile, aliases, approved, fork, serves, states, three_versions

INCIDENT = Order("dana", "an incident", to=2)
Step = Callable[[Field], object]


@pytest.fixture
def field(keys: tuple[Path, Path]) -> Field:
    """Production serves version 3, and version 4 gets a fifth of the requests."""
    field = three_versions(keys)
    approved(field, "fourth")
    field.rollout(4).start()
    observe(field, errors=0)
    return field


def observe(field: Field, *, errors: int) -> None:
    """Let production report what both versions did."""
    field.production.observed[MODEL] = [seen(3), seen(4, errors=errors)]


def promote(field: Field) -> None:
    """Go through the last tasks of a delivery."""
    field.rollout(4).finish()
    field.delivery(4).promote(field.production)
    field.delivery(4).verify_production(field.production)


def stop(field: Field) -> None:
    """End the delivery of version 4."""
    field.delivery(4).stop("a task failed", production=field.production, notifier=field.notifier)


def fails(field: Field) -> None:
    """Look at a canary that fails, until production is back, and end its delivery."""
    observe(field, errors=900)
    for _ in range(3):
        field.rollout(4).look()
    stop(field)


STEPS: dict[str, Step] = {
    "begins once more": lambda field: field.rollout(4).start(),
    "goes on": lambda field: field.rollout(4).look(),
    "is promoted": promote,
    "fails": fails,
    "is stopped": stop,
}


def hook(field: Field, wire: Meanwhile) -> Field:
    """Return the same installation, with every call of its registry and production watched."""
    watched = fork_of_views(field)
    watched.registry, watched.production = wire.watch(field.registry), wire.watch(field.production)
    return watched


def fork_of_views(field: Field) -> Field:
    """Return another view of the same installation."""
    view = object.__new__(Field)
    view.__dict__.update(field.__dict__)
    return view


@pytest.mark.parametrize("step", STEPS)
def test_a_rollback_between_any_two_steps_wins(field: Field, tmp_path: Path, step: str) -> None:
    """Whenever it comes, even inside of a switch: production ends where the person wants it, and stays there."""
    field.clock.advance(timedelta(minutes=5))
    for call in range(1, 200):
        raced = fork(field, tmp_path / str(call))
        rollbacks = replace(raced.rollbacks, patience=0)
        wire = Meanwhile(call, lambda rollbacks=rollbacks: rollbacks.roll_back(INCIDENT))
        try:
            STEPS[step](hook(raced, wire))
        except (PermanentError, TransientError):
            pass  # it noticed
        if wire.calls < call:
            assert call > 5, "nothing was watched"
            return
        raced.rollbacks.settle()
        stop(raced)  # as the delivery's last task does

        assert (TrafficPlan(stable=2), 2) == (serves(raced), aliases(raced)[CHAMPION])
        assert states(raced)[3] in CLOSED
        assert [] == raced.orders.waiting(MODEL)
    pytest.fail("the step never ended")


def test_what_a_person_put_into_production_stays(field: Field) -> None:
    """A version that a rollback named is champion, though its own delivery ends badly after that."""
    field.rollbacks.roll_back(replace(INCIDENT, to=4))

    with pytest.raises(PermanentError, match="its rollout is over: it is production"):
        field.rollout(4).look()
    stop(field)

    assert (TrafficPlan(stable=4), 4) == (serves(field), aliases(field)[CHAMPION])
    assert State.PRODUCTION is states(field)[3]
    assert "nothing was changed: the version is in production" in field.notifier.sent[-1].text


def test_ending_one_delivery_leaves_the_rollout_of_another(field: Field) -> None:
    """A version that is rejected while another one gets traffic takes nothing away from that."""
    waiting = field.candidate("fifth").version
    field.delivery(waiting).admit(field.verifier)
    canary = serves(field)

    field.delivery(waiting).stop("rejected", production=field.production, notifier=field.notifier)

    assert TrafficPlan(stable=3, challenger=4, challenger_percent=20) == canary == serves(field)


def test_only_one_of_many_takes_the_turn(keys: tuple[Path, Path]) -> None:
    """Deliveries that reach their turn in the same moment: one moves traffic, the others say who does."""
    field = three_versions(keys)
    versions = [field.candidate(f"racer {number}").version for number in range(6)]
    barrier, claims = threading.Barrier(len(versions)), dict[int, int | None]()

    def claim(rollout: RollOut) -> None:
        barrier.wait()
        claims[rollout.version] = rollout.claim()

    racers = [threading.Thread(target=claim, args=(field.rollout(version),)) for version in versions]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    winners = [version for version, blocked_by in claims.items() if blocked_by is None]
    assert 1 == len(winners)
    assert {None, winners[0]} == set(claims.values())
    assert 1 == states(field).count(State.ROLLING_OUT)
    assert field.rollout(winners[0]).claim() is None  # a claim survives the crash of its claimant


def test_a_rollout_that_is_not_its_turn_does_not_begin(field: Field) -> None:
    """Even when the waiting is skipped, a second version gets no traffic."""
    fifth = field.candidate("fifth").version
    field.approve(fifth)

    with pytest.raises(TransientError, match="version 4 moves traffic"):
        field.rollout(fifth).start()
    assert State.APPROVED is states(field)[4]


def test_a_rollback_frees_the_turn_of_a_lost_delivery(field: Field) -> None:
    """A version that rolls out though nobody watches it any more blocks until a person names the champion."""
    fifth = field.candidate("fifth").version
    field.approve(fifth)
    assert 4 == field.rollout(fifth).claim()

    field.rollbacks.roll_back(Order("dana", "its delivery is gone", to=3))

    assert field.rollout(fifth).claim() is None


def test_an_older_version_does_not_overtake_at_its_turn(field: Field) -> None:
    """Two that were admitted at once: when the newer one is champion, the older one is superseded, not rolled out."""
    older: Delivery = field.delivery(4)
    field.registry.set_tags(MODEL, 4, {"taxiway.state": State.APPROVED.value})
    field.production.set_traffic(MODEL, TrafficPlan(stable=3))
    field.registry.set_alias(MODEL, CHAMPION, field.candidate("fifth").version)

    with pytest.raises(PermanentError, match="superseded: version 5 is already champion"):
        older.refuse_superseded()
