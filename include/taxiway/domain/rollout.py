"""The rollout: how traffic moves from champion to challenger, step by step, or back.

Everything that decides a transition is in this file: a table `(phase, event) -> phase`, and `advance`, which turns one
observation of the target into at most one event. Actions are data; what carries them out may repeat them, because
they name the wanted state, not a change. The state holds its plan: another plan or challenger begins anew.

What the figures of a step say, `domain.rollout_analysis` judges: it passes, goes on, aborts, or holds for a person
(`waiting`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from taxiway.domain.evidence import Verdict
from taxiway.domain.observation import VersionObservation
from taxiway.domain.rollout_analysis import Analysis, AnalysisPolicy, Look, Step, analyse
from taxiway.domain.values import TargetStatus, TrafficPlan
from taxiway.errors import PermanentError

MAX_BLIND_TICKS = 30
"""Consecutive ticks without a measurement, after which a rollout that moved traffic aborts.

A minute at a look every two seconds: a gateway that was killed needs up to half of that to serve again.
"""
FALSE_ABORTS = 0.05
"""The share of rollouts of an equal challenger that chance may abort, at most."""


class Phase(StrEnum):
    """Where a rollout is."""

    DEPLOYING = "deploying"
    """The challenger is loaded next to the champion; no traffic moves."""
    SHADOW = "shadow"
    """The challenger answers copies of requests; callers never see it."""
    CANARY = "canary"
    """The challenger answers a share of the requests."""
    WAITING = "waiting"
    """The figures do not decide: traffic stays as it is, and is watched, until a person does."""
    PROMOTING = "promoting"
    """All traffic is moving to the challenger."""
    PROMOTED = "promoted"
    """The challenger answers everything: it is the champion."""
    ABORTING = "aborting"
    """All traffic is moving back to the champion."""
    ABORTED = "aborted"
    """The champion answers everything; the challenger is rejected."""


class Event(StrEnum):
    """What can happen to a rollout."""

    SHADOW_DUE = "shadow due"
    """The next step is a shadow."""
    CANARY_DUE = "canary due"
    """The next step is a share of the traffic."""
    PROMOTION_DUE = "promotion due"
    """All steps are behind, or there is no champion to compare with."""
    UNDECIDED = "undecided"
    """The analysis holds for a person."""
    FAILED = "failed"
    """The challenger is bad, broken or cannot be watched, or a person stopped it."""
    SWITCHED = "switched"
    """The target serves what the phase wants."""


TRANSITIONS: dict[Phase, dict[Event, Phase]] = {
    Phase.DEPLOYING: {
        Event.SHADOW_DUE: Phase.SHADOW,
        Event.CANARY_DUE: Phase.CANARY,
        Event.PROMOTION_DUE: Phase.PROMOTING,
        Event.FAILED: Phase.ABORTING,
    },
    Phase.SHADOW: {
        Event.CANARY_DUE: Phase.CANARY,
        Event.PROMOTION_DUE: Phase.PROMOTING,
        Event.UNDECIDED: Phase.WAITING,
        Event.FAILED: Phase.ABORTING,
    },
    Phase.CANARY: {
        Event.CANARY_DUE: Phase.CANARY,
        Event.PROMOTION_DUE: Phase.PROMOTING,
        Event.UNDECIDED: Phase.WAITING,
        Event.FAILED: Phase.ABORTING,
    },
    Phase.WAITING: {
        Event.CANARY_DUE: Phase.CANARY,
        Event.PROMOTION_DUE: Phase.PROMOTING,
        Event.FAILED: Phase.ABORTING,
    },
    Phase.PROMOTING: {Event.SWITCHED: Phase.PROMOTED, Event.FAILED: Phase.ABORTING},
    Phase.ABORTING: {Event.SWITCHED: Phase.ABORTED},
    Phase.PROMOTED: {},
    Phase.ABORTED: {},
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to roll out and how; a first version has no champion and is promoted at once.

    `steps` rise in traffic; one of 100 % promotes and ends the rollout.
    """

    champion: int | None
    challenger: int
    steps: tuple[Step, ...]
    analysis: AnalysisPolicy


