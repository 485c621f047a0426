"""Runs the model repository's own tests on the build's wheel: their failure stops the build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from taxiway.domain.evidence import Evidence, Json, Verdict
from taxiway.errors import TestsFailed, TrainingError
from taxiway.ports import Clock, GitHost, Registry
from taxiway.spec import ModelSpec
from taxiway.stages import junit
from taxiway.stages.build import Build, checkout_of, environment_of, limits_for
from taxiway.stages.code_coverage import Coverage
from taxiway.stages.environments import ModelEnvironment
from taxiway.stages.evidence_store import record
from taxiway.stages.junit import TestResult
from taxiway.stages.lock_file import LOCK
from taxiway.stages.sandbox import SCRIPTS, Outcome, run
from taxiway.stages.untrusted_files import content
from taxiway.stages.wheel import Packaged, code_of, without_code
from taxiway.stages.workspaces import workspace

_NO_TESTS_COLLECTED = 5
_DOES_NOT_LOAD = 71  # of sandbox/integration.py
_FOLDERS = {"unit_tests": "tests/unit", "integration_tests": "tests/integration"}
_SHOWN_FAILURES = 5
_LISTED_TESTS = 500
_LARGEST_REPORT = 16 * 1024 * 1024


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
        """Run `tests/unit`, with coverage when the lock has it.

        Raises TestsFailed with the names of the failed tests, or when `tests.min_coverage` is not shown to be reached.
        """
        with self._workspace() as (packaged, environment):
            coverage = Coverage.of(packaged)
            recording = [] if coverage is None else coverage.recording()
            reads = () if coverage is None else (coverage.settings,)
            tested = self._pytest("unit_tests", packaged, [environment.python, *recording], *reads)
            covered = self._covered(coverage, packaged, environment)
        return self._judged("unit_tests", tested + covered)

    def integration_tests(self) -> Evidence:
        """Serve the packaged model and run `tests/integration` with MODEL_URL, in the same sandbox.

        Raises TestsFailed, and TrainingError when the model cannot be loaded.
        """
        with workspace("model") as directory, self._workspace() as (packaged, environment):
            model = directory / "model"
            self.registry.get_directory(self.build.run_id, "model", model)
            beside = [environment.python, SCRIPTS / "integration.py", model, environment.python]
            tested = self._pytest("integration_tests", packaged, beside, model)
        if tested.exit_code == _DOES_NOT_LOAD:
            raise TrainingError(
                f"the packaged model does not load: {'; '.join(tested.reasons)}",
                where=self.build.where,
                next_step="load it with mlflow.pyfunc.load_model in an environment made from the lock.",
            )
        return self._judged("integration_tests", tested)

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

    def _pytest(self, stage: str, packaged: Packaged, python: Sequence[str | Path], *reads: Path) -> _Tested:
        """Run the stage's tests and store their report; the log has each test, whatever the repository's settings."""
        report = packaged.path / ".taxiway-junit.xml"
        command = [*python, "-m", "pytest", "-p", "no:cacheprovider", "--verbosity=1", f"--junitxml={report}"]
        outcome = self._run([*command, _FOLDERS[stage]], packaged, *reads)
        print(outcome.output)  # noqa: T201 (the tests' own output belongs into the task's log)
        results, problem = [], None
        try:
            results = junit.read(content(report, most_bytes=_LARGEST_REPORT))
            self.registry.put_file(self.build.run_id, f"taxiway/{stage}.xml", report)
        except ValueError as error:
            problem = f"the report of the tests cannot be read: {error}"
        figures = {**junit.counts(results), "seconds": round(outcome.seconds, 2), **_listed(results)}
        return _Tested(_reasons(outcome, results, problem), figures, outcome.exit_code)

    def _covered(self, coverage: Coverage | None, packaged: Packaged, environment: ModelEnvironment) -> _Tested:
        """Store and judge the coverage of the tests that have just run."""
        least = self.spec.tests.min_coverage
        wanted: dict[str, Json] = {} if least is None else {"min_coverage": least}
        if coverage is None:
            missing = f"tests.min_coverage is {least}, but {LOCK} does not pin `coverage`"
            return _Tested(() if least is None else (missing,), wanted)
        outcome = self._run([environment.python, *coverage.reporting()], packaged, coverage.settings)
        try:
            share = coverage.share()
            self.registry.put_file(self.build.run_id, "taxiway/coverage.xml", coverage.report)
        except ValueError as error:
            problem = f"the coverage cannot be read: {error} ({_ending(outcome)})"
            return _Tested(() if least is None else (problem,), {"line_coverage": None, **wanted})
        low = least is not None and share < least
        reasons = (f"the tests run {share:.1%} of the lines, tests.min_coverage is {least}",) if low else ()
        return _Tested(reasons, {"line_coverage": round(share, 4), **wanted})

    def _judged(self, stage: str, tested: _Tested) -> Evidence:
        verdict = Verdict.FAILED if tested.reasons else Verdict.PASSED
        evidence = self._record(stage, verdict, tested.reasons, tested.figures)
        if tested.reasons:
            tests = _FOLDERS[stage]
            raise TestsFailed(
                "; ".join(tested.reasons),
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


@dataclass(frozen=True, slots=True)
class _Tested:
    """What a command showed: why it is not good enough, and its figures."""

    reasons: tuple[str, ...]
    figures: Mapping[str, Json]
    exit_code: int = 0

    def __add__(self, other: _Tested) -> _Tested:
        return _Tested(self.reasons + other.reasons, {**self.figures, **other.figures}, self.exit_code)


def _listed(results: Sequence[TestResult]) -> dict[str, Json]:
    """Return each test, what went wrong first; of very many the rest is only counted."""
    ordered = sorted(results, key=lambda test: test.outcome in junit.GOOD)
    listed: list[Json] = [test.to_json() for test in ordered[:_LISTED_TESTS]]
    return {"results": listed, "left_out": max(0, len(results) - _LISTED_TESTS)}


def _reasons(outcome: Outcome, results: Sequence[TestResult], problem: str | None) -> tuple[str, ...]:
    failed = [test.name for test in results if test.outcome not in junit.GOOD]
    if outcome.limit:
        return (f"the tests were stopped at the limit: {outcome.limit}",)
    if failed:
        shown = ", ".join(failed[:_SHOWN_FAILURES])
        more = f" and {len(failed) - _SHOWN_FAILURES} more" if len(failed) > _SHOWN_FAILURES else ""
        return (f"{len(failed)} of {len(results)} tests failed: {shown}{more}",)
    if outcome.exit_code == _NO_TESTS_COLLECTED:
        return ("there are no tests",)
    if outcome.exit_code != 0:
        return (f"pytest ended with exit code {outcome.exit_code}: {_ending(outcome)}",)
    if problem is None and not results:
        return ("there are no tests",)
    return () if problem is None else (problem,)


def _ending(outcome: Outcome) -> str:
    """Return why a command failed: the limit it met, or its last lines."""
    return outcome.limit or " | ".join(outcome.output.strip().splitlines()[-3:])
