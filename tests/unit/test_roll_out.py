"""The rollout on a production that answers, fails, vanishes or is rolled back meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from taxiway.domain.evidence import Verdict
from taxiway.domain.observation import VersionObservation
from taxiway.domain.rollout import Phase
from taxiway.domain.values import TrafficPlan
from taxiway.errors import DeliveryStopped, TargetUnavailable
from taxiway.spec import ModelSpec
from taxiway.stages.candidates import STATE, State, state_of
from taxiway.stages.deliver import Approved
from taxiway.stages.evidence_store import evidence_of
from taxiway.stages.roll_out import RollOut, is_behind, is_held
from taxiway.stages.rollback import Order
from tests.fakes_serving import FakeServingTarget
from tests.unit.domain.observed import seen
from tests.unit.model_versions import MODEL, Field, example_spec

POLICY = {
    "shadow": {"duration": "1m", "min_requests": 10},
    "steps": [{"traffic": 20, "duration": "1m"}, {"traffic": 100}],
    "analysis": {"max_error_rate": 0.01, "max_prediction_shift": 0.2, "min_requests": 10},
}
CHAMPION_ALONE = TrafficPlan(stable=1)
SHADOW = TrafficPlan(stable=1, shadow=2)
CANARY = TrafficPlan(stable=1, challenger=2, challenger_percent=20)
PROMOTED = TrafficPlan(stable=2)


def spec_with(policy: dict[str, object]) -> ModelSpec:
    """Return the example's spec with another rollout."""
    return ModelSpec.model_validate({**example_spec().model_dump(), "rollout": policy})


@pytest.fixture
def field(keys: tuple[Path, Path]) -> Field:
    """Version 1 in production, and version 2 approved for it."""
    field = Field(keys, spec_with(POLICY))
    field.deliver("first")
    delivery = field.delivery(field.candidate("second").version)
    delivery.admit(field.verifier)
    delivery.deploy_staging(field.staging, field.signer)
    delivery.approve(Approved("dana", field.clock.now()), field.signer)
    return field


def observed(field: Field, *, requests: int = 100, errors: int = 0, moved: float = 0.0) -> None:
    """Let production report the same good champion, and a challenger with these figures."""
    field.production.observed[MODEL] = [seen(1, 100), seen(2, requests, errors, moved=moved)]


def in_canary(field: Field) -> RollOut:
    """Bring version 2 through its shadow into the canary step."""
    rollout = field.rollout(2)
    rollout.start()
    observed(field)
    field.clock.advance(timedelta(minutes=2))
    assert rollout.look().phase is Phase.CANARY
    return rollout


def plan(field: Field) -> TrafficPlan | None:
    """Return what production serves."""
    return field.production.status(MODEL).plan


def test_a_good_version_goes_through_every_step(field: Field) -> None:
    """Shadow, canary, everything: each step takes its time and its requests, and the evidence tells all of it."""
    rollout = in_canary(field)
    field.clock.advance(timedelta(minutes=2))
    rollout.look()
    rollout.finish()

    switches = [switched for _, switched in field.production.plans]
    assert [SHADOW, CANARY, PROMOTED] == switches[switches.index(SHADOW) :]
    evidence = evidence_of(field.registry, field.registry.candidate(MODEL, 2).run_id, "rollout")
    assert evidence.verdict is Verdict.PASSED
    history = evidence.figures["history"]
    assert ["deploying", "shadow", "canary", "promoting", "promoted"] == [entry["phase"] for entry in history]
    assert history[2]["measured"]["challenger"]["requests"] == 100
    assert history[2]["measured"]["compared"]["error_rate"] == 0


def test_a_step_takes_its_time_and_its_requests(field: Field) -> None:
    """Neither many requests at once nor a long time without any end a step."""
    rollout = field.rollout(2)
    rollout.start()
    observed(field)
    assert rollout.look().phase is Phase.SHADOW
    observed(field, requests=3)
    field.clock.advance(timedelta(hours=1))

    assert rollout.look().phase is Phase.SHADOW
    assert SHADOW == plan(field)


