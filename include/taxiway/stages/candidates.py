"""Candidates as every later stage sees them: verified bytes, states, and the release that a target serves."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from taxiway.domain.values import Candidate, Release
from taxiway.errors import DeliveryStopped, IntegrityError
from taxiway.ports import Registry, Verifier
from taxiway.spec import ModelSpec
from taxiway.stages.digests import directory_digest
from taxiway.stages.workspaces import workspace

SIGNATURE = "taxiway/model.sig"
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
    """It answers part of the traffic, or copies of it."""
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


def state_of(candidate: Candidate) -> State:
    """Return the state of a version (a version without the tag is a candidate)."""
    return State(candidate.tags.get(STATE, State.CANDIDATE))


def where(candidate: Candidate) -> str:
    """Name the version in messages."""
    return f"{candidate.model} version {candidate.version}"


def fetch_verified(candidate: Candidate, directory: Path, *, registry: Registry, verifier: Verifier) -> Path:
    """Download the model and verify digest and signature; raises IntegrityError, and nothing is loaded then."""
    model, signature = directory / "model", directory / "model.sig"
    registry.get_directory(candidate.run_id, "model", model)
    registry.get_file(candidate.run_id, SIGNATURE, signature)
    verifier.verify_directory(model, signature)
    expected, found = candidate.tags.get(DIGEST), directory_digest(model)
    if expected != found:
        raise IntegrityError(
            f"the registered digest is {expected}, but the stored model has {found}",
            where=where(candidate),
            next_step="find out who changed the stored files; build the commit again.",
        )
    return model


def verify(candidate: Candidate, *, registry: Registry, verifier: Verifier) -> None:
    """Check digest and signature of the stored model; raises IntegrityError."""
    with workspace("verify") as directory:
        fetch_verified(candidate, directory, registry=registry, verifier=verifier)


def refuse_closed(candidate: Candidate) -> None:
    """Raise DeliveryStopped when the version was rejected, superseded or rolled back."""
    state = state_of(candidate)
    if state in CLOSED:
        reason = candidate.tags.get(REASON, "no reason recorded")
        raise DeliveryStopped(
            f"the version is {state.value}: {reason}",
            where=where(candidate),
            next_step="push a new commit, or roll back to this version by name if a person decides so.",
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
