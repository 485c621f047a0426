"""Which version a rollback leaves, and which one it goes to: by the registry, or by production alone."""

from __future__ import annotations

from taxiway.domain.values import CHAMPION, PREVIOUS, Candidate, TargetStatus
from taxiway.errors import DeliveryStopped
from taxiway.ports import Registry
from taxiway.stages.candidates import APPROVAL, CLOSED, State, state_of, where

_NAME_ONE = "name a version that was approved for production (`--to`)."


def known_target(model: str, asked: int | None, status: TargetStatus, registry: Registry) -> tuple[int | None, int]:
    """Return the version that serves now, and the one to go to; raises DeliveryStopped when there is none.

    Without a name it is the champion when another version serves (its promotion was cut off), else the previous
    champion, else the newest retired version.
    """
    champion = registry.by_alias(model, CHAMPION)
    serving = status.plan.stable if status.plan else champion.version if champion else None
    if asked is not None:
        target = registry.candidate(model, asked)
        refuse_unapproved(target)
        return serving, target.version
    for good in (champion, registry.by_alias(model, PREVIOUS), *_retired(model, serving, registry)):
        if good is not None and good.version != serving and is_good(good):
            return serving, good.version
    raise DeliveryStopped("there is no previous version in production to go back to", where=model, next_step=_NAME_ONE)


def served_target(asked: int | None, status: TargetStatus) -> tuple[int, int]:
    """Return the same, when only production can be asked: it knows what it has ready, and holds the approvals.

    Without a name it is the one older version that is ready, is not being rolled out, and serves nothing.
    """
    if status.plan is None:
        raise DeliveryStopped("production serves nothing, and MLflow does not answer", where=status.model)
    plan, serving = status.plan, status.plan.stable
    ready = [found.version for found in status.versions if found.state == "ready"]
    older = [version for version in ready if version < serving and version not in (plan.challenger, plan.shadow)]
    if asked is not None and asked in ready:
        return serving, asked
    if asked is None and len(older) == 1:
        return serving, older[0]
    known = ", ".join(f"{found.version} ({found.state})" for found in status.versions)
    which = "which of the older versions" if asked is None and older else f"version {asked or 'before this one'}"
    raise DeliveryStopped(
        f"MLflow does not answer, and production alone does not know {which}; it has {known}",
        where=f"{status.model} serves version {serving}",
        next_step="name one of those that are ready (`--to`), or repeat this when MLflow answers.",
    )


def refuse_unapproved(target: Candidate) -> None:
    """Raise DeliveryStopped for a version that nobody ever let into production."""
    if APPROVAL not in target.tags:
        raise DeliveryStopped("the version was never approved for production", where=where(target), next_step=_NAME_ONE)


def is_good(candidate: Candidate) -> bool:
    """Tell whether the version may serve without anybody naming it."""
    return APPROVAL in candidate.tags and state_of(candidate) not in CLOSED


def _retired(model: str, serving: int | None, registry: Registry) -> list[Candidate]:
    """Return the versions that were champion before, newest first."""
    older = (found for found in registry.candidates(model) if serving is None or found.version < serving)
    return [found for found in older if state_of(found) is State.RETIRED]
