"""Static checks: what can be said about a build's code before any of it is tested.

Every source file compiles, every import is of something that lock or repository provides, every packaged module can be
imported, and the train function is there. Sources are parsed, and modules imported, in the sandbox, in two commands:
code that runs while it is imported has no hand in what is said about the sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from taxiway.domain.evidence import Evidence, Json, Verdict
from taxiway.errors import ContractError
from taxiway.ports import Clock, GitHost, Registry
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build, checkout_of, environment_of, limits_for
from taxiway.stages.evidence_store import record
from taxiway.stages.sandbox import SCRIPTS, is_plain, run
from taxiway.stages.wheel import code_of
from taxiway.stages.workspaces import workspace

_LARGEST_REPORT = 200_000  # bytes
_SHOWN = 20
_SCRIPT = SCRIPTS / "static.py"

_Text = Annotated[str, Field(max_length=1000)]
_Count = Annotated[int, Field(ge=0)]


class _Finding(BaseModel):
    """One thing that is wrong, as the script says it."""

    model_config = ConfigDict(extra="forbid", strict=True)
    file: _Text
    line: _Count
    problem: _Text

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return "".join(letter if letter.isprintable() else " " for letter in f"{place} {self.problem}")


class _Report(BaseModel):
    """What the script writes: how much it looked at, and what is wrong."""

    model_config = ConfigDict(extra="forbid", strict=True)
    checked: _Count
    findings: Annotated[list[_Finding], Field(max_length=50)]
    more: _Count

    @property
    def reasons(self) -> tuple[str, ...]:
        """The findings as sentences; the first of many."""
        left_out = len(self.findings[_SHOWN:]) + self.more
        shown = tuple(str(finding) for finding in self.findings[:_SHOWN])
        return (*shown, f"and {left_out} more") if left_out else shown


@dataclass(frozen=True, slots=True)
class StaticChecks:
    """Checks one build's code on this machine."""

    spec: ModelSpec
    build: Build
    git: GitHost
    registry: Registry
    cache: Path
    clock: Clock

    def run(self) -> Evidence:
        """Check sources, then imports; raises ContractError with the findings, which the evidence has too."""
        checkout = checkout_of(self.spec, self.build, self.git, self.cache)
        environment = environment_of(self.spec, self.build, git=self.git, cache=self.cache)
        figures: dict[str, Json] = {}
        with workspace("static") as directory:
            code = code_of(self.build.run_id, self.registry, directory)
            commands: dict[str, list[str | Path]] = {
                "files": [environment.python, "-I", _SCRIPT, "sources", checkout.path, code],
                "modules": [environment.python, _SCRIPT, "imports", checkout.path, code, checkout.entry],
            }
            for name, command in commands.items():
                found = self._run(command, directory / name, checkout.path, code)
                figures[name] = found.checked
                if found.reasons:
                    self._fail(found.reasons, figures)
        return self._record(Verdict.PASSED, (), figures)

    def _run(self, command: list[str | Path], directory: Path, checkout: Path, code: Path) -> _Report:
        """Run the script in an empty directory and return its report; what is no report is one with a reason."""
        directory.mkdir()
        report = directory / "report.json"
        outcome = run(
            [*command, report],
            cwd=directory,
            limits=limits_for(self.spec, "test"),
            extra_env={"PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"},
            reads=(checkout, code),
        )
        if outcome.output:
            print(outcome.output)  # noqa: T201 (what modules print while they are imported belongs into the task's log)
        if outcome.succeeded and is_plain(directory) and report.exists() and report.stat().st_size <= _LARGEST_REPORT:
            with suppress(ValidationError):
                return _Report.model_validate_json(report.read_bytes())
        ending = outcome.limit or " | ".join(outcome.output.strip().splitlines()[-3:]) or "it ended without a report"
        unfinished = _Finding(file=f"the check of {directory.name}", line=0, problem=f"did not finish: {ending}"[:1000])
        return _Report(checked=0, findings=[unfinished], more=0)

    def _fail(self, reasons: tuple[str, ...], figures: Mapping[str, Json]) -> NoReturn:
        self._record(Verdict.FAILED, reasons, figures)
        raise ContractError(
            f"static checks failed: {'; '.join(reasons)}",
            where=self.build.where,
            next_step="correct the code, or lock what it imports, and push again.",
        )

    def _record(self, verdict: Verdict, reasons: tuple[str, ...], figures: Mapping[str, Json]) -> Evidence:
        subject = {"commit": self.build.sha, "lock": self.build.lock_digest}
        evidence = Evidence("static_checks", verdict, self.clock.now(), reasons, subject, figures)
        return record(self.registry, self.build.run_id, evidence)
