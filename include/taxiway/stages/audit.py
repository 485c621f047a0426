"""The platform's own command that looks for known vulnerabilities in a model's environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from taxiway.spec import ModelSpec
from taxiway.stages.sandbox import CommandLimits, network_environment, run

NOT_CONFIGURED, PASSED, FAILED, STOPPED = "not configured", "passed", "failed", "stopped"
_SHOWN_LINES = 15


@dataclass(frozen=True, slots=True)
class Audit:
    """How the audit ended: not configured, passed, failed (with its findings), or stopped (at which limit)."""

    result: str
    findings: str = ""


def audit(spec: ModelSpec, *, lock: Path, sbom: Path, limits: CommandLimits, directory: Path) -> Audit:
    """Run `build.audit` of the spec in the directory, with the network, and with no secret of Taxiway."""
    if not spec.build.audit:
        return Audit(NOT_CONFIGURED)
    command = [word.replace("{lock}", str(lock)).replace("{sbom}", str(sbom)) for word in spec.build.audit]
    outcome = run(command, cwd=directory, limits=limits, extra_env=network_environment(), confined=False)
    print(outcome.output)  # noqa: T201 (its report belongs into the task's log)
    if outcome.limit:
        return Audit(STOPPED, outcome.limit)
    ending = "\n".join(outcome.output.strip().splitlines()[-_SHOWN_LINES:])
    return Audit(PASSED) if outcome.succeeded else Audit(FAILED, f"exit code {outcome.exit_code}: {ending}")
