"""The release record: the signed statement of everything behind one promotion, chained to the one before it."""

from __future__ import annotations

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.domain.release import BuildRecord, PromotionRecord, record_digest, release_record
from taxiway.domain.values import PREVIOUS, Candidate, Notification
from taxiway.ports import Clock, Notifier, Registry, Signer
from taxiway.spec import ModelSpec
from taxiway.stages.aliases import alias_history
from taxiway.stages.candidates import APPROVAL, REQUESTED_BY, release_of
from taxiway.stages.evidence_store import evidence_of, record
from taxiway.stages.uat import sign_offs
from taxiway.stages.workspaces import workspace

RECORD = "taxiway/release.signed.json"
STAGES = (
    "build", "static_checks", "unit_tests", "snapshot", "check_data", "data_tests", "train", "integration_tests",
    "package_checks", "evaluation", "gate", "staging_checks", "uat", "approval", "rollout", "production_checks",
)  # fmt: skip
"""The stages whose evidence belongs into the record."""


def record_release(
    spec: ModelSpec, version: int, *, registry: Registry, signer: Signer, clock: Clock, notifier: Notifier
) -> Evidence:
    """Write and sign the record of the version that was just promoted, and tell the owners."""
    candidate = registry.candidate(spec.model, version)
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
        previous=_previous_record(spec.model, version, registry),
    )
    release = release_of(spec, candidate, candidate.tags[APPROVAL])
    signed = signer.sign_statement(release_record(release, _build_record(spec, candidate, evidence), promotion))
    with workspace("release") as directory:
        path = directory / "release.signed.json"
        path.write_text(signed)
        registry.put_file(candidate.run_id, RECORD, path)
    subject = {"version": str(version), "record": record_digest(signed)}
    done = Evidence("release", Verdict.PASSED, clock.now(), (f"approved by {approval['approved_by']}",), subject)
    title = f"{spec.model} version {version} is in production"
    notifier.notify(Notification(spec.model, "released", title, f"approved by {approval['approved_by']}"))
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


def _previous_record(model: str, version: int, registry: Registry) -> str | None:
    """Return the digest of the record before this one, None for the first promotion."""
    previous = registry.by_alias(model, PREVIOUS)
    if previous is None or previous.version == version:
        return None
    document = registry.get_json(previous.run_id, "taxiway/release.json")
    return str(document["subject"]["record"])
