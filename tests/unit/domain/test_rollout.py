"""Rollout: the table is complete and closed, and each observation leads where the policy says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxiway.domain.rollout import (
    MAX_BLIND_TICKS,
    TRANSITIONS,
    Action,
    AskPerson,
    Deploy,
    Event,
    MarkPromoted,
    MarkRejected,
    Observation,
    Phase,
    Plan,
    SetTraffic,
    State,
    advance,
    begin,
    desired_traffic,
    transition,
)
from taxiway.domain.rollout_analysis import AnalysisPolicy, Step
from taxiway.domain.values import TargetStatus, TrafficPlan, VersionStatus
from taxiway.errors import PermanentError
from tests.unit.domain.observed import seen

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
MINUTES = timedelta(minutes=1)
POLICY = AnalysisPolicy(max_error_rate=0.01, max_latency_ratio=1.5, max_prediction_shift=0.2)
SWITCH = Plan(champion=2, challenger=3, steps=(Step(100),), analysis=POLICY)
STEPS = (Step(0, 10 * MINUTES, 500), Step(5, 10 * MINUTES, 200), Step(25, 10 * MINUTES, 200), Step(100))
FULL = replace(SWITCH, steps=STEPS)

ALONE = TrafficPlan(stable=2)
SHADOWED = TrafficPlan(stable=2, shadow=3)
FIVE = TrafficPlan(stable=2, challenger=3, challenger_percent=5)
NEW = TrafficPlan(stable=3)


def status(plan: TrafficPlan | None, challenger: str | None = "ready") -> TargetStatus:
    """Return what a target observes: its plan, and the challenger's state (None: not deployed)."""
    detail = "killed" if challenger == "failed" else ""
    versions = () if challenger is None else (VersionStatus(3, "sha256:c", challenger, detail),)
    return TargetStatus("flight_delays", plan, (VersionStatus(2, "sha256:b", "ready"), *versions))


def in_step(step: int, phase: Phase = Phase.CANARY, plan: Plan = FULL) -> State:
    """Return a rollout that entered the step at noon."""
    return State(plan, phase, step, NOON, "")


def run(state: State, *observations: Observation, minutes: int = 20) -> tuple[State, tuple[Action, ...]]:
    """Advance through the observations, some minutes apart."""
    actions: tuple[Action, ...] = ()
    now = NOON
    for observation in observations:
        now += minutes * MINUTES
        state, actions = advance(state, observation, now)
    return state, actions


def test_the_table_lists_every_phase_and_terminal_phases_have_no_way_out() -> None:
    """Every phase has a row; exactly promoted and aborted have an empty one."""
    assert TRANSITIONS.keys() == set(Phase)
    assert {phase for phase, row in TRANSITIONS.items() if not row} == {Phase.PROMOTED, Phase.ABORTED}


def test_every_phase_is_reached_and_every_event_used() -> None:
    """From deploying, every other phase can be reached; every event occurs in the table."""
    reached, fresh = {Phase.DEPLOYING}, {Phase.DEPLOYING}
    while fresh:
        fresh = {after for phase in fresh for after in TRANSITIONS[phase].values()} - reached
        reached |= fresh

    assert reached == set(Phase)
    assert {event for row in TRANSITIONS.values() for event in row} == set(Event)


def test_from_every_open_phase_traffic_can_go_back() -> None:
    """Whatever fails before the promotion is complete leads to aborting."""
    open_phases = set(Phase) - {Phase.PROMOTED, Phase.ABORTED, Phase.ABORTING}

    assert {transition(phase, Event.FAILED) for phase in open_phases} == {Phase.ABORTING}


def test_pairs_outside_the_table_are_refused() -> None:
    """An illegal pair raises with phase and event."""
    for phase, event in product(Phase, Event):
        if event not in TRANSITIONS[phase]:
            with pytest.raises(PermanentError, match=f"{phase.value}.*{event.value}"):
                transition(phase, event)


def test_the_switch_goes_from_deploying_to_promoted() -> None:
    """With one step of 100 %: deploy, switch everything, then the version is champion."""
    state = begin(SWITCH, None, NOON)

    state, actions = run(state, Observation(status(ALONE, None)))
    assert (state.phase, actions) == (Phase.DEPLOYING, (Deploy(3),))
    state, actions = run(state, Observation(status(ALONE, "starting")))
    assert (state.phase, actions) == (Phase.DEPLOYING, ())
    state, actions = run(state, Observation(status(ALONE)))
    assert (state.phase, actions) == (Phase.PROMOTING, (SetTraffic(NEW),))
    state, actions = run(state, Observation(status(NEW)))
    assert (state.phase, actions) == (Phase.PROMOTED, (MarkPromoted(3),))


def test_a_first_version_is_promoted_without_steps() -> None:
    """Without a champion there is nothing to shadow or to split traffic with."""
    first = replace(FULL, champion=None)
    state, actions = run(begin(first, None, NOON), Observation(status(None)))

    assert (state.phase, actions) == (Phase.PROMOTING, (SetTraffic(NEW),))


