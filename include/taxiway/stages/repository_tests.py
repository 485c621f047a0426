"""Runs the model repository's own checks and tests: their failure stops the build."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.errors import ContractError, TestsFailed, TrainingError
from taxiway.ports import Clock, GitHost, Registry
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build, checkout_of, environment_of, limits_for
from taxiway.stages.checkout import Checkout
from taxiway.stages.environments import ModelEnvironment
from taxiway.stages.evidence_store import record
from taxiway.stages.sandbox import SCRIPTS, Outcome, is_plain, run
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

    def static_checks(self) -> Evidence:
        """Compile every source file and import the train function; raises ContractError."""
        with self._workspace() as (checkout, environment):
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
    def _workspace(self) -> Iterator[tuple[Checkout, ModelEnvironment]]:
        """Yield a copy of the checkout, where the tests may write: later stages read the checkout itself."""
        checkout = checkout_of(self.spec, self.build, self.git, self.cache)
        environment = environment_of(self.spec, self.build, git=self.git, cache=self.cache)
        with workspace("tests") as directory:
            copy = directory / "repository"
            shutil.copytree(checkout.path, copy, symlinks=True)
            yield replace(checkout, path=copy), environment

    def _run(self, command: Sequence[str | Path], checkout: Checkout, *models: Path) -> Outcome:
        extra = {"PYTHONPATH": checkout.python_path, "PYTHONDONTWRITEBYTECODE": "1"}
        return run(command, cwd=checkout.path, limits=limits_for(self.spec, "test"), extra_env=extra, reads=models)

    def _pytest(self, stage: str, tests: str, *models: Path) -> Evidence:
        """Run the tests; with a model, beside the server that answers for it, in the same sandbox."""
        with self._workspace() as (checkout, environment):
            junit = checkout.path / ".taxiway-junit.xml"
            command: list[str | Path] = [environment.python]
            for model in models:
                command += [SCRIPTS / "integration.py", model, environment.python]
            command += ["-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={junit}", tests]
            outcome = self._run(command, checkout, *models)
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
