"""Runs the model repository's own tests on the build's wheel: their failure stops the build."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.errors import TestsFailed, TrainingError
from taxiway.ports import Clock, GitHost, Registry
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build, checkout_of, environment_of, limits_for
from taxiway.stages.environments import ModelEnvironment
from taxiway.stages.evidence_store import record
from taxiway.stages.sandbox import SCRIPTS, Outcome, is_plain, run
from taxiway.stages.wheel import Packaged, code_of, without_code
from taxiway.stages.workspaces import workspace

_NO_TESTS_COLLECTED = 5
_DOES_NOT_LOAD = 71  # of sandbox/integration.py
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

    def unit_tests(self) -> Evidence:
        """Run `tests/unit`; raises TestsFailed with the names of the failed tests."""
        return self._pytest("unit_tests", "tests/unit")

    def integration_tests(self) -> Evidence:
        """Serve the packaged model and run `tests/integration` with MODEL_URL.

        Raises TestsFailed, and TrainingError when the model cannot be loaded.
        """
        with workspace("model") as directory:
            model = directory / "model"
            self.registry.get_directory(self.build.run_id, "model", model)
            return self._pytest("integration_tests", "tests/integration", model)

    @contextmanager
    def _workspace(self) -> Iterator[tuple[Packaged, ModelEnvironment]]:
        """Yield the wheel's code and a copy of the rest of the checkout, where the tests may write."""
        checkout = checkout_of(self.spec, self.build, self.git, self.cache)
        environment = environment_of(self.spec, self.build, git=self.git, cache=self.cache)
        with workspace("tests") as directory:
            code = code_of(self.build.run_id, self.registry, directory)
            yield without_code(checkout, code, directory / "repository"), environment

    def _run(self, command: Sequence[str | Path], packaged: Packaged, *models: Path) -> Outcome:
        extra = {"PYTHONPATH": packaged.python_path, "PYTHONDONTWRITEBYTECODE": "1"}
        reads = (packaged.code, *models)
        return run(command, cwd=packaged.path, limits=limits_for(self.spec, "test"), extra_env=extra, reads=reads)

    def _pytest(self, stage: str, tests: str, *models: Path) -> Evidence:
        """Run the tests; with a model, beside the server that answers for it, in the same sandbox."""
        with self._workspace() as (packaged, environment):
            junit = packaged.path / ".taxiway-junit.xml"
            command: list[str | Path] = [environment.python]
            for model in models:
                command += [SCRIPTS / "integration.py", model, environment.python]
            command += ["-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={junit}", tests]
            outcome = self._run(command, packaged, *models)
            counts, failures = _read_junit(junit)
            if is_plain(junit):
                self.registry.put_file(self.build.run_id, f"taxiway/{stage}.xml", junit)
        print(outcome.output)  # noqa: T201 (the tests' own output belongs into the task's log)
        if models and outcome.exit_code == _DOES_NOT_LOAD:
            raise TrainingError(
                f"the packaged model does not load: {_ending(outcome)}",
                where=self.build.where,
                next_step="load it with mlflow.pyfunc.load_model in an environment made from the lock.",
            )
        return self._judged(stage, tests, outcome, _reasons(outcome, counts, failures), counts)

    def _judged(
        self, stage: str, tests: str, outcome: Outcome, reasons: tuple[str, ...], counts: Mapping[str, int]
    ) -> Evidence:
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
    if not is_plain(path):
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
