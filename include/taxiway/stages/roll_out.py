"""Roll-out: carries out what `domain.rollout` decides, one look at production at a time.

Each look reads the stored state, observes production, stores what follows and acts on it. The actions name the wanted
state, so a look that was killed half-way is made good by the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from taxiway.domain.rollout import (
    TRANSITIONS,
    Action,
    Deploy,
    Observation,
    Phase,
    Plan,
    SetTraffic,
    advance,
    begin,
)
from taxiway.domain.rollout import State as Rollout
from taxiway.domain.rollout_analysis import AnalysisPolicy, Step
from taxiway.domain.values import CHAMPION, Candidate, TrafficPlan
from taxiway.errors import DeliveryStopped, PermanentError, TargetUnavailable, TransientError, WrongState
from taxiway.ports import Clock, Registry, ServingTarget
from taxiway.spec import ModelSpec
from taxiway.stages.candidates import APPROVAL, STATE, WAITING, State, refuse_closed, release_of, state_of, where
from taxiway.stages.orders import Orders
from taxiway.stages.rollout_store import measured, store_state, stored_state

_SHADOW_TRAFFIC = 0.0
_LOOKS_TO_FINISH = 3  # switch, see that it holds, and one for what comes between


@dataclass(frozen=True, slots=True)
class RollOut:
    """One version on its way through production; the ports are those of this installation."""

    spec: ModelSpec
    version: int
    registry: Registry
    production: ServingTarget
    clock: Clock
    orders: Orders

    def claim(self) -> int | None:
        """Make the version the one that moves traffic, and return None; or return the version that does already.

        Raises DeliveryStopped when the version was closed.
        """
        with self.orders.turn(self.spec.model):
            candidate = self._candidate()
            refuse_closed(candidate)
            other = self.blocked_by()
            if other is None and state_of(candidate) in WAITING:
                self.registry.set_tags(self.spec.model, self.version, {STATE: State.ROLLING_OUT.value})
            return other

    def blocked_by(self) -> int | None:
        """Return the other version whose rollout moves traffic right now: this one waits for its end."""
        for other in self.registry.candidates(self.spec.model):
            if other.version != self.version and state_of(other) is State.ROLLING_OUT:
                return other.version
        return None

    def start(self) -> Rollout:
        """Load the version next to the champion and begin the rollout; one that has begun goes on where it was.

        Raises DeliveryStopped when the version was closed. What production refuses to serve it with is raised too, and
        that ends the rollout.
        """
        if (other := self.claim()) is not None:
            raise TransientError(f"version {other} moves traffic: one at a time", where=where(self._candidate()))
        candidate = self._candidate()
        champion = self.registry.by_alias(self.spec.model, CHAMPION)
        others = champion.version if champion and champion.version != self.version else None
        stored = stored_state(self.registry, candidate.run_id)
        if stored is not None and not TRANSITIONS[stored.phase]:
            return stored
        if stored is None:
            begun = begin(plan_of(self.spec, others, self.version), None, self.clock.now())
            store_state(self.registry, candidate.run_id, begun, {}, self.clock.now())
        self._deploy(candidate)
        return self.look()

    def look(self, answer: bool | None = None) -> Rollout:
        """Look at production once and do what follows; `answer` is a person's decision about a rollout that waits.

        Raises DeliveryStopped when the version was closed meanwhile, for example by a rollback: then nothing is moved.
        """
        return self._look(answer=answer)

    def decide(self, step: int, answer: bool) -> None:
        """Carry out a person's decision about a step that waits.

        Raises DeliveryStopped as `look` does, TargetUnavailable when production could not be measured, so that the
        rollout did not go on.
        """
        if is_held(self.look(answer), step) and answer:
            raise TargetUnavailable("production does not answer: the rollout did not go on", where=self.spec.model)

    def finish(self) -> None:
        """Bring a rollout whose steps are behind to its end: production serves the version, and nothing else.

        Raises DeliveryStopped when it was aborted, TargetUnavailable while production does not serve it yet.
        """
        for _ in range(_LOOKS_TO_FINISH):
            state = self.look()
            if state.phase is Phase.PROMOTED:
                return
            if is_stopped(state):
                raise DeliveryStopped(f"the rollout was aborted: {state.reason}", where=where(self._candidate()))
        raise TargetUnavailable(
            f"production does not serve the version yet ({state.phase.value})", where=self.spec.model
        )

    def _look(self, *, answer: bool | None = None, refusal: str = "") -> Rollout:
        candidate = self._candidate()
        refuse_closed(candidate)
        before = stored_state(self.registry, candidate.run_id)
        if before is None:
            raise DeliveryStopped("its rollout has not begun", where=where(candidate))
        if not TRANSITIONS[before.phase]:
            return before
        now = self.clock.now()
        observation = replace(self._observe(before), answer=answer, refusal=refusal)
        after, actions = advance(before, observation, now)
        if after != before:
            store_state(self.registry, candidate.run_id, after, measured(before, observation, now), now)
        for action in actions:
            self._carry_out(action, candidate)
        return after

    def _observe(self, state: Rollout) -> Observation:
        try:
            found = {seen.version: seen for seen in self.production.observe(self.spec.model, state.since)}
            status = self.production.status(self.spec.model)  # after the figures: it says why they are what they are
        except TransientError:
            return Observation(None)
        champion = None if state.plan.champion is None else found.get(state.plan.champion)
        return Observation(status, champion, found.get(state.plan.challenger))

    def _carry_out(self, action: Action, candidate: Candidate) -> None:
        """Bring production to the wanted state; who is champion or rejected, the delivery records itself."""
        match action:
            case Deploy():
                self._deploy(candidate)
            case SetTraffic(plan):
                self._move(plan)
            case _:
                return

    def _deploy(self, candidate: Candidate) -> None:
        """Have production load the version; a refusal for good aborts the rollout, and is its reason."""
        try:
            self.production.deploy(release_of(self.spec, candidate, candidate.tags[APPROVAL]))
        except PermanentError as error:
            self._look(refusal=str(error))
            self.look()  # production is on the champion: nothing was moved, or it was moved back
            raise

    def _move(self, plan: TrafficPlan) -> None:
        """Switch production, unless the version's rollout was ended since the look began."""
        with self.orders.turn(self.spec.model):
            candidate = self._candidate()
            refuse_closed(candidate)
            if (state := state_of(candidate)) is not State.ROLLING_OUT:
                raise WrongState(f"its rollout is over: it is {state.value}", where=where(candidate))
            self.production.set_traffic(self.spec.model, plan)

    def _candidate(self) -> Candidate:
        return self.registry.candidate(self.spec.model, self.version)


def plan_of(spec: ModelSpec, champion: int | None, challenger: int) -> Plan:
    """Return the domain's plan for the spec's rollout."""
    policy = spec.rollout.analysis
    shadow = spec.rollout.shadow
    first = (Step(_SHADOW_TRAFFIC, shadow.duration, shadow.min_requests),) if shadow else ()
    steps = tuple(Step(step.traffic, step.duration, policy.min_requests) for step in spec.rollout.steps)
    analysis = AnalysisPolicy(
        policy.max_error_rate, policy.max_latency_ratio, policy.max_prediction_shift, policy.min_agreement
    )
    return Plan(champion, challenger, (*first, *steps), analysis)


def is_behind(state: Rollout, step: int) -> bool:
    """Tell whether the rollout needs no more watching in this step: it went on, is over, or a person has to decide."""
    return state.step > step or state.phase in (Phase.PROMOTING, Phase.PROMOTED, Phase.WAITING)


def is_held(state: Rollout, step: int) -> bool:
    """Tell whether a person has to decide about this step."""
    return state.step <= step and state.phase is Phase.WAITING


def is_stopped(state: Rollout) -> bool:
    """Tell whether production is back on the champion for good."""
    return state.phase is Phase.ABORTED
