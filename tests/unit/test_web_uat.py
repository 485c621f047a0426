"""Sign-offs in the registry: what is stored, by whom, and when no more."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from taxiway.adapters.mlflow_registry import MlflowRegistry
from taxiway.domain.evidence import Verdict
from taxiway.domain.uat import SignOff
from taxiway.errors import IntegrityError, NotAllowed, NotFoundError, PermanentError, WrongState
from taxiway.ports import Registry
from taxiway.spec import ModelSpec
from taxiway.stages.uat import MAX_COMMENTS, record_sign_off, sign_offs, uat_cases, uat_decision
from tests.fakes import NOW, FakeRegistry

MODEL = "churn"
ODD_NAME = "Zoë O'Hara/~:50%@example.org"


def spec(**uat: Any) -> ModelSpec:
    """Return a spec with these UAT rules."""
    return ModelSpec.model_validate(
        {
            "model": MODEL,
            "description": "Will this customer leave?",
            "owner": "crm",
            "repository": {"url": "https://git.example/churn.git"},
            "task": {"kind": "binary", "label": "left", "key": "customer", "timestamp": "asked_at"},
            "data": {"uri": "file:///data/churn", "features": ["plan", "months"]},
            "gates": {"metrics": {"roc_auc": {"min": 0.6}}},
            "uat": {"testers": ["ana", "ben", ODD_NAME], "quorum": 2, **uat},
            "approval": {"approvers": ["dana"]},
            "monitoring": {"performance": {"metric": "roc_auc", "max_drop": 0.05}},
        }
    )


def answer(tester: str, *, accepted: bool = True, comments: str = "") -> SignOff:
    """Return a tester's answer."""
    return SignOff(tester, accepted, 4, comments, NOW)


def in_staging(registry: Registry, tmp_path: Path) -> int:
    """Register a version that waits for testers."""
    run = registry.open_build(MODEL, uuid.uuid4().hex, {})
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    registry.put_directory(run, "model", tmp_path)
    return registry.register(MODEL, run, {"taxiway.state": "staging", "taxiway.digest": "sha256:1"}, "").version


@pytest.fixture
def registry() -> FakeRegistry:
    """An empty registry in memory."""
    return FakeRegistry()


def test_mlflow_takes_the_longest_comment_of_the_oddest_name(mlflow_url: str, tmp_path: Path) -> None:
    """Any tester that a spec can name, with the longest comment, comes back from MLflow unchanged."""
    registry = MlflowRegistry(mlflow_url)
    version = in_staging(registry, tmp_path)
    given = answer(ODD_NAME, comments="\x01" * MAX_COMMENTS)

    stored = record_sign_off(registry, spec(), version, given)

    assert sign_offs(registry.candidate(MODEL, version)) == [stored]
    assert (stored.tester, stored.comments, stored.saw) == (ODD_NAME, given.comments, "sha256:1")


def test_answers_that_decide_are_final(registry: FakeRegistry, tmp_path: Path) -> None:
    """Once the quorum accepted, no answer can contradict the verdict that the pipeline may have acted on."""
    version = in_staging(registry, tmp_path)
    record_sign_off(registry, spec(), version, answer("ana"))
    record_sign_off(registry, spec(), version, answer("ben"))

    with pytest.raises(WrongState, match="ana, ben accepted"):
        record_sign_off(registry, spec(), version, answer("ana", accepted=False))

    assert uat_decision(spec(), registry.candidate(MODEL, version)).verdict is Verdict.PASSED


def test_strangers_and_long_comments_are_refused(registry: FakeRegistry, tmp_path: Path) -> None:
    """What must not be stored is not stored."""
    version = in_staging(registry, tmp_path)

    with pytest.raises(NotAllowed):
        record_sign_off(registry, spec(), version, answer("dana"))
    with pytest.raises(PermanentError, match="at most"):
        record_sign_off(registry, spec(), version, answer("ana", comments="x" * (MAX_COMMENTS + 1)))
    with pytest.raises(NotFoundError):
        record_sign_off(registry, spec(), version + 1, answer("ana"))

    assert sign_offs(registry.candidate(MODEL, version)) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tester": "ana"}', "no JSON"])
def test_forged_answers_are_named(registry: FakeRegistry, tmp_path: Path, text: str) -> None:
    """A tag that no tester can have stored is an error with its name, and never just left out."""
    version = in_staging(registry, tmp_path)
    registry.set_tags(MODEL, version, {"taxiway.signoff.ana": text})

    with pytest.raises(IntegrityError, match=r"taxiway\.signoff\.ana"):
        sign_offs(registry.candidate(MODEL, version))


def test_an_answer_under_another_name_is_refused(registry: FakeRegistry, tmp_path: Path) -> None:
    """Copying an answer to another tester's tag makes no second answer."""
    version = in_staging(registry, tmp_path)
    record_sign_off(registry, spec(), version, answer("ana"))
    copied = registry.candidate(MODEL, version).tags["taxiway.signoff.ana"]
    registry.set_tags(MODEL, version, {"taxiway.signoff.ben": copied})

    with pytest.raises(IntegrityError, match="answer of ana"):
        sign_offs(registry.candidate(MODEL, version))


def test_cases_are_the_newest_rows(registry: FakeRegistry, tmp_path: Path) -> None:
    """Testers get as many cases as asked for, the newest, each with its prediction."""
    version = in_staging(registry, tmp_path)
    candidate = registry.candidate(MODEL, version)
    inputs = {"columns": ["customer", "months"], "data": [["c1", 1], ["c2", 2], ["c3", 3]]}
    registry.put_json(candidate.run_id, "taxiway/golden.json", {"inputs": inputs, "predictions": [0.1, 0.2, 0.3]})

    cases = uat_cases(registry, candidate, 2)

    assert [(case.inputs, case.prediction) for case in cases] == [
        ({"customer": "c2", "months": 2}, 0.2),
        ({"customer": "c3", "months": 3}, 0.3),
    ]