def test_the_full_plan_shadows_then_rises_then_promotes() -> None:
    """Each passed step leads to the next, with its traffic."""
    state = begin(FULL, None, NOON)
    traffic = []
    for _ in range(5):
        serving = desired_traffic(state) or ALONE
        state, actions = run(replace(state, since=NOON), Observation(status(serving), seen(2), seen(3)))
        traffic.append((state.phase.value, *actions))

    assert traffic == [
        ("shadow", SetTraffic(SHADOWED)),
        ("canary", SetTraffic(FIVE)),
        ("canary", SetTraffic(replace(FIVE, challenger_percent=25))),
        ("promoting", SetTraffic(NEW)),
        ("promoted", MarkPromoted(3)),
    ]


def test_a_step_lasts_at_least_its_duration() -> None:
    """Good figures before the duration is over do not end the step."""
    good = Observation(status(FIVE), seen(2), seen(3))

    assert advance(in_step(1), good, NOON + 9 * MINUTES)[0].step == 1
    assert advance(in_step(1), good, NOON + 10 * MINUTES)[0].step == 2


def test_the_wanted_traffic_is_asked_for_until_it_is_observed() -> None:
    """An action that was lost is repeated; one that was done is not."""
    few = (seen(2, 3), seen(3, 3))

    assert run(in_step(1), Observation(status(ALONE), *few))[1] == (SetTraffic(FIVE),)
    assert run(in_step(1), Observation(status(FIVE), *few))[1] == ()


@pytest.mark.parametrize(
    ("step", "phase", "observation"),
    [
        (1, Phase.CANARY, Observation(status(FIVE), seen(2), seen(3, errors=40))),
        (1, Phase.CANARY, Observation(status(FIVE), seen(2), seen(3, slower=3.0))),
        (1, Phase.CANARY, Observation(status(FIVE, "failed"), seen(2), seen(3))),
        (0, Phase.SHADOW, Observation(status(SHADOWED, "failed"))),
        (-1, Phase.DEPLOYING, Observation(status(ALONE, "failed"))),
        (2, Phase.PROMOTING, Observation(status(NEW, "failed"))),
        (1, Phase.WAITING, Observation(status(FIVE, "failed"))),
        (1, Phase.WAITING, Observation(status(FIVE), answer=False)),
        (1, Phase.WAITING, Observation(status(FIVE), seen(2), seen(3, errors=40))),
        (1, Phase.CANARY, Observation(status(FIVE, None), seen(2), seen(3))),
        (1, Phase.CANARY, Observation(status(FIVE), seen(2), seen(3), refusal="it does not load")),
        (1, Phase.CANARY, Observation(None, refusal="it does not load")),
    ],
)
def test_failures_lead_back_to_the_champion(step: int, phase: Phase, observation: Observation) -> None:
    """A bad or broken challenger, or a person's no, moves all traffic back, and then the version is rejected."""
    state, actions = run(in_step(step, phase), observation)
    back = () if observation.status == status(ALONE, "failed") else (SetTraffic(ALONE),)
    assert (state.phase, actions) == (Phase.ABORTING, back)

    reason = state.reason
    state, actions = run(state, Observation(status(ALONE)))
    assert (state.phase, actions) == (Phase.ABORTED, (MarkRejected(3, reason),))


def test_an_abort_insists() -> None:
    """While traffic is not back at the champion, or nothing can be seen, the abort asks for it again."""
    aborting = in_step(1, Phase.ABORTING)

    for blind_or_not in (Observation(None), Observation(status(FIVE)), Observation(status(FIVE, "failed"))):
        state, actions = run(aborting, *[blind_or_not] * 20)
        assert (state.phase, actions) == (Phase.ABORTING, (SetTraffic(ALONE),))


def test_a_challenger_that_cannot_be_served_moves_no_traffic() -> None:
    """The rollout ends before its first step with what the target said, and an abort hears of it only once."""
    refused = Observation(status(ALONE, None), refusal="it does not load")
    state, actions = run(begin(FULL, None, NOON), refused)
    assert (state.phase, actions) == (Phase.ABORTING, ())
    assert state.reason == "version 3 cannot be served: it does not load"

    ended, actions = run(state, refused)
    assert (ended.phase, actions) == (Phase.ABORTED, (MarkRejected(3, state.reason),))


def test_the_reason_says_how_the_challenger_ended() -> None:
    """The figures tell that it fails, its last ending tells why; without one nothing is said."""
    failing = Observation(status(FIVE), seen(2), seen(3, errors=40))
    ended = replace(status(FIVE), versions=(VersionStatus(3, "sha256:c", "ready", "it met its memory limit"),))

    assert run(in_step(1), replace(failing, status=ended))[0].reason.endswith("; it met its memory limit")
    assert "memory" not in run(in_step(1), failing)[0].reason


