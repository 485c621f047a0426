"""A model repository's own tests: what becomes evidence, what stops the build, and what cannot hurt."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import pytest

from taxiway.adapters.cyclonedx_sbom import CycloneDx
from taxiway.errors import TestsFailed
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build, BuildTools, Request, open_build
from taxiway.stages.build import build as build_once
from taxiway.stages.repository_tests import RepositoryTests
from tests.fakes import FakeClock, FakeGit, FakeRegistry
from tests.gateway_models import CACHE, LOCK
from tests.packaged_models import small_spec

pytestmark = pytest.mark.timeout(600)  # the first test may have to build the environments
URL = "memory://small"
COVERAGE = """
coverage==7.17.3 \\
    --hash=sha256:21745c08f2835b847a16887b748d3084dddeb0571ae2a0d62e33644413568b99
"""  # the wheel for every platform
CODE = """
def double(x):
    return 2 * x

def triple(x):
    y = 3 * x
    return y
"""
TESTS = """
import pytest
from adder import double

@pytest.mark.parametrize("x", [1, 2])
def test_doubles(x):
    assert double(x) == 2 * x

@pytest.mark.skip(reason="later")
def test_later():
    assert False
"""
FILES = {
    "pyproject.toml": """
[build-system]
requires = ["uv_build"]
build-backend = "uv_build"

[project]
name = "adder"
version = "1.0"

[tool.taxiway]
train = "adder:double"

[tool.pytest.ini_options]
addopts = "-q -q"
""",
    "src/adder/__init__.py": CODE,
    "tests/unit/test_adder.py": TESTS,
    "tests/integration/test_served.py": "def test_nothing(): pass\n",
}
CONFTEST = "tests/unit/conftest.py"
BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><testsuites><testcase name="&b;"/></testsuites>'


@dataclass(frozen=True)
class Repository:
    """A commit of a model repository, and the build of it."""

    registry: FakeRegistry
    tests: RepositoryTests
    build: Build

    @property
    def evidence(self) -> dict[str, Any]:
        return self.registry.get_json(self.build.run_id, "taxiway/unit_tests.json")

    @property
    def files(self) -> dict[str, bytes]:
        return self.registry.runs[self.build.run_id].files

    def fails(self) -> str:
        """Run the unit tests, which must fail; returns why."""
        with pytest.raises(TestsFailed) as raised:
            self.tests.unit_tests()
        assert self.evidence["verdict"] == "failed"
        return raised.value.what


def repository(
    files: dict[str, str] | None = None, *, with_coverage: bool = False, spec: ModelSpec | None = None
) -> Repository:
    """Commit the files over those of a good repository, and open its build."""
    changed = {name: textwrap.dedent(text) for name, text in (files or {}).items()}
    lock = LOCK.read_text() + (COVERAGE if with_coverage else "")
    git, registry, spec = FakeGit(), FakeRegistry(), spec or small_spec()
    git.commit(URL, {**FILES, "requirements.txt": lock, **changed})
    request = Request("commit-1", None, None, "commit", None)
    build = open_build(spec, request, git=git, registry=registry, cache=CACHE, clock=FakeClock())
    build_once(spec, build, BuildTools(git, registry, CycloneDx(), CACHE, FakeClock()))
    return Repository(registry, RepositoryTests(spec, build, git, registry, CACHE, FakeClock()), build)


def test_every_test_is_in_the_log_and_in_the_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    """Each test has its outcome and seconds in the evidence, and its line in the log although the settings say -q."""
    tested = repository()
    evidence = tested.tests.unit_tests()

    log = capsys.readouterr().out
    assert "test_doubles[1] PASSED" in log
    assert "test_later SKIPPED" in log
    results: Any = evidence.figures["results"]
    assert [(test["test"].split("::")[-1], test["outcome"]) for test in results] == [
        ("test_doubles[1]", "passed"),
        ("test_doubles[2]", "passed"),
        ("test_later", "skipped"),
    ]
    assert all(test["seconds"] >= 0 for test in results)
    assert (evidence.figures["tests"], evidence.figures["passed"], evidence.figures["left_out"]) == (3, 2, 0)
    assert b"<testsuites" in tested.files["taxiway/unit_tests.xml"]


def test_a_failed_test_stops_the_build_with_its_name() -> None:
    """What failed is named in the reason, and comes first in the evidence."""
    failing = TESTS + "\ndef test_wrong():\n    assert double(1) == 3\n\ndef test_broken(missing_fixture): pass\n"
    tested = repository({"tests/unit/test_adder.py": failing})

    reason = tested.fails()
    assert reason == ("2 of 5 tests failed: tests.unit.test_adder::test_wrong, tests.unit.test_adder::test_broken")
    assert [test["outcome"] for test in tested.evidence["figures"]["results"][:3]] == ["failed", "error", "passed"]


def test_very_many_tests_are_counted() -> None:
    """The evidence lists 500 tests, what failed among them, and says how many it leaves out."""
    many = "import pytest\n@pytest.mark.parametrize('x', range(620))\ndef test_many(x):\n    assert x != 610\n"
    tested = repository({"tests/unit/test_adder.py": many})

    assert "1 of 620 tests failed" in tested.fails()
    figures = tested.evidence["figures"]
    assert (len(figures["results"]), figures["left_out"], figures["passed"]) == (500, 120, 619)
    assert figures["results"][0]["test"].endswith("test_many[610]")


@pytest.mark.parametrize(
    ("conftest", "reason"),
    [
        ("import os\nos._exit(0)", "the report of the tests cannot be read: there is no file .taxiway-junit.xml"),
        ("raise RuntimeError('no')", "pytest ended with exit code 4"),
        ("def pytest_collection_modifyitems(items): items.clear()", "there are no tests"),
        ("import time\ntime.sleep(600)", "the tests were stopped at the limit: wall time of 3 s"),
    ],
)
def test_tests_that_show_nothing_have_failed(conftest: str, reason: str) -> None:
    """No report, no tests, no end: none of it passes for success."""
    spec = small_spec(limits={"test": "3s" if "sleep" in conftest else "1m"})

    assert reason in repository({CONFTEST: conftest}, spec=spec).fails()


REPORTS = {
    "entities": (f"report.write_text({BOMB!r})", "it declares a document type"),
    "no XML": ("report.write_text('<testsuites><testcase')", "unclosed token"),
    "no seconds": ('report.write_text(\'<a><testcase name="x" time="nan"/></a>\')', "'nan' are no seconds"),
    "huge": ("report.touch(); os.truncate(report, 50_000_000)", "larger than 17 MB"),
    "link": ("report.symlink_to('/etc/passwd')", "there is no file"),
    "folder": ("report.mkdir()", "there is no file"),
    "pipe": ("os.mkfifo(report)", "there is no file"),
}


@pytest.mark.parametrize(("write", "reason"), REPORTS.values(), ids=REPORTS)
def test_a_hostile_report_is_a_failure(write: str, reason: str) -> None:
    """What tests write in place of their report neither hurts nor counts: the build fails with the reason."""
    conftest = f"""
    import atexit, os
    from pathlib import Path

    def spoil():
        report = Path(".taxiway-junit.xml")
        report.unlink(missing_ok=True)
        {write}

    atexit.register(spoil)
    """
    found = repository({CONFTEST: conftest})

    assert reason in found.fails()
    assert "taxiway/unit_tests.xml" not in found.files


def test_coverage_is_evidence_when_the_lock_has_it() -> None:
    """The share of the lines that the tests ran is a figure, and coverage's report is kept."""
    tested = repository({"src/adder/unused.py": "ANSWER = 42\n"}, with_coverage=True)
    figures = tested.tests.unit_tests().figures

    assert figures["line_coverage"] == pytest.approx(3 / 6)  # triple's two lines and the unused module were not run
    assert b'lines-valid="6" lines-covered="3"' in tested.files["taxiway/coverage.xml"]


