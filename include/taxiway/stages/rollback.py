"""Rollback: production back on the previous champion, or on a named earlier version, in one atomic switch."""

from __future__ import annotations

from dataclasses import dataclass

from taxiway.domain.evidence import Evidence, Json, Verdict
from taxiway.domain.values import CHAMPION, PREVIOUS, Candidate, Notification, TrafficPlan
from taxiway.errors import DeliveryStopped
from taxiway.ports import Clock, Notifier, Registry, ServingTarget
from taxiway.spec import ModelSpec
from taxiway.stages.candidates import APPROVAL, REASON, STATE, State, release_of, state_of, where
from taxiway.stages.evidence_store import record


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants production back, on which version (None: the previous champion), and why."""

    by: str
    reason: str
    to: int | None = None


def rollback(
    spec: ModelSpec, order: Order, *, registry: Registry, production: ServingTarget, clock: Clock, notifier: Notifier
) -> dict[str, Json]:
    """Switch production, then the aliases, then mark the version that was taken out; repeatable.

    Raises DeliveryStopped when there is no version to go back to, or it was never approved for production.
    """
    target = _target(spec, order, registry)
    bad = registry.by_alias(spec.model, CHAMPION)
    _stop_rollouts(spec.model, order, registry)
    production.deploy(release_of(spec, target, target.tags[APPROVAL]))
    production.set_traffic(spec.model, TrafficPlan(stable=target.version))
    registry.set_alias(spec.model, CHAMPION, target.version)
    registry.set_tags(spec.model, target.version, {STATE: State.PRODUCTION.value})
    if bad is None or bad.version == target.version:
        return {"from": None, "to": target.version}
    _mark(bad, target, order, registry=registry, clock=clock)
    _point_previous(spec.model, target, registry)
    title = f"{spec.model} was rolled back from version {bad.version} to {target.version}"
    notifier.notify(Notification(spec.model, "rolled_back", title, f"by {order.by}: {order.reason}"))
    return {"from": bad.version, "to": target.version}


def _target(spec: ModelSpec, order: Order, registry: Registry) -> Candidate:
    if order.to is not None:
        target = registry.candidate(spec.model, order.to)
    else:
        found = registry.by_alias(spec.model, PREVIOUS)
        if found is None:
            raise DeliveryStopped(
                "there is no previous version in production to go back to",
                where=spec.model,
                next_step="name a version that was approved for production.",
            )
        target = found
    if APPROVAL not in target.tags:
        advice = "name a version that was approved for production."
        raise DeliveryStopped("the version was never approved for production", where=where(target), next_step=advice)
    return target


def _stop_rollouts(model: str, order: Order, registry: Registry) -> None:
    """Close the version that is on its way through production, so that nothing moves traffic but this rollback."""
    for candidate in registry.candidates(model):
        if state_of(candidate) is State.ROLLING_OUT and candidate.version != order.to:
            tags = {STATE: State.REJECTED.value, REASON: f"its rollout was stopped by a rollback: {order.reason}"[:500]}
            registry.set_tags(model, candidate.version, tags)


def _mark(bad: Candidate, target: Candidate, order: Order, *, registry: Registry, clock: Clock) -> None:
    """Say on the version that was taken out that only a person can bring it back."""
    registry.set_tags(bad.model, bad.version, {STATE: State.ROLLED_BACK.value, REASON: order.reason[:500]})
    subject = {"version": str(bad.version), "to": str(target.version)}
    figures: dict[str, Json] = {"by": order.by}
    evidence = Evidence("rollback", Verdict.FAILED, clock.now(), (order.reason,), subject, figures)
    record(registry, bad.run_id, evidence)


def _point_previous(model: str, champion: Candidate, registry: Registry) -> None:
    """Point `previous` to the newest retired version before the champion, or to none: never to a bad one."""
    for candidate in registry.candidates(model):
        if candidate.version < champion.version and state_of(candidate) is State.RETIRED:
            registry.set_alias(model, PREVIOUS, candidate.version)
            return
    registry.delete_alias(model, PREVIOUS)
