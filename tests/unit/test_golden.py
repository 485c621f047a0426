"""Golden rows: a target must answer as the model did at evaluation, whatever kind of answer that is."""

from __future__ import annotations

from typing import Any

import pytest

from taxiway.domain.evidence import Verdict
from taxiway.domain.values import Candidate, Release, TrafficPlan
from taxiway.stages.golden import GOLDEN, check_golden
from tests.fakes import NOW, FakeClock, FakeRegistry
from tests.fakes_serving import FakeServingTarget
from tests.unit.model_versions import MODEL, example_spec

SCORES = [[0.1, 0.7, 0.2], [0.25, 0.25, 0.5]]


@pytest.mark.parametrize(
    ("evaluated", "answered", "wrong"),
    [
        (SCORES, SCORES, 0),
        (SCORES, [[0.1 + 1e-9, 0.7, 0.2], SCORES[1]], 0),
        (SCORES, [dict(zip("abc", scores, strict=True)) for scores in SCORES], 0),
        (SCORES, [[0.7, 0.1, 0.2], SCORES[1]], 1),
        (SCORES, [[0.1, 0.7], SCORES[1]], 1),
        (["late", "early"], ["late", "early"], 0),
        (["late", "early"], ["late", "on time"], 1),
        ([12.5, -3.0], [12.5, -3], 0),
        ([12.5, -3.0], [12.5, -3.1], 1),
    ],
)
def test_answers_are_compared_by_their_kind(evaluated: list[Any], answered: list[Any], wrong: int) -> None:
    """Scores are compared one by one, also when they are served as records; classes as they are; numbers closely."""
    clock, registry = FakeClock(), FakeRegistry()
    target = FakeServingTarget(clock, answers=lambda version, frame: answered)
    run = registry.open_build(MODEL, "commit-1", {})
    golden = {"inputs": {"columns": ["distance"], "data": [[1.0], [2.0]]}, "predictions": evaluated}
    registry.put_json(run, GOLDEN, golden)
    target.deploy(Release(MODEL, 1, run, "sha256:d", "sha256:l", "key", "at", "approval"))
    target.set_traffic(MODEL, TrafficPlan(stable=1))

    found = check_golden("staging", example_spec(), Candidate(MODEL, 1, run), target, registry=registry, clock=clock)

    assert found.verdict is (Verdict.FAILED if wrong else Verdict.PASSED)
    assert found.reasons == ((f"{wrong} of 2 predictions differ from those at evaluation",) if wrong else ())
    assert [item.errors for item in target.observe(MODEL, NOW)] == [0]
