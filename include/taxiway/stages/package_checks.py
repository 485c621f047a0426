"""Package checks: the packaged model answers as it was trained, in every situation that production has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxiway.domain.evidence import Evidence, Json, Verdict
from taxiway.errors import IntegrityError, PackageRejected
from taxiway.ports import Clock, Registry
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build, limits_for, stored_environment
from taxiway.stages.data import HOLDOUT, stored_frame
from taxiway.stages.digests import directory_digest
from taxiway.stages.evidence_store import evidence_of, record
from taxiway.stages.package_examination import Check, Examination
from taxiway.stages.served_model import serving
from taxiway.stages.train import TRAINED_ANSWERS
from taxiway.stages.workspaces import workspace

PACKAGE_CHECKS = "package_checks"
_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class PackageChecks:
    """Serves and asks one build's model on this machine."""

    spec: ModelSpec
    build: Build
    registry: Registry
    cache: Path
    clock: Clock

    def run(self) -> Evidence:
        """Try everything and record it; raises PackageRejected with every reason.

        Latency and size are only measured here: the gate judges them.
        """
        holdout = stored_frame(self.registry, self.build.run_id, HOLDOUT)
        trained = self.registry.get_json(self.build.run_id, TRAINED_ANSWERS)
        with workspace("package") as directory:
            model = directory / "model"
            self.registry.get_directory(self.build.run_id, "model", model)
            subject = {"commit": self.build.sha, "digest": self._digest(model)}
            python = stored_environment(
                self.spec, self.build.run_id, registry=self.registry, cache=self.cache, workspace=directory
            ).python
            size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
            limits = limits_for(self.spec, "predict")
            with serving(model, python, directory=directory, limits=limits) as served:
                examination = Examination(self.spec, model, served, holdout, trained)
                checks = list(examination.checks())
        figures: dict[str, Json] = {"size_mb": round(size / _MEGABYTE, 3), **examination.figures}
        figures["checks"] = [check.to_json() for check in checks]
        self._log_metrics(figures)
        return self._judged(checks, subject, figures)

    def _digest(self, model: Path) -> str:
        """Return the digest of the files; raises IntegrityError when they are not those that training wrote."""
        digest, trained = directory_digest(model), evidence_of(self.registry, self.build.run_id, "train").subject
        if digest != trained["digest"]:
            raise IntegrityError(
                f"the stored model {digest} is not the one that was trained, {trained['digest']}",
                where=self.build.where,
                next_step="find out who changed the build's files, then build again.",
            )
        return digest

    def _log_metrics(self, figures: dict[str, Any]) -> None:
        names = ("latency_p50_ms", "latency_p99_ms", "size_mb")
        self.registry.log_metrics(self.build.run_id, {name: figures[name] for name in names if name in figures})

    def _judged(self, checks: list[Check], subject: dict[str, str], figures: dict[str, Json]) -> Evidence:
        for check in checks:
            print(f"{check.verdict.value:>12}  {check.name}: {check.reason}")  # noqa: T201 (the log shows every check)
        reasons = tuple(f"{check.name}: {check.reason}" for check in checks if check.verdict is Verdict.FAILED)
        verdict = Verdict.FAILED if reasons else Verdict.PASSED
        evidence = Evidence(PACKAGE_CHECKS, verdict, self.clock.now(), reasons, subject, figures)
        record(self.registry, self.build.run_id, evidence)
        if reasons:
            raise PackageRejected(
                "; ".join(reasons),
                where=self.build.where,
                next_step="serve the saved model without its repository, ask it the same, correct it and push again.",
            )
        return evidence
