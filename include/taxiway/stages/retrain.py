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
from taxiway.ports import Clock, DataSource, Registry
from taxiway.spec import ModelSpec
from taxiway.stages.candidates import CLOSED, state_of
from taxiway.stages.monitor import MONITORING, window_name

RETRAINING = "taxiway/retraining"
TRAINED_UNTIL = "taxiway.trained_until"
_UNPROMPTED = ("schedule", "manual")


@dataclass(frozen=True, slots=True)
class Retraining:
    """A decision; when it goes, `run_id` and `conf` start `<model>.ci` (the same again for the same data end)."""

    go: bool
    reasons: tuple[str, ...]
    run_id: str
    conf: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the decision as a small JSON object."""
        return {"go": self.go, "reasons": list(self.reasons), "run_id": self.run_id, "conf": dict(self.conf)}


@dataclass(frozen=True, slots=True)
class _Alarm:
    """A window that asked for retraining, and why (performance, drift)."""

    end: datetime
    cause: str
    text: str


def decide_retraining(
    spec: ModelSpec,
    *,
    data_end: datetime | None,
    reason: str,
    registry: Registry,
    data: DataSource,
    clock: Clock,
) -> Retraining:
    """Decide whether to train on the data before `data_end` (None: all there is), and keep the decision.

    The reasons `schedule` and `manual` ask by themselves; any other needs an unanswered alarm. A retraining that was
    decided stays decided when it is asked again. Without a champion there is nothing to retrain.
    """
    end = data_end or data.newest()
    champion = registry.by_alias(spec.model, CHAMPION)
    if champion is None:
        advice = f"{spec.model} has no champion yet: its first model comes from a commit, through {spec.model}.ci"
        return _retraining(RetrainingDecision(False, (advice,)), end, reason)
    earlier = _earlier_decisions(registry, champion)
    if (same := earlier.get(end)) is not None and same.figures["go"]:
        return _retraining(RetrainingDecision(True, same.reasons), end, same.subject["reason"])
    started = [moment for moment, decision in earlier.items() if decision.figures["go"] and moment != end]
    alarms = _unanswered_alarms(registry, champion, end, started)
    trained_until = _trained_until(spec, registry)
    requests = [f"asked for: {reason}"] if reason in _UNPROMPTED else []
    decision = decide(
        [*requests, *(alarm.text for alarm in alarms)],
        last_trained_until=trained_until,
        data_end=end,
        cooldown=spec.retraining.cooldown,
        new_labels=_new_labels(spec, data, trained_until, end),
        min_new_labels=spec.retraining.min_new_labels,
        recent_retrainings=started,
        max_per_week=spec.retraining.max_per_week,
    )
    cause = reason if reason in _UNPROMPTED or not alarms else alarms[-1].cause
    _keep(registry, champion, decision, data_end=end, reason=cause, at=clock.now())
    return _retraining(decision, end, cause)


def _retraining(decision: RetrainingDecision, end: datetime, reason: str) -> Retraining:
    conf = {"data_end": end.isoformat(), "reason": reason}
    return Retraining(decision.go, decision.reasons, f"retrain-{window_name(end)}", conf)


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
    registry: Registry,
    champion: Candidate,
    decision: RetrainingDecision,
    *,
    data_end: datetime,
    reason: str,
    at: datetime,
) -> None:
    """Store the decision with the champion: the next ones count it against the weekly budget."""
    subject = {
        "model": champion.model,
        "version": str(champion.version),
        "data_end": data_end.isoformat(),
        "reason": reason,
    }
    evidence = Evidence("retraining", Verdict.PASSED, at, decision.reasons, subject, {"go": decision.go})
    registry.put_json(champion.run_id, f"{RETRAINING}/{window_name(data_end)}.json", evidence.to_json())
