"""Register: the model that passed is signed and becomes a candidate, with its evidence."""

from __future__ import annotations

from taxiway.domain.evidence import Verdict
from taxiway.domain.values import Candidate, Notification
from taxiway.errors import IntegrityError
from taxiway.ports import Notifier, Registry, Signer
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build
from taxiway.stages.candidates import DIGEST, LOCK, REQUESTED_BY, STATE, VERDICT, State
from taxiway.stages.digests import directory_digest
from taxiway.stages.evidence_store import evidence_of
from taxiway.stages.known_builds import BUILD, DATA, RECIPE, build_key, recipe
from taxiway.stages.model_files import SIGNATURE
from taxiway.stages.model_rules import judge_package
from taxiway.stages.workspaces import workspace

RUN = "taxiway.run"


def register(spec: ModelSpec, build: Build, *, registry: Registry, signer: Signer) -> Candidate:
    """Sign the stored model and register it; the same commit, data, lock and params make no second candidate.

    Raises IntegrityError when the stored model is not the one that was trained and evaluated, TrainingError when the
    spec does not allow it (it may have changed since the training), SettingsError when there is no key to sign with.
    """
    gate = evidence_of(registry, build.run_id, "gate")
    key = build_key(spec, build, gate.subject["data"])
    if (existing := registry.find_candidate(spec.model, BUILD, key)) is not None:
        print(f"version {existing.version} is this build already: nothing new to register")  # noqa: T201 (task log)
        return existing
    with workspace("sign") as directory:
        model, signature = directory / "model", directory / "model.sig"
        registry.get_directory(build.run_id, "model", model)
        digest = directory_digest(model)
        if digest != gate.subject["digest"]:
            raise IntegrityError(
                f"the stored model has digest {digest}, but {gate.subject['digest']} was evaluated",
                where=build.where,
                next_step="start the build again; if it repeats, find out who writes to the artifact store.",
            )
        judge_package(spec, model).refuse(build.where)
        signer.sign_directory(model, signature)
        registry.put_file(build.run_id, SIGNATURE, signature)
    snapshot = evidence_of(registry, build.run_id, "snapshot")
    tags = {
        BUILD: key,
        RECIPE: recipe(spec, build),
        RUN: build.run_id,
        DIGEST: digest,
        LOCK: build.lock_digest,
        REQUESTED_BY: build.requested_by,
        VERDICT: gate.verdict.value,
        STATE: State.CANDIDATE.value,
        "taxiway.commit": build.sha,
        "taxiway.author": build.author,
        DATA: gate.subject["data"],
        "taxiway.trained_until": str(snapshot.figures["data_end"]),
        "taxiway.build_reason": build.reason,
    }
    return registry.register(
        spec.model, build.run_id, tags, f"{build.sha[:12]} by {build.author}: {gate.verdict.value}"
    )


def close_build(build: Build, *, registry: Registry, notifier: Notifier) -> None:
    """Close the build's run; a build that made no candidate is failed, and the owners hear of it."""
    succeeded = _gate_passed(build, registry)
    registry.close_build(build.run_id, succeeded=succeeded)
    if not succeeded:
        title = f"{build.model}: the build of {build.sha[:12]} failed"
        text = f"{build.build_id}, asked for by {build.requested_by}; see its tasks in Airflow"
        notifier.notify(Notification(build.model, "build_failed", title, text))


def _gate_passed(build: Build, registry: Registry) -> bool:
    if "taxiway/gate.json" not in registry.list_files(build.run_id, "taxiway"):
        return False
    return evidence_of(registry, build.run_id, "gate").verdict in (Verdict.PASSED, Verdict.INCONCLUSIVE)
