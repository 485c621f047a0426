"""The state of a rollout between two looks: one evidence document of the version, with every transition so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from taxiway.domain.evidence import Evidence, Json, Verdict
from taxiway.domain.rollout import Observation, Phase, Plan, State, judged
from taxiway.domain.rollout_analysis import AnalysisPolicy, Step
from taxiway.errors import NotFoundError
from taxiway.ports import Registry
from taxiway.stages.evidence_store import evidence_of, record

ROLLOUT = "rollout"
_VERDICTS = {Phase.PROMOTED: Verdict.PASSED, Phase.ABORTING: Verdict.FAILED, Phase.ABORTED: Verdict.FAILED}


def stored_state(registry: Registry, run_id: str) -> State | None:
    """Return the state of the version's rollout, None when it has not begun."""
    try:
        return _read(evidence_of(registry, run_id, ROLLOUT).figures["state"])
    except NotFoundError:
        return None


def stored_history(registry: Registry, run_id: str) -> list[Any]:
    """Return the phases and steps of the version's rollout so far, each with the figures that led to it."""
    try:
        return list(evidence_of(registry, run_id, ROLLOUT).figures["history"])  # type: ignore[arg-type]
    except NotFoundError:
        return []


def measured(before: State, observation: Observation, now: datetime) -> dict[str, Any]:
    """Return the figures that a person reads: of both versions since the step began, and what was compared."""
    seen = {"champion": observation.champion, "challenger": observation.challenger}
    found = {name: figures.figures() for name, figures in seen.items() if figures is not None}
    analysis = judged(before, observation, now)
    return {**found, "compared": dict(analysis.figures)} if analysis else found


def store_state(registry: Registry, run_id: str, state: State, measured: Mapping[str, Any], now: datetime) -> None:
    """Store the state; a new phase or step is added to the history, with the figures that led to it."""
    history = stored_history(registry, run_id)
    entry = _entry(state, measured, now)
    if not history or any(history[-1][key] != entry[key] for key in ("phase", "step", "challenger_version")):
        history.append(entry)
    figures: dict[str, Json] = {"state": _written(state), "history": history}
    verdict = _VERDICTS.get(state.phase, Verdict.INCONCLUSIVE)
    subject = {"version": str(state.plan.challenger), "champion": str(state.plan.champion or "")}
    record(registry, run_id, Evidence(ROLLOUT, verdict, now, (state.reason,), subject, figures))


def _entry(state: State, measured: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    return {
        "phase": state.phase.value,
        "step": state.step,
        "traffic": state.plan.steps[state.step].traffic if state.step >= 0 else None,
        "at": now.isoformat(),
        "reason": state.reason,
        "challenger_version": state.plan.challenger,
        "measured": dict(measured),
    }


def _written(state: State) -> dict[str, Any]:
    steps = [{**asdict(step), "duration": step.duration.total_seconds()} for step in state.plan.steps]
    return {
        "plan": {
            "champion": state.plan.champion,
            "challenger": state.plan.challenger,
            "steps": steps,
            "analysis": asdict(state.plan.analysis),
        },
        "phase": state.phase.value,
        "step": state.step,
        "since": state.since.isoformat(),
        "reason": state.reason,
        "blind": state.blind,
    }


def _read(document: Any) -> State:
    plan: Mapping[str, Any] = document["plan"]
    steps = (Step(**{**step, "duration": timedelta(seconds=step["duration"])}) for step in plan["steps"])
    return State(
        plan=Plan(plan["champion"], plan["challenger"], tuple(steps), AnalysisPolicy(**plan["analysis"])),
        phase=Phase(document["phase"]),
        step=document["step"],
        since=datetime.fromisoformat(document["since"]),
        reason=document["reason"],
        blind=document["blind"],
    )