@pytest.mark.parametrize(
    ("with_coverage", "least", "reason"),
    [
        (True, 0.7, "the tests run 60.0% of the lines, tests.min_coverage is 0.7"),
        (False, 0.1, "tests.min_coverage is 0.1, but requirements.txt does not pin `coverage`"),
    ],
)
def test_too_little_coverage_stops_the_build(with_coverage: bool, least: float, reason: str) -> None:
    """Policy asks for coverage: less, or none measured, is a failure even when all tests pass."""
    spec = small_spec(tests={"min_coverage": least})

    assert repository(with_coverage=with_coverage, spec=spec).fails() == reason


def test_the_repository_cannot_lower_the_bar() -> None:
    """Settings of the repository that leave code out of the coverage are not read."""
    lenient = FILES["pyproject.toml"] + '[tool.coverage.report]\nexclude_also = ["def triple"]\nomit = ["*"]\n'
    spec = small_spec(tests={"min_coverage": 0.7})

    found = repository({"pyproject.toml": lenient}, with_coverage=True, spec=spec).fails()
    assert found.startswith("the tests run 60.0% of the lines")


def test_coverage_that_cannot_be_read_is_no_coverage() -> None:
    """Tests that spoil coverage's report do not reach the limit, and crash nothing."""
    spec, spoil = small_spec(tests={"min_coverage": 0.1}), "import os\nos.mkdir('.taxiway-coverage.xml')\n"

    found = repository({CONFTEST: spoil}, with_coverage=True, spec=spec).fails()
    assert found.startswith("the coverage cannot be read: there is no file .taxiway-coverage.xml")
