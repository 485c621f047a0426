"""The statements that the platform signs: an approval for one environment, and the record of a promotion.

The release record is an in-toto Statement v1 about the model's digest. Its predicate is SLSA provenance v1 (how the
model came to be) with one extension field, `taxiway_release` (why it serves), named as SLSA's parsing rules ask.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from taxiway.domain.evidence import Evidence, Json
from taxiway.domain.uat import SignOff
from taxiway.domain.values import Release
from taxiway.errors import IntegrityError

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:taxiway:build:v1"


def approval_statement(
    model: str,
    version: int,
    digest: str,
    environment: str,
    approved_by: str,
    at: datetime,
    *,
    lock_digest: str,
) -> dict[str, Json]:
    """Return the statement that lets an environment serve exactly this model with exactly these packages."""
    return {
        "kind": "approval",
        "model": model,
        "version": version,
        "digest": digest,
        "lock_digest": lock_digest,
        "environment": environment,
        "approved_by": approved_by,
        "approved_at": at.isoformat(),
    }


def check_approval(statement: Mapping[str, Any], release: Release, environment: str) -> None:
    """Raise IntegrityError unless the statement (its signature already checked) approves this release for here."""
    expected = {
        "kind": "approval",
        "model": release.model,
        "version": release.version,
        "digest": release.digest,
        "lock_digest": release.lock_digest,
        "environment": environment,
    }
    for name, value in expected.items():
        if name not in statement or statement[name] != value:
            raise IntegrityError(
                f"the approval is for {name} {statement.get(name)!r}, not {value!r}",
                where=f"{release.model} version {release.version} in {environment}",
                next_step="deliver the version again, so that it is approved as it is.",
            )


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """How the candidate was made. Digests are `sha256:<hex>`; `builder` is a URI that names this installation."""

    repository: str
    commit: str
    author: str
    requested_by: str
    data_uri: str
    data_digest: str
    builder: str
    invocation: str
    started_at: datetime
    finished_at: datetime
    params: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PromotionRecord:
    """Why the candidate serves: the evidence, the people, the rollout, and the record before this one.

    `approval` is the statement that was approved; `previous` the digest (`record_digest`) of the model's last signed
    record, None for the first promotion.
    """

    evidence: Sequence[Evidence]
    sign_offs: Sequence[SignOff]
    approval: Mapping[str, Json]
    rollout: Mapping[str, Json]
    promoted_at: datetime
    previous: str | None


def release_record(release: Release, build: BuildRecord, promotion: PromotionRecord) -> dict[str, Json]:
    """Return the in-toto statement of everything behind one promotion."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": f"{release.model}/{release.version}", "digest": _digest_set(release.digest)}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": _build_definition(release, build),
            "runDetails": {
                "builder": {"id": build.builder},
                "metadata": {
                    "invocationId": build.invocation,
                    "startedOn": build.started_at.isoformat(),
                    "finishedOn": build.finished_at.isoformat(),
                },
            },
            "taxiway_release": _release_part(release, promotion),
        },
    }


def record_digest(signed: str) -> str:
    """Return `sha256:<hex>` of a signed record's text, by which the next record names it."""
    return "sha256:" + hashlib.sha256(signed.encode()).hexdigest()


def _build_definition(release: Release, build: BuildRecord) -> dict[str, Json]:
    source = f"git+{build.repository}"
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {"repository": build.repository, "commit": build.commit, "author": build.author},
        "internalParameters": {"requestedBy": build.requested_by, "params": dict(build.params)},
        "resolvedDependencies": [
            {"name": "source", "uri": source, "digest": {"gitCommit": build.commit}},
            {"name": "data", "uri": build.data_uri, "digest": _digest_set(build.data_digest)},
            {"name": "lock", "digest": _digest_set(release.lock_digest)},
        ],
    }


def _release_part(release: Release, promotion: PromotionRecord) -> dict[str, Json]:
    return {
        "model": release.model,
        "version": release.version,
        "evidence": [document.to_json() for document in promotion.evidence],
        "signOffs": [answer.to_json() for answer in promotion.sign_offs],
        "approval": dict(promotion.approval),
        "rollout": dict(promotion.rollout),
        "promotedAt": promotion.promoted_at.isoformat(),
        "previous": promotion.previous,
    }


def _digest_set(digest: str) -> dict[str, Json]:
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}
