"""Aliases with their history: who moved champion, previous, challenger or staging, when, from where, and why.

An entry is kept in `taxiway/aliases.json` of the run of the version that got the alias (of the one that lost it, when
nobody got it). It is written before the alias moves, so no move is without one; a repeat adds none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taxiway.domain.values import Candidate
from taxiway.errors import NotFoundError
from taxiway.ports import Registry

HISTORY = "taxiway/aliases.json"


@dataclass(frozen=True, slots=True)
class Change:
    """Why an alias moves; `run` names the run of Airflow, or the order, behind it."""

    at: datetime
    by: str
    why: str
    run: str


def point(registry: Registry, model: str, alias: str, version: int, change: Change) -> None:
    """Point the alias to the version and keep why; nothing happens when it points there already."""
    holder = registry.by_alias(model, alias)
    if holder is not None and holder.version == version:
        return
    receiver = registry.candidate(model, version)
    _enter(registry, receiver, alias, holder.version if holder else None, version, change)
    registry.set_alias(model, alias, version)


def withdraw(registry: Registry, model: str, alias: str, change: Change) -> None:
    """Remove the alias and keep why; nothing happens when there is none."""
    holder = registry.by_alias(model, alias)
    if holder is None:
        return
    _enter(registry, holder, alias, holder.version, None, change)
    registry.delete_alias(model, alias)


def alias_history(registry: Registry, candidate: Candidate) -> list[dict[str, Any]]:
    """Return the entries of one version, oldest first: at, alias, from, to, by, why, run."""
    try:
        return list(registry.get_json(candidate.run_id, HISTORY))
    except NotFoundError:
        return []


def _enter(
    registry: Registry, candidate: Candidate, alias: str, before: int | None, after: int | None, change: Change
) -> None:
    history = alias_history(registry, candidate)
    moved = {"alias": alias, "from": before, "to": after, "by": change.by, "why": change.why, "run": change.run}
    if history and {**history[-1], **moved} == history[-1]:
        return  # an earlier try was killed before the alias moved
    registry.put_json(candidate.run_id, HISTORY, [*history, {"at": change.at.isoformat(), **moved}])
