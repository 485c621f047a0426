"""Runs the model repository's own checks and tests: their failure stops the build."""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.errors import ContractError, TestsFailed
from taxiway.ports import Clock, GitHost, Registry
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build, checkout_of, environment_of, limits_for
from taxiway.stages.checkout import Checkout
from taxiway.stages.environments import ModelEnvironment
from taxiway.stages.evidence_store import record
from taxiway.stages.sandbox import Outcome, run
from taxiway.stages.scorer import serving

_NO_TESTS_COLLECTED = 5
_SHOWN_FAILURES = 5


@dataclass(frozen=True, slots=True)
class RepositoryTests:
    """Runs one build's tests on this machine."""

    spec: ModelSpec
    build: Build
    git: GitHost
    registry: Registry
    cache: Path
    clock: Clock

    def static_checks(self) -> Evidence:
        """Compile every source file and import the train function; raises ContractError."""
        checkout, environment = self._prepared()
        module, function = checkout.entry.split(":")
        script = f"import importlib; assert callable(getattr(importlib.import_module({module!r}), {function!r}))"
        commands: dict[str, list[str | Path]] = {
            "compile": [environment.python, "-m", "compileall", "-q", checkout.path],
            "import": [environment.python, "-c", script],
        }
        for name, command in commands.items():
            outcome = self._run(command, checkout)
            if not outcome.succeeded:
                raise ContractError(
                    f"static check {name!r} failed: {_ending(outcome)}",
                    where=self.build.where,
                    next_step="correct the code and push again.",
                )
        return self._record("static_checks", Verdict.PASSED, (), {"checks": list(commands)})

    def unit_tests(self) -> Evidence:
        """Run `tests/unit`; raises TestsFailed with the names of the failed tests."""
        return self._pytest("unit_tests", "tests/unit", {})

    def integration_tests(self) -> Evidence:
        """Serve the packaged model and run `tests/integration` with MODEL_URL; raises TestsFailed."""
        _, environment = self._prepared()
        with tempfile.TemporaryDirectory(prefix="taxiway-model-") as directory:
            model = Path(directory) / "model"
            self.registry.get_directory(self.build.run_id, "model", model)
            with serving(environment.python, model, limits_for(self.spec, "test")) as url:
                return self._pytest("integration_tests", "tests/integration", {"MODEL_URL": url})

    def _prepared(self) -> tuple[Checkout, ModelEnvironment]:
        checkout = checkout_of(self.spec, self.build, self.git, self.cache)
        return checkout, environment_of(self.spec, self.build, git=self.git, cache=self.cache)

    def _run(self, command: Sequence[str | Path], checkout: Checkout, env: Mapping[str, str] | None = None) -> Outcome:
        extra = {"PYTHONPATH": checkout.python_path, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
        return run(command, cwd=checkout.path, limits=limits_for(self.spec, "test"), extra_env=extra)

    def _pytest(self, stage: str, tests: str, env: Mapping[str, str]) -> Evidence:
        checkout, environment = self._prepared()
        with tempfile.TemporaryDirectory(prefix="taxiway-junit-") as directory:
            junit = Path(directory) / "junit.xml"
            command: list[str | Path] = [
                environment.python,
                "-m",
                "pytest",
                "-p",
                "no:cacheprovider",
                f"--junitxml={junit}",
                tests,
            ]
            outcome = self._run(command, checkout, env)
            counts, failures = _read_junit(junit)
            if junit.exists():
                self.registry.put_file(self.build.run_id, f"taxiway/{stage}.xml", junit)
        print(outcome.output)  # noqa: T201 (the tests' own output belongs into the task's log)
        reasons = _reasons(outcome, counts, failures)
        verdict = Verdict.FAILED if reasons else Verdict.PASSED
        evidence = self._record(stage, verdict, reasons, {**counts, "seconds": round(outcome.seconds, 2)})
        if reasons:
            raise TestsFailed(
                "; ".join(reasons),
                where=f"{self.build.where}, {tests}",
                next_step=f"run `pytest {tests}` in the model repository, correct it and push again.",
            )
        return evidence

    def _record(
        self, stage: str, verdict: Verdict, reasons: tuple[str, ...], figures: Mapping[str, object]
    ) -> Evidence:
        subject = {"commit": self.build.sha, "lock": self.build.lock_digest}
        evidence = Evidence(stage, verdict, self.clock.now(), reasons, subject, figures)  # type: ignore[arg-type]
        return record(self.registry, self.build.run_id, evidence)


def _read_junit(path: Path) -> tuple[dict[str, int], list[str]]:
    """Return the counts (tests, failures, errors, skipped) and the names of the tests that failed."""
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    failed: list[str] = []
    if not path.exists():
        return counts, failed
    for suite in ET.parse(path).getroot().iter("testsuite"):  # noqa: S314 (see the import)
        for name in counts:
            counts[name] += int(suite.get(name, "0"))
        for case in suite.iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                failed.append(f"{case.get('classname', '')}::{case.get('name', '')}".strip(":"))
    return counts, failed


def _reasons(outcome: Outcome, counts: Mapping[str, int], failed: list[str]) -> tuple[str, ...]:
    if outcome.limit:
        return (f"the tests were stopped at the limit: {outcome.limit}",)
    if failed:
        shown = ", ".join(failed[:_SHOWN_FAILURES])
        more = f" and {len(failed) - _SHOWN_FAILURES} more" if len(failed) > _SHOWN_FAILURES else ""
        return (f"{len(failed)} of {counts['tests']} tests failed: {shown}{more}",)
    if outcome.exit_code == _NO_TESTS_COLLECTED:
        return ("there are no tests",)
    if outcome.exit_code != 0:
        return (f"pytest ended with exit code {outcome.exit_code}: {_ending(outcome)}",)
    return ()


def _ending(outcome: Outcome) -> str:
    """Return why a command failed: the limit it met, or its last lines."""
    return outcome.limit or " | ".join(outcome.output.strip().splitlines()[-3:])
