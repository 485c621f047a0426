"""Failures: why a stage refused a build, kept with the build where everybody looks for it."""

from __future__ import annotations

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.errors import PermanentError
from taxiway.ports import Clock, Registry
from taxiway.stages.evidence_store import record


def record_failure(registry: Registry, run_id: str, stage: str, error: PermanentError, clock: Clock) -> Evidence:
    """Store `taxiway/failed/<stage>.json`: what was wrong, where, and what to do next.

    Beside the evidence that a stage itself records, this one is there whatever went wrong, in the words of the task.
    """
    failure = Evidence(f"failed/{stage}", Verdict.FAILED, clock.now(), (f"{type(error).__name__}: {error}",))
    return record(registry, run_id, failure)