@dataclass(frozen=True, slots=True)
class State:
    """Where a rollout is: `step` is the step it is in (-1 before the first), `since` when it began that.

    `blind` counts consecutive ticks that measured nothing; `reason` says why it is where it is.
    """

    plan: Plan
    phase: Phase
    step: int
    since: datetime
    reason: str
    blind: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at the target: its status, and what each version did since the state's `since`.

    `status` is None when the target could not be measured. `answer` is a person's decision about a waiting rollout,
    `refusal` why the target will not serve the challenger, however often it is asked to.
    """

    status: TargetStatus | None
    champion: VersionObservation | None = None
    challenger: VersionObservation | None = None
    answer: bool | None = None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Deploy:
    """Load the version next to the others."""

    version: int


@dataclass(frozen=True, slots=True)
class SetTraffic:
    """Switch the target to the plan."""

    plan: TrafficPlan


@dataclass(frozen=True, slots=True)
class AskPerson:
    """Ask the approvers whether to go on."""

    reason: str


@dataclass(frozen=True, slots=True)
class MarkPromoted:
    """Record the version as the champion."""

    version: int


@dataclass(frozen=True, slots=True)
class MarkRejected:
    """Record the version as rejected, never to be delivered again by itself."""

    version: int
    reason: str


Action: TypeAlias = Deploy | SetTraffic | AskPerson | MarkPromoted | MarkRejected


def begin(plan: Plan, stored: State | None, now: datetime) -> State:
    """Return the stored state when it is of this very plan, else a new one."""
    if stored is not None and stored.plan == plan:
        return stored
    return State(plan, Phase.DEPLOYING, -1, now, f"version {plan.challenger} is being deployed")


def transition(phase: Phase, event: Event) -> Phase:
    """Return the phase after the event; raises PermanentError for a pair that the table does not list."""
    if event not in TRANSITIONS[phase]:
        raise PermanentError(f"a rollout that is {phase.value} has no way to go when: {event.value}")
    return TRANSITIONS[phase][event]


def advance(state: State, observation: Observation, now: datetime) -> tuple[State, tuple[Action, ...]]:
    """Return the state after the observation, and what to do to get the target there.

    Raises PermanentError when the rollout is over.
    """
    if not TRANSITIONS[state.phase]:
        raise PermanentError(f"the rollout of version {state.plan.challenger} is over: it is {state.phase.value}")
    state = replace(state, blind=0 if observation.status is not None else state.blind + 1)
    event, reason = _event(state, observation, now)
    if event is not None:
        step = state.step + 1 if event in _NEXT_STEP else state.step
        since = state.since if event is Event.UNDECIDED else now  # what was seen in the step goes on to count
        state = State(state.plan, transition(state.phase, event), step, since, reason)
    return state, _actions(state, observation, entered=event is not None)


def desired_traffic(state: State) -> TrafficPlan | None:
    """Return the plan that the target should have; None when the rollout asks for none."""
    plan = state.plan
    if state.phase in (Phase.PROMOTING, Phase.PROMOTED):
        return TrafficPlan(stable=plan.challenger)
    if plan.champion is None or state.phase is Phase.DEPLOYING:
        return None
    if state.phase in (Phase.ABORTING, Phase.ABORTED):
        return TrafficPlan(stable=plan.champion)
    traffic = plan.steps[state.step].traffic
    if traffic == 0:
        return TrafficPlan(stable=plan.champion, shadow=plan.challenger)
    return TrafficPlan(stable=plan.champion, challenger=plan.challenger, challenger_percent=traffic)


def judged(state: State, observation: Observation, now: datetime) -> Analysis | None:
    """Return what the figures say of the step that the rollout is in; None when there is nothing to compare.

    The probability that an equal challenger is aborted by chance is divided evenly between all steps that are watched,
    and between errors and latency, so that it stays below `FALSE_ABORTS` over the whole rollout (Bonferroni).
    """
    plan = state.plan
    if observation.status is None or plan.champion is None or state.phase not in _COMPARED:
        return None
    watched = sum(step.traffic < 100 for step in plan.steps)
    look = Look(
        step=plan.steps[state.step],
        champion=observation.champion or VersionObservation(plan.champion),
        challenger=observation.challenger or VersionObservation(plan.challenger),
        elapsed=now - state.since,
        alpha=FALSE_ABORTS / max(1, 2 * watched),
    )
    return analyse(plan.analysis, look)


_NEXT_STEP = frozenset({Event.SHADOW_DUE, Event.CANARY_DUE})
_MOVED = frozenset({Phase.SHADOW, Phase.CANARY, Phase.WAITING, Phase.PROMOTING})
_COMPARED = frozenset({Phase.SHADOW, Phase.CANARY, Phase.WAITING})

_Outcome: TypeAlias = tuple[Event | None, str]


def _event(state: State, observation: Observation, now: datetime) -> _Outcome:
    status = observation.status
    if observation.refusal and state.phase is not Phase.ABORTING:
        return Event.FAILED, f"version {state.plan.challenger} cannot be served: {observation.refusal}"
    if status is None:
        blind = state.phase in _MOVED and state.blind >= MAX_BLIND_TICKS
        return (Event.FAILED, f"could not be measured {state.blind} times in a row") if blind else (None, state.reason)
    if state.phase is Phase.ABORTING:
        back = state.plan.champion is None or status.plan == desired_traffic(state)
        return (Event.SWITCHED, state.reason) if back else (None, state.reason)
    challenger = {version.version: version for version in status.versions}.get(state.plan.challenger)
    if challenger is None and state.phase is not Phase.DEPLOYING:
        return Event.FAILED, f"version {state.plan.challenger} is no longer deployed"
    if challenger is not None and challenger.state == "failed":
        return Event.FAILED, f"version {state.plan.challenger} failed: {challenger.detail}"
    ready = challenger is not None and challenger.state == "ready"
    if state.phase is Phase.DEPLOYING:
        return _due(state, "it is ready") if ready else (None, state.reason)
    if state.phase is Phase.PROMOTING:
        switched = ready and status.plan == desired_traffic(state)
        return (Event.SWITCHED, state.reason) if switched else (None, state.reason)
    return _analysed(state, observation, now, challenger.detail if challenger else "")


def _due(state: State, reason: str) -> _Outcome:
    following = state.plan.steps[state.step + 1 :]
    if state.plan.champion is None or not following or following[0].traffic >= 100:
        return Event.PROMOTION_DUE, reason
    return (Event.SHADOW_DUE if following[0].traffic == 0 else Event.CANARY_DUE), reason


def _answered(state: State, answer: bool | None) -> _Outcome:
    if answer is None:
        return None, state.reason
    return _due(state, "a person decided to go on") if answer else (Event.FAILED, "a person decided to stop")


def _analysed(state: State, observation: Observation, now: datetime, ending: str) -> _Outcome:
    analysis = judged(state, observation, now)
    if analysis is None:
        return None, state.reason
    reason = f"{analysis.reason}; {ending}" if ending else analysis.reason  # what the figures cannot say: why they fail
    if analysis.verdict is Verdict.FAILED:
        return Event.FAILED, reason
    if state.phase is Phase.WAITING:
        return _answered(state, observation.answer)
    if analysis.verdict is None:
        return None, reason
    return _due(state, reason) if analysis.verdict is Verdict.PASSED else (Event.UNDECIDED, reason)


def _actions(state: State, observation: Observation, *, entered: bool) -> tuple[Action, ...]:
    challenger = state.plan.challenger
    match state.phase:
        case Phase.PROMOTED:
            return (MarkPromoted(challenger),)
        case Phase.ABORTED:
            return (MarkRejected(challenger, state.reason),)
        case Phase.WAITING if entered:
            return (AskPerson(state.reason),)
        case Phase.DEPLOYING:
            deployed = observation.status.versions if observation.status else ()
            return () if any(version.version == challenger for version in deployed) else (Deploy(challenger),)
        case _:
            wanted = desired_traffic(state)
            holds = observation.status is not None and observation.status.plan == wanted
            return () if wanted is None or holds else (SetTraffic(wanted),)