def test_a_failing_version_is_taken_out_by_itself(field: Field) -> None:
    """Errors put everything back on the champion; the evidence says why, and the rollout cannot be finished."""
    rollout = in_canary(field)
    observed(field, errors=30)
    rollout.look()

    assert CHAMPION_ALONE == plan(field)
    with pytest.raises(DeliveryStopped, match="30 of 100 requests failed"):
        rollout.finish()
    evidence = evidence_of(field.registry, field.registry.candidate(MODEL, 2).run_id, "rollout")
    assert evidence.verdict is Verdict.FAILED


def test_a_version_that_production_refuses_is_never_rolled_out(field: Field) -> None:
    """It cannot be made ready: no traffic moves, the task fails with the reason, and the evidence tells it."""
    field.production.broken = {2}
    switches = len(field.production.plans)

    with pytest.raises(DeliveryStopped, match="cannot be made ready") as refused:
        field.rollout(2).start()

    evidence = evidence_of(field.registry, field.registry.candidate(MODEL, 2).run_id, "rollout")
    reasons = (f"version 2 cannot be served: {refused.value}",)
    assert (evidence.verdict, evidence.reasons) == (Verdict.FAILED, reasons)
    phases = [entry["phase"] for entry in evidence.figures["history"]]
    assert phases == ["deploying", "aborting", "aborted"]
    assert len(field.production.plans) == switches


def test_a_version_that_is_refused_later_is_taken_out(field: Field) -> None:
    """Starting its rollout again finds that it can no longer be served: what it had goes back to the champion."""
    rollout = in_canary(field)
    field.production.broken = {2}

    with pytest.raises(DeliveryStopped, match="cannot be made ready"):
        rollout.start()

    assert CHAMPION_ALONE == plan(field)
    assert rollout.look().phase is Phase.ABORTED


@pytest.mark.parametrize(("answer", "leads_to"), [(True, PROMOTED), (False, CHAMPION_ALONE)])
def test_an_undecided_step_waits_for_a_person(field: Field, answer: bool, leads_to: TrafficPlan) -> None:
    """Shifted predictions move nothing until somebody decides, and then what was decided."""
    rollout = in_canary(field)
    observed(field, moved=0.4)
    field.clock.advance(timedelta(minutes=2))
    waiting = rollout.look()
    assert waiting.phase is Phase.WAITING
    assert is_behind(waiting, waiting.step)
    assert is_held(waiting, waiting.step)
    assert not is_held(waiting, waiting.step - 1)
    rollout.look()
    assert CANARY == plan(field)

    rollout.decide(waiting.step, answer)

    assert leads_to == plan(field)


def test_a_version_that_begins_to_fail_while_a_person_is_asked_is_taken_out(field: Field) -> None:
    """Sure harm needs no answer: the looks that go on meanwhile put everything back on the champion."""
    rollout = in_canary(field)
    observed(field, moved=0.4)
    field.clock.advance(timedelta(minutes=2))
    assert rollout.look().phase is Phase.WAITING
    observed(field, errors=30)
    rollout.look()

    assert CHAMPION_ALONE == plan(field)
    assert rollout.look().phase is Phase.ABORTED
    assert rollout.look(True).phase is Phase.ABORTED


class Unmeasured:
    """A production that does what it is told, but has no figures."""

    def __init__(self, production: FakeServingTarget) -> None:
        self._production = production

    def __getattr__(self, name: str) -> Any:
        return getattr(self._production, name)

    def observe(self, model: str, since: datetime) -> list[VersionObservation]:
        """Tell nothing."""
        raise TargetUnavailable("no figures", where=model)


