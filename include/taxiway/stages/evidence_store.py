"""Evidence is kept with the candidate: one JSON document per stage in the build's run."""

from __future__ import annotations

from taxiway.domain.evidence import Evidence
from taxiway.ports import Registry


def record(registry: Registry, run_id: str, evidence: Evidence) -> Evidence:
    """Store the evidence of one stage, replacing that of an earlier try."""
    registry.put_json(run_id, f"taxiway/{evidence.stage}.json", evidence.to_json())
    return evidence


def evidence_of(registry: Registry, run_id: str, stage: str) -> Evidence:
    """Return the evidence of one stage; raises NotFoundError."""
    return Evidence.from_json(registry.get_json(run_id, f"taxiway/{stage}.json"))
