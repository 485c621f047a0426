"""Build: one CI run for (commit, data snapshot, environment lock); its environment, and its code as a wheel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taxiway.domain.evidence import Evidence, Json, Verdict
from taxiway.errors import BuildError, ContractError, NotFoundError, PermanentError
from taxiway.ports import BillOfMaterials, Clock, GitHost, Registry
from taxiway.spec import ModelSpec
from taxiway.stages.audit import FAILED, STOPPED, Audit, audit
from taxiway.stages.bill_of_materials import SBOM, components_of
from taxiway.stages.checkout import Checkout, ensure_checkout
from taxiway.stages.digests import directory_digest, file_digest
from taxiway.stages.environments import ModelEnvironment, ensure_environment
from taxiway.stages.evidence_store import evidence_of, record
from taxiway.stages.failures import record_failure
from taxiway.stages.sandbox import CommandLimits
from taxiway.stages.wheel import DIST, build_wheel, check_entry, unpack
from taxiway.stages.workspaces import workspace


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


@dataclass(frozen=True, slots=True)
class BuildTools:
    """What the build stage works with."""

    git: GitHost
    registry: Registry
    bill_of_materials: BillOfMaterials
    cache: Path
    clock: Clock


def build(spec: ModelSpec, of: Build, tools: BuildTools) -> Evidence:
    """Make the environment and its bill of materials, audit them, and build the wheel: that is done only once.

    Raises BuildError or ContractError, which the evidence records too, and IndexUnavailable.
    """
    subject = {"commit": of.sha, "lock": of.lock_digest}
    figures: dict[str, Json] = {}
    started = tools.clock.now()
    try:
        with workspace("build") as directory:
            for done in _steps(spec, of, tools, directory):
                figures |= done
    except (BuildError, ContractError) as error:
        verdict = Verdict.ERROR if figures.get("audit") == STOPPED else Verdict.FAILED
        record(tools.registry, of.run_id, Evidence("build", verdict, started, (error.what,), subject, figures))
        raise
    return record(tools.registry, of.run_id, Evidence("build", Verdict.PASSED, started, (), subject, figures))


def _steps(spec: ModelSpec, of: Build, tools: BuildTools, directory: Path) -> Iterator[dict[str, Json]]:
    """Yield the figures of each step once it is done: nothing of the repository runs before the audit."""
    checkout = checkout_of(spec, of, tools.git, tools.cache)
    environment = ensure_environment(checkout.lock, tools.cache, timeout=spec.limits.build)
    yield {"environment": environment.digest, "reused": environment.reused}
    components, sbom = components_of(environment, checkout.lock), directory / "sbom.cdx.json"
    tools.bill_of_materials.write(components, sbom, name=spec.model, version=environment.digest)
    tools.registry.put_file(of.run_id, SBOM, sbom)
    yield {"components": len(components)}
    limits = limits_for(spec, "build")
    audited = audit(spec, lock=checkout.lock, sbom=sbom, limits=limits, directory=directory)
    yield {"audit": audited.result}
    _check_audit(audited, of)
    if made := _wheel_of_an_earlier_try(of, tools.registry):
        yield made
        return
    wheel = build_wheel(checkout, environment, limits, directory)
    check_entry(checkout, unpack(wheel, directory / "code"))
    tools.registry.put_directory(of.run_id, DIST, wheel.parent)
    yield {"wheel": wheel.name, "wheel_digest": file_digest(wheel)}


def _wheel_of_an_earlier_try(of: Build, registry: Registry) -> dict[str, Json]:
    """Return the figures of the wheel that later stages may have read already; empty when there is none."""
    with suppress(NotFoundError):
        figures = evidence_of(registry, of.run_id, "build").figures
        return {name: figures[name] for name in ("wheel", "wheel_digest") if name in figures}
    return {}


def _check_audit(audited: Audit, of: Build) -> None:
    if audited.result == FAILED:
        raise BuildError(
            f"the audit of the lock failed with {audited.findings}",
            where=of.where,
            next_step="lock versions without these findings, or allow them in the command `build.audit` of the spec.",
        )
    if audited.result == STOPPED:
        raise BuildError(
            f"the audit of the lock was stopped at the limit: {audited.findings}",
            where=of.where,
            next_step="see why it takes so long, or raise limits.build in the model spec; then clear the task.",
        )


def stored_environment(
    spec: ModelSpec, run_id: str, *, registry: Registry, cache: Path, workspace: Path
) -> ModelEnvironment:
    """Return the environment of a version that was built earlier, from the lock stored with it.

    A lock that is in the workspace already, where verified files are, is used as it is.
    """
    lock = workspace / "requirements.txt"
    if not lock.exists():
        registry.get_file(run_id, "taxiway/requirements.txt", lock)
    return ensure_environment(lock, cache, timeout=spec.limits.build)


def limits_for(spec: ModelSpec, command: str) -> CommandLimits:
    """Return the limits of a command of the model repository: `build`, `test`, `train` or `predict`."""
    limits = spec.limits
    return CommandLimits(
        wall=getattr(limits, command),
        cpu=limits.cpu,
        memory_mb=limits.memory_mb,
        processes=limits.processes,
        disk_mb=limits.disk_mb,
        log_kb=limits.log_kb,
    )
