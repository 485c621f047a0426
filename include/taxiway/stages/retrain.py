"""Retrain: whether a new model is trained on fresh data now, and with which run of `<model>.ci`.

An alarm of monitoring stays asked until a retraining answers it: one that was started with data up to the alarm's
window or later, or a newer champion, whose run holds alarms of its own. Every decision is kept with the champion in
`taxiway/retraining/<data end>.json`; all times are data time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.domain.retraining import RetrainingDecision, decide
from taxiway.domain.values import CHAMPION, Candidate, Window
from taxiway.ports import DataSource, Registry
from taxiway.spec import ModelSpec
from taxiway.stages.candidates import CLOSED, state_of
from taxiway.stages.monitor import MONITORING, window_name

RETRAINING = "taxiway/retraining"
TRAINED_UNTIL = "taxiway.trained_until"
_UNPROMPTED = ("schedule", "manual")


@dataclass(frozen=True, slots=True)
class _Alarm:
    """A window that asked for retraining, and why (performance, drift)."""

    end: datetime
    cause: str
    text: str


def retraining_run_id(data_end: datetime) -> str:
    """Return the id of the runs (of `<model>.retraining` and `<model>.ci`) that retrain on the data before then."""
    return f"retrain-{window_name(data_end)}"


def open_request(spec: ModelSpec, *, data_end: datetime, registry: Registry) -> dict[str, Any] | None:
    """Return the run of `<model>.retraining` (run_id, conf) that open alarms until `data_end` call for, or None.

    An alarm that a guard held back (too soon, too few labels) stays open, so each later window asks again.
    """
    champion = registry.by_alias(spec.model, CHAMPION)
    if champion is None:
        return None
    started = [moment for moment, decision in _earlier_decisions(registry, champion).items() if decision.figures["go"]]
    alarms = _unanswered_alarms(registry, champion, data_end, started)
    if not alarms:
        return None
    conf = {"data_end": data_end.isoformat(), "reason": alarms[-1].cause}
    return {"run_id": retraining_run_id(data_end), "conf": conf}


def decide_retraining(
    spec: ModelSpec, *, data_end: datetime, registry: Registry, data: DataSource, reason: str
) -> dict[str, Any]:
    """Decide whether to train on the data before `data_end`, and keep the decision; returns it as JSON.

    The keys: `go`, `reasons`, and `run_id` and `conf` of the run of `<model>.ci` that it starts. The reasons `schedule`
    and `manual` ask by themselves; any other needs an unanswered alarm. A retraining that was decided stays decided
    when it is asked again. Without a champion there is nothing to retrain.
    """
    champion = registry.by_alias(spec.model, CHAMPION)
    if champion is None:
        advice = f"{spec.model} has no champion yet: its first model comes from a commit, through {spec.model}.ci"
        return _decision(RetrainingDecision(False, (advice,)), data_end, reason)
    earlier = _earlier_decisions(registry, champion)
    if (same := earlier.get(data_end)) is not None and same.figures["go"]:
        return _decision(RetrainingDecision(True, same.reasons), data_end, same.subject["reason"])
    started = [moment for moment, decision in earlier.items() if decision.figures["go"]]
    alarms = _unanswered_alarms(registry, champion, data_end, started)
    trained_until = _trained_until(spec, registry)
    asked = [f"asked for: {reason}"] if reason in _UNPROMPTED else []
    decision = decide(
        [*asked, *(alarm.text for alarm in alarms)],
        last_trained_until=trained_until,
        data_end=data_end,
        cooldown=spec.retraining.cooldown,
        new_labels=_new_labels(spec, data, trained_until, data_end),
        min_new_labels=spec.retraining.min_new_labels,
        recent_retrainings=started,
        max_per_week=spec.retraining.max_per_week,
    )
    cause = reason if asked or not alarms else alarms[-1].cause
    _keep(registry, champion, decision, data_end=data_end, reason=cause)
    return _decision(decision, data_end, cause)


def _decision(decision: RetrainingDecision, data_end: datetime, reason: str) -> dict[str, Any]:
    return {
        "go": decision.go,
        "reasons": list(decision.reasons),
        "run_id": retraining_run_id(data_end),
        "conf": {"data_end": data_end.isoformat(), "reason": reason},
    }


def _earlier_decisions(registry: Registry, champion: Candidate) -> dict[datetime, Evidence]:
    """Return what was decided about this champion, by data end."""
    decisions = _documents(registry, champion, RETRAINING)
    return {datetime.fromisoformat(decision.subject["data_end"]): decision for decision in decisions}


def _unanswered_alarms(registry: Registry, champion: Candidate, end: datetime, started: list[datetime]) -> list[_Alarm]:
    """Return the alarms of windows until `end` that no started retraining had the data for, oldest first."""
    alarms = []
    for evidence in _documents(registry, champion, MONITORING):
        window_end = datetime.fromisoformat(evidence.subject["end"])
        if evidence.figures["asks_retraining"] and window_end <= end and not any(at >= window_end for at in started):
            causes: Any = evidence.figures["asks"]
            text = f"monitoring until {window_name(window_end)} ({', '.join(causes)}): {'; '.join(evidence.reasons)}"
            alarms.append(_Alarm(window_end, causes[0], text))
    return sorted(alarms, key=lambda alarm: alarm.end)


def _documents(registry: Registry, champion: Candidate, folder: str) -> list[Evidence]:
    paths = registry.list_files(champion.run_id, folder)
    return [Evidence.from_json(registry.get_json(champion.run_id, path)) for path in paths if path.endswith(".json")]


def _trained_until(spec: ModelSpec, registry: Registry) -> datetime | None:
    """Return the data end of the newest model that is in production or may still get there."""
    candidates = (found for found in registry.candidates(spec.model) if state_of(found) not in CLOSED)
    ends = [datetime.fromisoformat(found.tags[TRAINED_UNTIL]) for found in candidates if TRAINED_UNTIL in found.tags]
    return max(ends, default=None)


def _new_labels(spec: ModelSpec, data: DataSource, trained_until: datetime | None, end: datetime) -> int:
    """Count the labelled rows that a build as of `end` would have and the newest model had not."""
    delay = spec.task.label_delay
    start = datetime(1900, 1, 1, tzinfo=UTC) if trained_until is None else trained_until - delay
    if start >= end - delay:
        return 0
    rows = data.read(Window(start, end - delay), [spec.task.label])
    return int(rows[spec.task.label].notna().sum())


def _keep(
    registry: Registry, champion: Candidate, decision: RetrainingDecision, *, data_end: datetime, reason: str
) -> None:
    """Store the decision with the champion: the next ones count it against the weekly budget."""
    subject = {
        "model": champion.model,
        "version": str(champion.version),
        "data_end": data_end.isoformat(),
        "reason": reason,
    }
    evidence = Evidence("retraining", Verdict.PASSED, data_end, decision.reasons, subject, {"go": decision.go})
    registry.put_json(champion.run_id, f"{RETRAINING}/{window_name(data_end)}.json", evidence.to_json())
