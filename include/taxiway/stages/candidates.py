"""Candidates as every later stage sees them: verified bytes, states, and the release that a target serves."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from taxiway.domain.values import Candidate, Release
from taxiway.errors import DeliveryStopped
from taxiway.ports import Registry, Verifier
from taxiway.spec import ModelSpec
from taxiway.stages.model_files import StoredVersion, fetch_files, verify_files
from taxiway.stages.model_rules import judge_package
from taxiway.stages.workspaces import workspace

EVALUATION_PAGE = "taxiway/evaluation.html"
DIGEST, LOCK, STATE, APPROVAL = "taxiway.digest", "taxiway.lock", "taxiway.state", "taxiway.approval"
REASON, REQUESTED_BY, VERDICT = "taxiway.reason", "taxiway.requested_by", "taxiway.verdict"


class State(StrEnum):
    """Where a version is on its way; kept in the version tag `taxiway.state`."""

    CANDIDATE = "candidate"
    """It passed its gates and waits for its delivery."""
    STAGING = "staging"
    """It serves in staging; testers may sign off."""
    TESTED = "tested"
    """The testers' verdict is in; the release manager decides."""
    APPROVED = "approved"
    """It may serve in production."""
    ROLLING_OUT = "rolling_out"
    """It answers part of the traffic, or copies of it; or all, until that is verified."""
    PRODUCTION = "production"
    """It is the champion."""
    RETIRED = "retired"
    """It was the champion and may be again."""
    REJECTED = "rejected"
    """A tester, the release manager or a check said no."""
    SUPERSEDED = "superseded"
    """A newer version took its place before it reached production."""
    ROLLED_BACK = "rolled_back"
    """It was taken out of production; only a person can bring it back."""


CLOSED = frozenset({State.REJECTED, State.SUPERSEDED, State.ROLLED_BACK})
DELIVERED = frozenset({State.PRODUCTION, State.RETIRED})
"""In production, or there before: what a delivery decides about these was decided."""
WAITING = frozenset({State.CANDIDATE, State.STAGING, State.TESTED, State.APPROVED})
"""On the way, and not yet in production: a newer version takes the place of these."""


def state_of(candidate: Candidate) -> State:
    """Return the state of a version (a version without the tag is a candidate)."""
    return State(candidate.tags.get(STATE, State.CANDIDATE))


def where(candidate: Candidate) -> str:
    """Name the version in messages."""
    return f"{candidate.model} version {candidate.version}"


def fetch_verified(candidate: Candidate, directory: Path, *, registry: Registry, verifier: Verifier) -> Path:
    """Download the version's files to the directory, verify them, and return the model; its lock lies beside it.

    Raises IntegrityError when digest, signature or lock do not hold, and nothing is loaded then.
    """
    tags = candidate.tags
    version = StoredVersion(where(candidate), candidate.run_id, tags.get(DIGEST), tags.get(LOCK))
    files = fetch_files(version, directory, registry)
    verify_files(version, files, verifier)
    return files.model


def verify(spec: ModelSpec, candidate: Candidate, *, registry: Registry, verifier: Verifier) -> None:
    """Check the stored files of the version, and that the spec still allows such a model.

    Raises IntegrityError, or TrainingError when the spec has become stricter since the version was built.
    """
    with workspace("verify") as directory:
        model = fetch_verified(candidate, directory, registry=registry, verifier=verifier)
        judge_package(spec, model).refuse(where(candidate))


def evaluation_page(candidate: Candidate, registry: Registry) -> str:
    """Return the address of the page about the version's evaluation; empty when none was drawn."""
    if EVALUATION_PAGE not in registry.list_files(candidate.run_id, "taxiway"):
        return ""
    return registry.page(candidate.run_id, EVALUATION_PAGE)


def refuse_closed(candidate: Candidate) -> None:
    """Raise DeliveryStopped when the version was rejected, superseded or rolled back."""
    state = state_of(candidate)
    if state in CLOSED:
        reason = candidate.tags.get(REASON, "no reason recorded")
        raise DeliveryStopped(
            f"the version is {state.value}: {reason}",
            where=where(candidate),
            next_step="push a new commit; a version that was approved before comes back when a person decides so: "
            f"`taxiway rollback {candidate.model} --to {candidate.version} --reason ...`.",
        )


def release_of(spec: ModelSpec, candidate: Candidate, approval: str) -> Release:
    """Return what a target needs to serve the version."""
    return Release(
        model=candidate.model,
        version=candidate.version,
        run_id=candidate.run_id,
        digest=candidate.tags[DIGEST],
        lock_digest=candidate.tags[LOCK],
        key=spec.task.key,
        timestamp=spec.task.timestamp,
        approval=approval,
    )
