"""Delivery: a candidate's way through staging into production. Every step may be repeated after a crash."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from taxiway.domain.evidence import Evidence, Json, Verdict
from taxiway.domain.release import approval_statement
from taxiway.domain.values import CHALLENGER, CHAMPION, PREVIOUS, STAGING, Candidate, Notification, TrafficPlan
from taxiway.errors import DeliveryStopped
from taxiway.ports import Clock, Notifier, Registry, ServingTarget, Signer, Verifier
from taxiway.spec import ModelSpec
from taxiway.stages.aliases import Change, point, withdraw
from taxiway.stages.candidates import (
    APPROVAL,
    CLOSED,
    DELIVERED,
    DIGEST,
    LOCK,
    REASON,
    REQUESTED_BY,
    STATE,
    WAITING,
    State,
    evaluation_page,
    refuse_closed,
    release_of,
    state_of,
    verify,
)
from taxiway.stages.evidence_store import evidence_of, record
from taxiway.stages.golden import check_golden
from taxiway.stages.orders import Orders
from taxiway.stages.rollback_record import point_previous
from taxiway.stages.uat import sign_offs, uat_decision

_SAID = {State.PRODUCTION: "in production", State.RETIRED: "retired"}


@dataclass(frozen=True, slots=True)
class Approved:
    """Who let the version into production, when, and what they said."""

    by: str
    at: datetime
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One version on its way; the ports are those of this installation."""

    spec: ModelSpec
    version: int
    registry: Registry
    clock: Clock
    orders: Orders

    def admit(self, verifier: Verifier) -> dict[str, Json]:
        """Verify the candidate and make it the challenger: an older one that still waits is superseded by that.

        Raises DeliveryStopped when the version was closed or delivered before, or a newer one is already on its way or
        in production, IntegrityError when the stored files are not what was signed, TrainingError when the spec no
        longer allows them.
        """
        self.refuse_superseded()
        candidate = self.candidate()
        verify(self.spec, candidate, registry=self.registry, verifier=verifier)
        with self.orders.turn(self.spec.model):
            self.refuse_superseded()
            self._supersede_older()
            point(self.registry, self.spec.model, CHALLENGER, self.version, self._change("it was admitted"))
        gate = evidence_of(self.registry, candidate.run_id, "gate")
        return {
            "version": self.version,
            "run_id": candidate.run_id,
            "digest": candidate.tags[DIGEST],
            "requested_by": candidate.tags.get(REQUESTED_BY, ""),
            "verdict": gate.verdict.value,
            "reasons": list(gate.reasons),
            "evaluation": evaluation_page(candidate, self.registry),
        }

    def deploy_staging(self, staging: ServingTarget, signer: Signer) -> None:
        """Serve the version in staging, alone, and open it for sign-offs."""
        self.refuse_superseded()
        candidate = self.candidate()
        approval = self._statement(candidate, self.spec.environments.staging, Approved("gate", self.clock.now()))
        staging.deploy(release_of(self.spec, candidate, signer.sign_statement(approval)))
        with self.orders.turn(self.spec.model):
            self.refuse_superseded()
            staging.set_traffic(self.spec.model, TrafficPlan(stable=self.version))
            point(self.registry, self.spec.model, STAGING, self.version, self._change("it passed its gates"))
            self._set_state(State.STAGING)
        _keep_only(staging, self.spec.model, {self.version})

    def check_staging(self, staging: ServingTarget) -> Evidence:
        """Send real requests to staging: the same answers as in training; raises DeliveryStopped."""
        return self._check("staging_checks", staging)

    def conclude_uat(self, *, deadline_passed: bool) -> Evidence | None:
        """Return the testers' verdict as evidence once there is one, None while answers are awaited.

        A rejection closes the version; at the deadline the verdict is inconclusive and the approver decides. Raises
        DeliveryStopped when the delivery was superseded meanwhile.
        """
        self.refuse_superseded()
        candidate = self.candidate()
        decision = uat_decision(self.spec, candidate, deadline_passed=deadline_passed)
        if decision.verdict is None:
            return None
        subject = {"version": str(self.version), "digest": candidate.tags[DIGEST]}
        answers: list[Json] = [answer.to_json() for answer in sign_offs(candidate)]
        figures: dict[str, Json] = {"sign_offs": answers, "quorum": self.spec.uat.quorum}
        evidence = Evidence("uat", decision.verdict, self.clock.now(), (decision.reason,), subject, figures)
        record(self.registry, candidate.run_id, evidence)
        if decision.verdict is Verdict.FAILED:
            self._close(State.REJECTED, decision.reason)
        with self.orders.turn(self.spec.model):
            self.refuse_superseded()
            self._set_state(State.TESTED)
        return evidence

    def approve(self, approved: Approved, signer: Signer) -> None:
        """Record the decision and sign that this version and digest may serve in production."""
        self.refuse_superseded()
        candidate = self.candidate()
        statement = self._statement(candidate, self.spec.environments.production, approved)
        tags = {APPROVAL: signer.sign_statement(statement), STATE: State.APPROVED.value}
        with self.orders.turn(self.spec.model):
            self.refuse_superseded()
            self.registry.set_tags(self.spec.model, self.version, tags)
        subject = {"version": str(self.version), "digest": candidate.tags[DIGEST]}
        figures: dict[str, Json] = {
            "approved_by": approved.by,
            "approved_at": approved.at.isoformat(),
            "comment": approved.comment,
        }
        record(
            self.registry,
            candidate.run_id,
            Evidence("approval", Verdict.PASSED, self.clock.now(), (), subject, figures),
        )

    def promote(self, production: ServingTarget) -> dict[str, Json]:
        """Switch production to the version, then the aliases: traffic first, so that no alias promises too much.

        Its rollout is over only when production is verified: until then no newer version may move traffic, and
        afterwards nothing is moved when this is repeated.
        """
        if state_of(self.candidate()) is not State.PRODUCTION:
            self._switch(production)
        previous = self.registry.by_alias(self.spec.model, PREVIOUS)
        return {"version": self.version, "previous": previous.version if previous else None}

    def _switch(self, production: ServingTarget) -> None:
        self.refuse_superseded()
        candidate = self.candidate()
        production.deploy(release_of(self.spec, candidate, candidate.tags[APPROVAL]))
        with self.orders.turn(self.spec.model):
            self.refuse_superseded()
            production.set_traffic(self.spec.model, TrafficPlan(stable=self.version))
            previous = self._become_champion()
            _keep_only(production, self.spec.model, {self.version} | ({previous.version} if previous else set()))

    def _become_champion(self) -> Candidate | None:
        """Move the aliases and return the previous champion, which stays warm."""
        model, change = self.spec.model, self._change("its rollout ended well")
        champion = self.registry.by_alias(model, CHAMPION)
        if champion and champion.version != self.version and state_of(champion) not in CLOSED:
            point(self.registry, model, PREVIOUS, champion.version, change)
            self.registry.set_tags(model, champion.version, {STATE: State.RETIRED.value})
        point(self.registry, model, CHAMPION, self.version, change)
        return self.registry.by_alias(model, PREVIOUS)

    def verify_production(self, production: ServingTarget) -> Evidence:
        """Ask production as a client would: this version must answer, and as in training; raises DeliveryStopped.

        That ends its rollout. Afterwards a newer version may answer: nothing is asked then when this is repeated.
        """
        candidate = self.candidate()
        if state_of(candidate) is State.PRODUCTION:
            return evidence_of(self.registry, candidate.run_id, "production_checks")
        evidence = self._check("production_checks", production)
        with self.orders.turn(self.spec.model):
            champion = self.registry.by_alias(self.spec.model, CHAMPION)
            if champion is None or champion.version != self.version:
                raise self._stopped("the champion alias does not point to the promoted version")
            self._leave_challenger("it is champion")
            self._set_state(State.PRODUCTION)
        return evidence

    def stop(self, reason: str, *, production: ServingTarget, notifier: Notifier) -> None:
        """End the delivery without promotion: all traffic of production goes back to the last good version.

        A first version has none to go back to, and what was delivered before, or chosen by a person's rollback, stays
        what it is: production is left as it is then, and the owners are told so.
        """
        with self.orders.turn(self.spec.model):
            state = state_of(self.candidate())
            if state in DELIVERED:
                reason = f"{reason}; nothing was changed: the version is {_SAID[state]}"
            else:
                if not self._restore_champion(production, reason):
                    reason = f"{reason}; production has no earlier version and stays on this one"
                if state_of(self.candidate()) not in CLOSED:
                    self._reject(reason)
                reason = self.candidate().tags.get(REASON, reason)
            self._leave_challenger(reason)
        title = f"{self.spec.model} version {self.version} was not delivered"
        notifier.notify(Notification(self.spec.model, "delivery_stopped", title, reason))

    def candidate(self) -> Candidate:
        """Return the version as the registry has it now; raises NotFoundError."""
        return self.registry.candidate(self.spec.model, self.version)

    def refuse_superseded(self) -> None:
        """Raise DeliveryStopped when another version has become the challenger, or this one was closed or delivered.

        A version whose rollout moves traffic is no longer superseded: the newer one waits for its end. Nothing
        overtakes a newer champion.
        """
        candidate = self.candidate()
        refuse_closed(candidate)
        if (state := state_of(candidate)) in DELIVERED:
            raise self._stopped(f"the version was delivered before: it is {_SAID[state]}")
        champion = self.registry.by_alias(self.spec.model, CHAMPION)
        if champion and champion.version > self.version:
            self._close(State.SUPERSEDED, f"version {champion.version} is already champion")
        if state is State.ROLLING_OUT:
            return
        challenger = self.registry.by_alias(self.spec.model, CHALLENGER)
        if challenger and challenger.version > self.version and state_of(challenger) not in CLOSED:
            self._close(State.SUPERSEDED, f"version {challenger.version} is on its way")

    def _supersede_older(self) -> None:
        """Close the older versions that wait for people or for their turn; their runs end when they look."""
        for older in self.registry.candidates(self.spec.model):
            if older.version < self.version and state_of(older) in WAITING:
                tags = {STATE: State.SUPERSEDED.value, REASON: f"version {self.version} is on its way"}
                self.registry.set_tags(self.spec.model, older.version, tags)

    def _change(self, why: str) -> Change:
        return Change(self.clock.now(), f"delivery of version {self.version}", why, self._run)

    @property
    def _run(self) -> str:
        return f"candidate-{self.version}"

    def _leave_challenger(self, why: str) -> None:
        challenger = self.registry.by_alias(self.spec.model, CHALLENGER)
        if challenger and challenger.version == self.version:
            withdraw(self.registry, self.spec.model, CHALLENGER, self._change(why))

    def _statement(self, candidate: Candidate, environment: str, approved: Approved) -> dict[str, Json]:
        return approval_statement(
            self.spec.model,
            self.version,
            candidate.tags[DIGEST],
            environment,
            approved.by,
            approved.at,
            lock_digest=candidate.tags[LOCK],
        )

    def _check(self, stage: str, target: ServingTarget) -> Evidence:
        candidate = self.candidate()
        evidence = check_golden(stage, self.spec, candidate, target, registry=self.registry, clock=self.clock)
        record(self.registry, candidate.run_id, evidence)
        if evidence.verdict is Verdict.FAILED:
            raise self._stopped("; ".join(evidence.reasons))
        return evidence

    def _restore_champion(self, production: ServingTarget, why: str) -> bool:
        """Put traffic and alias back to the champion before this delivery; False when there was none.

        Production is only touched where it serves this version: what anybody else gave it stays.
        """
        model = self.spec.model
        plan = production.status(model).plan
        serves = plan is not None and self.version in (plan.stable, plan.challenger, plan.shadow)
        champion = self.registry.by_alias(model, CHAMPION)
        if champion and champion.version == self.version:
            champion = self._previous()
        if champion is None:
            return not serves
        if serves:
            production.deploy(release_of(self.spec, champion, champion.tags[APPROVAL]))
            production.set_traffic(model, TrafficPlan(stable=champion.version))
        point(self.registry, model, CHAMPION, champion.version, self._change(why))
        if state_of(champion) not in CLOSED:
            self.registry.set_tags(model, champion.version, {STATE: State.PRODUCTION.value})
        point_previous(self.registry, model, champion.version, self._change(why))
        production.undeploy(model, self.version)
        return True

    def _previous(self) -> Candidate | None:
        """Return the previous champion, unless it was taken out of production for good."""
        previous = self.registry.by_alias(self.spec.model, PREVIOUS)
        return previous if previous and state_of(previous) not in CLOSED else None

    def _set_state(self, state: State) -> None:
        self.registry.set_tags(self.spec.model, self.version, {STATE: state.value})

    def _reject(self, reason: str) -> None:
        """Close the version for good; whatever refused it, the reason is evidence, in full."""
        candidate = self.candidate()
        subject = {"version": str(self.version), "digest": candidate.tags[DIGEST]}
        refused = Evidence("delivery", Verdict.FAILED, self.clock.now(), (reason,), subject)
        record(self.registry, candidate.run_id, refused)
        tags = {STATE: State.REJECTED.value, REASON: reason[:500]}
        self.registry.set_tags(self.spec.model, self.version, tags)

    def _close(self, state: State, reason: str) -> None:
        self.registry.set_tags(self.spec.model, self.version, {STATE: state.value, REASON: reason[:500]})
        raise self._stopped(f"{state.value}: {reason}")

    def _stopped(self, what: str) -> DeliveryStopped:
        return DeliveryStopped(what, where=f"{self.spec.model} version {self.version}")


def _keep_only(target: ServingTarget, model: str, versions: set[int]) -> None:
    for status in target.status(model).versions:
        if status.version not in versions:
            target.undeploy(model, status.version)