def test_a_yes_that_comes_while_production_has_no_figures_is_not_taken_for_done(field: Field) -> None:
    """Whoever decides hears that the rollout did not go on, and may decide again."""
    rollout = in_canary(field)
    observed(field, moved=0.4)
    field.clock.advance(timedelta(minutes=2))
    step = rollout.look().step
    with pytest.raises(TargetUnavailable, match="did not go on"):
        replace(rollout, production=Unmeasured(field.production)).decide(step, answer=True)

    rollout.decide(step, answer=True)

    assert PROMOTED == plan(field)


def test_a_look_that_was_killed_is_made_good_by_the_next(field: Field) -> None:
    """When production could not be switched although the decision is stored, the next look switches it."""
    rollout = in_canary(field)
    field.clock.advance(timedelta(minutes=2))
    # Its failure when asked to switch is what a kill between storing and switching leaves behind.
    field.production.broken_switches = 1
    with pytest.raises(TargetUnavailable):
        rollout.look()
    assert CANARY == plan(field)

    rollout.finish()

    assert PROMOTED == plan(field)


def test_starting_again_goes_on_where_it_was(field: Field) -> None:
    """A repeated start neither begins anew nor moves traffic back."""
    in_canary(field)

    assert field.rollout(2).start().phase is Phase.CANARY
    assert CANARY == plan(field)


def test_a_rollout_that_is_over_is_not_begun_again(field: Field) -> None:
    """Clearing its task later leaves the champion the champion, and blocks no newer version."""
    rollout = in_canary(field)
    field.clock.advance(timedelta(minutes=2))
    rollout.look()
    rollout.finish()
    field.delivery(2).promote(field.production)
    field.delivery(2).verify_production(field.production)

    assert rollout.start().phase is Phase.PROMOTED
    assert State.PRODUCTION is state_of(field.registry.candidate(MODEL, 2))


def test_a_first_version_needs_no_steps(keys: tuple[Path, Path]) -> None:
    """Without a champion there is nobody to compare with: it serves at once."""
    field = Field(keys, spec_with(POLICY))

    field.deliver("first")

    assert CHAMPION_ALONE == plan(field)


def test_a_rollback_ends_the_rollout_for_good(field: Field) -> None:
    """After a rollback the version on its way is closed: its next look moves nothing."""
    rollout = in_canary(field)
    field.rollbacks.roll_back(Order("dana", "an incident", to=1))

    with pytest.raises(DeliveryStopped, match="stopped by a rollback: an incident"):
        rollout.look()
    assert CHAMPION_ALONE == plan(field)


def test_a_stopped_delivery_takes_its_canary_out(field: Field) -> None:
    """Whatever task fails, production ends on the champion alone, and the version is no longer loaded."""
    in_canary(field)

    field.delivery(2).stop("a task failed", production=field.production, notifier=field.notifier)

    assert CHAMPION_ALONE == plan(field)
    assert [1] == [status.version for status in field.production.status(MODEL).versions]


def test_a_newer_version_waits_while_another_moves_traffic(field: Field) -> None:
    """One rollout at a time: the newer delivery waits for the end, and the older one is not superseded meanwhile."""
    in_canary(field)
    newer = field.candidate("third").version
    field.delivery(newer).admit(field.verifier)

    assert field.rollout(newer).blocked_by() == 2
    field.delivery(2).refuse_superseded()

    field.registry.set_tags(MODEL, 2, {STATE: State.REJECTED.value})
    assert field.rollout(newer).blocked_by() is None
    assert state_of(field.registry.candidate(MODEL, newer)) is State.CANDIDATE


def test_steps_are_named_for_their_traffic() -> None:
    """The tasks of a rollout are called shadow and canary with the percent; the last 100 % is the promotion."""
    steps = [{"traffic": 0.5}, {"traffic": 25}, {"traffic": 100}]

    assert ["shadow", "canary_0_5", "canary_25"] == spec_with({**POLICY, "steps": steps}).rollout.watched_steps
    assert [] == spec_with({"steps": [{"traffic": 100}]}).rollout.watched_steps
