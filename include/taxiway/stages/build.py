"""Build: one CI run for (commit, data snapshot, environment lock), and the environment it runs in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taxiway.domain.evidence import Evidence, Json, Verdict
from taxiway.errors import PermanentError
from taxiway.ports import Clock, GitHost, Registry
from taxiway.spec import ModelSpec
from taxiway.stages.checkout import Checkout, ensure_checkout
from taxiway.stages.digests import directory_digest, file_digest
from taxiway.stages.environments import ModelEnvironment, ensure_environment
from taxiway.stages.evidence_store import record
from taxiway.stages.failures import record_failure
from taxiway.stages.sandbox import CommandLimits


@dataclass(frozen=True, slots=True)
class Build:
    """What every stage of one CI run refers to; small enough to travel between tasks as JSON.

    `run_id` is the MLflow run that collects files and evidence. `source_digest` is that of the commit's files which
    a build reads. `data_end` is ISO 8601, or None for the newest data.
    """

    model: str
    build_id: str
    run_id: str
    sha: str
    author: str
    source_digest: str
    lock_digest: str
    reason: str
    requested_by: str
    data_end: str | None = None

    def to_json(self) -> dict[str, Json]:
        """Return the build as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Build:
        """Read what `to_json` wrote."""
        return cls(**document)

    @property
    def where(self) -> str:
        """Name the build in messages."""
        return f"{self.model} at {self.sha[:12]}"


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks for a build, of what, and why."""

    build_id: str
    ref: str | None
    data_end: str | None
    reason: str
    requested_by: str | None


def open_build(
    spec: ModelSpec, request: Request, *, git: GitHost, registry: Registry, cache: Path, clock: Clock
) -> Build:
    """Resolve the commit, check the repository's contract and open the build's run; repeatable.

    The requester is who asked by hand, else the commit's author: the one whose approval four eyes do not count.
    A commit that cannot be built has a run too, with what is wrong; the error is raised all the same.
    """
    try:
        sha = git.resolve(spec.repository.url, request.ref or spec.repository.branch)
        checkout = ensure_checkout(git, spec.repository.url, sha, cache)
    except PermanentError as error:
        refused = {"taxiway.reason": request.reason, "taxiway.ref": request.ref or spec.repository.branch}
        run_id = registry.open_build(spec.model, request.build_id, refused)
        record_failure(registry, run_id, "checkout", error, clock)
        registry.close_build(run_id, succeeded=False)
        raise
    lock_digest = file_digest(checkout.lock)
    tags = {
        "taxiway.commit": sha,
        "taxiway.author": checkout.commit.author,
        "taxiway.message": checkout.commit.message[:500],
        "taxiway.lock": lock_digest,
        "taxiway.reason": request.reason,
    }
    run_id = registry.open_build(spec.model, request.build_id, tags)
    registry.put_file(run_id, "taxiway/requirements.txt", checkout.lock)
    return Build(
        model=spec.model,
        build_id=request.build_id,
        run_id=run_id,
        sha=sha,
        author=checkout.commit.author,
        source_digest=directory_digest(checkout.path, leave_out=spec.repository.ignore),
        lock_digest=lock_digest,
        reason=request.reason,
        requested_by=request.requested_by or checkout.commit.author,
        data_end=request.data_end,
    )


def checkout_of(spec: ModelSpec, build: Build, git: GitHost, cache: Path) -> Checkout:
    """Return the build's files on this machine."""
    return ensure_checkout(git, spec.repository.url, build.sha, cache)


def environment_of(spec: ModelSpec, build: Build, *, git: GitHost, cache: Path) -> ModelEnvironment:
    """Return the build's environment on this machine, made when it is not there; raises BuildError."""
    checkout = checkout_of(spec, build, git, cache)
    return ensure_environment(checkout.lock, cache, timeout=spec.limits.build)


def build_environment(
    spec: ModelSpec, build: Build, *, git: GitHost, registry: Registry, cache: Path, clock: Clock
) -> Evidence:
    """Make the environment and record that the lock can be installed; raises BuildError."""
    environment = environment_of(spec, build, git=git, cache=cache)
    subject = {"commit": build.sha, "lock": environment.digest}
    return record(registry, build.run_id, Evidence("build", Verdict.PASSED, clock.now(), subject=subject))


def stored_environment(
    spec: ModelSpec, run_id: str, *, registry: Registry, cache: Path, workspace: Path
) -> ModelEnvironment:
    """Return the environment of a version that was built earlier, from the lock stored with it."""
    lock = workspace / "requirements.txt"
    registry.get_file(run_id, "taxiway/requirements.txt", lock)
    return ensure_environment(lock, cache, timeout=spec.limits.build)


def limits_for(spec: ModelSpec, command: str) -> CommandLimits:
    """Return the limits of a command of the model repository: `test`, `train` or `predict`."""
    limits = spec.limits
    return CommandLimits(
        wall=getattr(limits, command),
        cpu=limits.cpu,
        memory_mb=limits.memory_mb,
        processes=limits.processes,
        disk_mb=limits.disk_mb,
        log_kb=limits.log_kb,
    )