def test_an_abort_without_champion_only_rejects() -> None:
    """When there is nothing to go back to, no traffic is moved."""
    first = in_step(-1, Phase.PROMOTING, replace(SWITCH, champion=None))
    state, actions = run(first, Observation(status(None, "failed")))
    assert (state.phase, actions) == (Phase.ABORTING, ())

    assert run(state, Observation(status(None, "failed")))[0].phase is Phase.ABORTED


def test_an_undecided_analysis_waits_for_a_person() -> None:
    """A shift of the predictions keeps the traffic as it is and asks once; yes goes on, silence waits."""
    shifted = Observation(status(FIVE), seen(2), seen(3, moved=0.3))
    state, actions = run(in_step(1), shifted)
    assert (state.phase, actions) == (Phase.WAITING, (AskPerson(state.reason),))

    assert run(state, shifted, shifted) == (state, ())
    assert run(state, Observation(status(ALONE)))[1] == (SetTraffic(FIVE),)
    onward, actions = run(state, replace(shifted, answer=True))
    assert (onward.phase, onward.step) == (Phase.CANARY, 2)
    assert actions == (SetTraffic(replace(FIVE, challenger_percent=25)),)


def test_what_a_step_has_seen_counts_while_a_person_is_asked() -> None:
    """The question begins no second test with the same chance to abort for nothing, and forgets no failure."""
    asked, _ = advance(in_step(1), Observation(status(FIVE), seen(2), seen(3, moved=0.3)), NOON + 10 * MINUTES)
    assert (asked.phase, asked.since) == (Phase.WAITING, NOON)

    onward, _ = advance(asked, Observation(status(FIVE), seen(2), seen(3), answer=True), NOON + 20 * MINUTES)
    assert (onward.step, onward.since) == (2, NOON + 20 * MINUTES)


@pytest.mark.parametrize("phase", [Phase.SHADOW, Phase.CANARY, Phase.WAITING, Phase.PROMOTING])
def test_a_rollout_that_cannot_be_watched_aborts_after_a_limit(phase: Phase) -> None:
    """Some ticks without measurement are waited out, and one good look forgives them; a row of them aborts."""
    blind, looked = Observation(None), Observation(status(ALONE), seen(2, 1), seen(3, 1))
    almost = [blind] * (MAX_BLIND_TICKS - 1)

    assert run(in_step(1, phase), *almost)[0].phase is phase
    assert run(in_step(1, phase), *almost, looked, *almost)[0].phase is phase
    assert run(in_step(1, phase), *almost, blind)[0].phase is Phase.ABORTING


def test_before_traffic_moves_blindness_is_patience() -> None:
    """While the challenger is being deployed, an unreachable target is waited for."""
    assert run(begin(FULL, None, NOON), *[Observation(None)] * 20)[0].phase is Phase.DEPLOYING


@pytest.mark.parametrize("phase", [Phase.PROMOTED, Phase.ABORTED])
def test_what_is_over_stays_over(phase: Phase) -> None:
    """A finished rollout does not advance."""
    with pytest.raises(PermanentError, match=f"version 3 is over: it is {phase.value}"):
        advance(in_step(1, phase), Observation(status(NEW)), NOON)


def test_a_changed_plan_or_challenger_begins_anew() -> None:
    """A stored state goes on only with the plan it was made for."""
    stored = in_step(1)

    assert begin(FULL, stored, NOON) is stored
    for plan in (replace(FULL, challenger=4), replace(FULL, champion=1), SWITCH):
        assert begin(plan, stored, NOON).phase is Phase.DEPLOYING


observations = st.builds(
    Observation,
    status=st.one_of(
        st.none(),
        st.builds(
            status,
            st.sampled_from([None, ALONE, SHADOWED, FIVE, NEW]),
            st.sampled_from([None, "starting", "ready", "failed"]),
        ),
    ),
    champion=st.one_of(st.none(), st.builds(seen, st.just(2), st.integers(0, 600), errors=st.integers(0, 3))),
    challenger=st.one_of(st.none(), st.builds(seen, st.just(3), st.integers(0, 600), errors=st.integers(0, 9))),
    answer=st.sampled_from([None, True, False]),
    refusal=st.sampled_from(["", "", "it does not load"]),
)


@given(st.lists(observations, max_size=30), st.sampled_from([FULL, SWITCH, replace(FULL, champion=None)]))
@settings(deadline=None)
def test_whatever_is_observed_the_rollout_stays_in_its_table(looks: list[Observation], plan: Plan) -> None:
    """No sequence of observations leaves the table, and every transition comes with a reason."""
    state = begin(plan, None, NOON)
    for index, look in enumerate(looks):
        if not TRANSITIONS[state.phase]:
            break
        before = state
        state, _ = advance(state, look, NOON + index * 7 * MINUTES)
        if state.phase is not before.phase:
            assert state.phase in TRANSITIONS[before.phase].values()
        assert state.reason
        assert -1 <= state.step < len(plan.steps)
