"""Golden predictions: rows of the holdout with the answers the model gave when it was evaluated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.domain.values import Candidate
from taxiway.errors import PermanentError
from taxiway.ports import Clock, Registry, ServingTarget
from taxiway.spec import ModelSpec

GOLDEN = "taxiway/golden.json"
_TOLERANCE = 1e-6


def check_golden(
    stage: str, spec: ModelSpec, candidate: Candidate, target: ServingTarget, *, registry: Registry, clock: Clock
) -> Evidence:
    """Ask the target for the golden rows: the right version must answer, with the same predictions."""
    import pandas as pd

    golden = registry.get_json(candidate.run_id, GOLDEN)
    frame = pd.DataFrame(golden["inputs"]["data"], columns=golden["inputs"]["columns"])
    reasons: list[str] = []
    try:
        answer = target.predict(spec.model, frame)
    except PermanentError as error:
        reasons.append(f"the request was refused: {error}")
    else:
        if answer.version != candidate.version:
            reasons.append(f"version {answer.version} answered instead of version {candidate.version}")
        wrong = differing_rows(golden["predictions"], list(answer.values))
        if wrong:
            reasons.append(f"{len(wrong)} of {len(golden['predictions'])} predictions differ from those at evaluation")
    return Evidence(
        stage=stage,
        verdict=Verdict.FAILED if reasons else Verdict.PASSED,
        at=clock.now(),
        reasons=tuple(reasons),
        subject={"version": str(candidate.version), "digest": candidate.tags.get("taxiway.digest", "")},
        figures={"rows": len(golden["predictions"])},
    )


def differing_rows(expected: Sequence[Any], found: Sequence[Any]) -> list[int]:
    """Return the positions of answers that differ by more than rounding; all of them when there are more or less."""
    if len(expected) != len(found):
        return list(range(len(expected)))
    return [row for row, (one, other) in enumerate(zip(expected, found, strict=True)) if not _same(one, other)]


def _same(one: Any, other: Any) -> bool:
    if isinstance(other, dict):  # a model that answers a frame is served as one record per row
        other = list(other.values())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(one == other)
