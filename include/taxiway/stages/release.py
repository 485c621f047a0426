"""The release record: the signed statement of everything behind one promotion, chained to the one before it."""

from __future__ import annotations

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.domain.release import BuildRecord, PromotionRecord, record_digest, release_record
from taxiway.domain.values import Candidate, Notification
from taxiway.errors import NotFoundError
from taxiway.ports import Clock, Notifier, Registry, Signer
from taxiway.spec import ModelSpec
from taxiway.stages.aliases import alias_history
from taxiway.stages.candidates import APPROVAL, DELIVERED, REQUESTED_BY, State, release_of, state_of
from taxiway.stages.evidence_store import evidence_of, record
from taxiway.stages.uat import sign_offs
from taxiway.stages.workspaces import workspace

RECORD = "taxiway/release.signed.json"
STAGES = (
    "build", "static_checks", "unit_tests", "snapshot", "check_data", "data_tests", "train", "integration_tests",
    "package_checks", "evaluation", "gate", "staging_checks", "uat", "approval", "rollout", "production_checks",
)  # fmt: skip
"""The stages whose evidence belongs into the record."""
_RELEASED = DELIVERED | {State.ROLLED_BACK}


def record_release(
    spec: ModelSpec, version: int, *, registry: Registry, signer: Signer, clock: Clock, notifier: Notifier
) -> Evidence:
    """Write and sign the record of the version that was just promoted, and tell the owners.

    A version has one record: when this is repeated, for example because the owners could not be told, it stays.
    """
    candidate = registry.candidate(spec.model, version)
    done = _recorded(candidate, registry) or _sign(spec, candidate, registry=registry, signer=signer, clock=clock)
    title = f"{spec.model} version {version} is in production"
    notifier.notify(Notification(spec.model, "released", title, done.reasons[0]))
    return done


def _sign(spec: ModelSpec, candidate: Candidate, *, registry: Registry, signer: Signer, clock: Clock) -> Evidence:
    evidence = [evidence_of(registry, candidate.run_id, stage) for stage in STAGES]
    approval = evidence_of(registry, candidate.run_id, "approval").figures
    promotion = PromotionRecord(
        evidence=evidence,
        sign_offs=sign_offs(candidate),
        approval=approval,
        rollout={
            "history": evidence[STAGES.index("rollout")].figures["history"],
            "aliases": list(alias_history(registry, candidate)),
        },
        promoted_at=clock.now(),
        previous=_last_record(spec.model, registry),
    )
    release = release_of(spec, candidate, candidate.tags[APPROVAL])
    signed = signer.sign_statement(release_record(release, _build_record(spec, candidate, evidence), promotion))
    with workspace("release") as directory:
        path = directory / "release.signed.json"
        path.write_text(signed)
        registry.put_file(candidate.run_id, RECORD, path)
    subject = {"version": str(candidate.version), "record": record_digest(signed)}
    done = Evidence("release", Verdict.PASSED, clock.now(), (f"approved by {approval['approved_by']}",), subject)
    return record(registry, candidate.run_id, done)


def _build_record(spec: ModelSpec, candidate: Candidate, evidence: list[Evidence]) -> BuildRecord:
    return BuildRecord(
        repository=spec.repository.url,
        commit=candidate.tags["taxiway.commit"],
        author=candidate.tags["taxiway.author"],
        requested_by=candidate.tags[REQUESTED_BY],
        data_uri=spec.data.uri,
        data_digest=candidate.tags["taxiway.data"],
        builder="urn:taxiway:airflow",
        invocation=candidate.run_id,
        started_at=evidence[STAGES.index("build")].at,
        finished_at=evidence[STAGES.index("gate")].at,
        params=dict(spec.params),
    )


def _last_record(model: str, registry: Registry) -> str | None:
    """Return the digest of the model's last record, None before the first; a promotion without one is passed over."""
    released = (found for found in registry.candidates(model) if state_of(found) in _RELEASED)
    records = [done for found in released if (done := _recorded(found, registry))]
    return str(max(records, key=lambda done: done.at).subject["record"]) if records else None


def _recorded(candidate: Candidate, registry: Registry) -> Evidence | None:
    """Return what is kept of the version's record, None when it has none."""
    try:
        return evidence_of(registry, candidate.run_id, "release")
    except NotFoundError:
        return None
