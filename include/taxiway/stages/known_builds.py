"""Known builds: what was built before is not built again, and the run says which version it would repeat."""

from __future__ import annotations

import hashlib
import json

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.domain.values import Candidate
from taxiway.errors import DataError
from taxiway.ports import Clock, DataSource, Registry
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build
from taxiway.stages.candidates import state_of
from taxiway.stages.data import snapshot_data
from taxiway.stages.evidence_store import record

BUILD, RECIPE, DATA = "taxiway.build", "taxiway.recipe", "taxiway.data"
COMMIT = "commit"
"""The reason of a build that a push asked for."""


def build_key(spec: ModelSpec, build: Build, data_digest: str) -> str:
    """Return what makes two builds the same: commit, data, and the recipe (which has lock and params)."""
    return hashlib.sha256("\n".join((build.sha, data_digest, recipe(spec, build))).encode()).hexdigest()[:16]


def recipe(spec: ModelSpec, build: Build) -> str:
    """Return the digest of all that makes a model out of data: code, lock, and what the spec says of both."""
    asked = spec.model_dump(mode="json", include={"model": True, "task": True, "params": True, "data": {"features"}})
    document = json.dumps([asked, build.source_digest, build.lock_digest], sort_keys=True)
    return "sha256:" + hashlib.sha256(document.encode()).hexdigest()


def known_candidate(
    spec: ModelSpec, build: Build, *, data: DataSource, registry: Registry, clock: Clock
) -> Candidate | None:
    """Return the version that this build could only repeat, and close the build; otherwise None.

    A push repeats the newest version when it changes nothing that a build reads: new data alone is what retraining
    decides about. Any other build repeats the version of the same commit, recipe and data.
    """
    if build.reason == COMMIT:
        found = _same_recipe(spec, build, registry)
    else:
        found = _same_data(spec, build, data=data, registry=registry, clock=clock)
    if found is None or found.run_id == build.run_id:
        return None
    reason = f"nothing to deliver: version {found.version} ({state_of(found).value}) was made from the same "
    reason += "code" if build.reason == COMMIT else "code and data"
    subject = {"commit": build.sha, "version": str(found.version)}
    record(registry, build.run_id, Evidence("known_build", Verdict.PASSED, clock.now(), (reason,), subject))
    registry.close_build(build.run_id, succeeded=True)
    print(reason)  # noqa: T201 (task log)
    return found


def _same_recipe(spec: ModelSpec, build: Build, registry: Registry) -> Candidate | None:
    """Return the newest version when a push repeats its recipe; an older one is no repetition: going back is news."""
    newest = next(iter(registry.candidates(spec.model)), None)
    return newest if newest is not None and newest.tags.get(RECIPE) == recipe(spec, build) else None


def _same_data(
    spec: ModelSpec, build: Build, *, data: DataSource, registry: Registry, clock: Clock
) -> Candidate | None:
    """Return the version of the same commit, recipe and data; the snapshot is only taken when the commit is known."""
    if registry.find_candidate(spec.model, "taxiway.commit", build.sha) is None:
        return None
    try:
        snapshot = snapshot_data(spec, build, data=data, registry=registry, clock=clock)
    except DataError:
        return None  # the stage that takes the snapshot says what is wrong with it
    return registry.find_candidate(spec.model, BUILD, build_key(spec, build, snapshot.subject["data"]))
