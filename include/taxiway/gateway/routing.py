"""Who answers a request: pure rules on the traffic plan."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from taxiway.domain.values import TrafficPlan
from taxiway.errors import DeliveryStopped

CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"
_PERCENT = 100.0


def choose(plan: TrafficPlan, model: str, request_id: str) -> int:
    """Return the version that answers.

    A request id always lands on the same side while the plan stands, and a growing share only moves ids towards the
    challenger, never back.
    """
    if plan.challenger is not None and position(model, request_id) < plan.challenger_percent:
        return plan.challenger
    return plan.stable


def position(model: str, request_id: str) -> float:
    """Return where the request id lies between 0 (inclusive) and 100 (exclusive), evenly spread over ids."""
    digest = hashlib.blake2b(f"{model}/{request_id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / 2**32 * _PERCENT


def versions_in(plan: TrafficPlan) -> set[int]:
    """Return every version that the plan needs."""
    return {version for version in (plan.stable, plan.challenger, plan.shadow) if version is not None}


def check_plan(plan: TrafficPlan) -> None:
    """Raise DeliveryStopped when the plan contradicts itself."""
    named = [version for version in (plan.stable, plan.challenger, plan.shadow) if version is not None]
    problem = ""
    if len(named) != len(set(named)):
        problem = "one version cannot have two roles"
    elif not 0 <= plan.challenger_percent <= _PERCENT:
        problem = f"challenger_percent is {plan.challenger_percent:g}, but must be between 0 and 100"
    elif plan.challenger is None and plan.challenger_percent > 0:
        problem = "a share of the traffic needs a challenger"
    if problem:
        raise DeliveryStopped(f"the traffic plan contradicts itself: {problem}", next_step="send another plan.")


def plan_to_json(plan: TrafficPlan) -> dict[str, Any]:
    """Return the plan as a JSON object."""
    return asdict(plan)


def plan_from_json(document: Mapping[str, Any]) -> TrafficPlan:
    """Read a plan; raises TypeError or ValueError when a field is missing, unknown or of the wrong type."""
    plan = TrafficPlan(**document)
    for version in (plan.stable, plan.challenger, plan.shadow):
        if version is not None and (isinstance(version, bool) or not isinstance(version, int)):
            raise ValueError("versions are whole numbers")
    if isinstance(plan.challenger_percent, bool) or not isinstance(plan.challenger_percent, int | float):
        raise ValueError("challenger_percent is a number")
    if plan.stable is None:
        raise ValueError("a plan has a stable version")
    return plan
