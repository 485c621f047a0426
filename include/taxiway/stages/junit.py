"""Test results: what a JUnit XML file says about each test. The file is as untrusted as the tests that wrote it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from taxiway.domain.evidence import Json
from taxiway.stages.untrusted_files import walk_xml

_LONGEST_NAME = 300
_OUTCOMES = {"failure": "failed", "error": "error", "skipped": "skipped"}
GOOD = ("passed", "skipped")


@dataclass(frozen=True, slots=True)
class TestResult:
    """One test: its outcome is passed, failed, error (outside of the test itself) or skipped."""

    __test__ = False

    name: str
    outcome: str
    seconds: float

    def to_json(self) -> dict[str, Json]:
        """Return the test as the evidence has it."""
        return {"test": self.name, "outcome": self.outcome, "seconds": self.seconds}


def read(document: bytes) -> list[TestResult]:
    """Return every test of the document, in its order; raises ValueError when it is no JUnit XML of pytest."""
    reader = _Reader()
    walk_xml(document, start=reader.start, end=reader.end)
    return reader.tests


def counts(tests: Iterable[TestResult]) -> dict[str, Json]:
    """Return how many tests there are, and how many of them passed, failed, had errors and were skipped."""
    found = Counter(test.outcome for test in tests)
    return {"tests": found.total(), **{name: found[name] for name in ("passed", "failed", "error", "skipped")}}


class _Reader:
    """Takes the elements as they come."""

    def __init__(self) -> None:
        self.tests: list[TestResult] = []
        self._case: Mapping[str, str] | None = None
        self._outcome = "passed"

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "testcase":
            self._case, self._outcome = attributes, "passed"
        elif self._outcome == "passed" or name == "error":
            self._outcome = _OUTCOMES.get(name, self._outcome)

    def end(self, name: str) -> None:
        if name == "testcase" and self._case is not None:
            case = self._case
            label = f"{case.get('classname', '')}::{case.get('name', '')}".strip(":")
            self.tests.append(TestResult(label[:_LONGEST_NAME], self._outcome, _seconds(case.get("time", "0"))))
            self._case = None


def _seconds(text: str) -> float:
    seconds = float(text)  # a ValueError as any other
    if not math.isfinite(seconds):
        raise ValueError(f"{text[:20]!r} are no seconds")
    return round(seconds, 3)
