"""The record of a rollback in the registry: states, aliases with their history, evidence; and the owners hear of it."""

from __future__ import annotations

from dataclasses import dataclass

from taxiway.domain.evidence import Evidence, Json, Verdict
from taxiway.domain.values import CHALLENGER, CHAMPION, PREVIOUS, Candidate, Notification
from taxiway.errors import NotifierUnavailable
from taxiway.ports import Notifier, Registry
from taxiway.stages.aliases import Change, point, withdraw
from taxiway.stages.candidates import APPROVAL, CLOSED, REASON, STATE, State, state_of
from taxiway.stages.evidence_store import record
from taxiway.stages.orders import KeptOrder

ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Recorder:
    """Writes down what production already does; every step names a wanted state, so it may be repeated."""

    registry: Registry
    notifier: Notifier

    def record(self, order: KeptOrder) -> list[str]:
        """Record the order; returns what went wrong without changing anything about production."""
        before = self.registry.by_alias(order.model, CHAMPION)
        self._stop_rollouts(order)
        self._leave(order, before)
        change = Change(order.at, order.by, order.reason, order.name)
        target = self.registry.candidate(order.model, order.to)
        if state_of(target) is not State.PRODUCTION:
            tags = {STATE: State.PRODUCTION.value, REASON: f"by {order.by}: {order.reason}"[:500]}
            self.registry.set_tags(order.model, order.to, tags)
        point(self.registry, order.model, CHAMPION, order.to, change)
        challenger = self.registry.by_alias(order.model, CHALLENGER)
        if challenger and (challenger.version == order.to or state_of(challenger) in CLOSED):
            withdraw(self.registry, order.model, CHALLENGER, change)
        point_previous(self.registry, order.model, order.to, change)
        return self._tell(order) if order.leaves != order.to else []

    def _stop_rollouts(self, order: KeptOrder) -> None:
        """Close the versions that are on their way through production: their deliveries move nothing any more."""
        for candidate in self.registry.candidates(order.model):
            if state_of(candidate) is State.ROLLING_OUT and candidate.version not in (order.to, order.leaves):
                reason = f"its rollout was stopped by a rollback: {order.reason}"
                tags = {STATE: State.REJECTED.value, REASON: reason[:500]}
                self.registry.set_tags(order.model, candidate.version, tags)

    def _leave(self, order: KeptOrder, champion: Candidate | None) -> None:
        """Mark the version that served: going back, only a person can bring it in again; going forward, it retires."""
        served = {order.leaves} | ({champion.version} if champion else set())
        for version in served - {order.to}:
            if version is None:
                continue
            bad = version == order.leaves and version > order.to
            state = State.ROLLED_BACK if bad else State.RETIRED
            if not bad and state_of(self.registry.candidate(order.model, version)) in CLOSED:
                continue
            self.registry.set_tags(order.model, version, {STATE: state.value, REASON: order.reason[:500]})
        about = self.registry.candidate(order.model, order.to if order.leaves is None else order.leaves)
        subject = {"version": str(about.version), "from": str(order.leaves or ""), "to": str(order.to)}
        figures: dict[str, Json] = {"by": order.by, "order": order.name}
        verdict = Verdict.FAILED if state_of(about) is State.ROLLED_BACK else Verdict.PASSED
        record(self.registry, about.run_id, Evidence(ROLLBACK, verdict, order.at, (order.reason,), subject, figures))

    def _tell(self, order: KeptOrder) -> list[str]:
        title = f"{order.model} was rolled back from version {order.leaves} to {order.to}"
        try:
            self.notifier.notify(Notification(order.model, "rolled_back", title, f"by {order.by}: {order.reason}"))
        except NotifierUnavailable as error:
            return [f"the owners were not told: {error}"]
        return []


def point_previous(registry: Registry, model: str, champion: int, change: Change) -> None:
    """Point `previous` to the newest retired version before the champion, or to none: never to a bad one."""
    for candidate in registry.candidates(model):
        older = candidate.version < champion
        if older and state_of(candidate) is State.RETIRED and APPROVAL in candidate.tags:
            point(registry, model, PREVIOUS, candidate.version, change)
            return
    withdraw(registry, model, PREVIOUS, change)
