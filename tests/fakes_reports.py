"""In-memory stand-ins for what looks at data; tests/contracts runs the same tests on them as on the real adapters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from taxiway.domain.data_rules import Rule
from taxiway.domain.drift import bins_of, profile, psi
from taxiway.domain.evidence import Verdict
from taxiway.domain.second_opinion import DataTest, TestResult
from taxiway.errors import DataError, TaxiwayError
from taxiway.ports import ReportColumns


class FakeReports:
    """Writes a page without pictures; `written` has the columns and frames of every report."""

    def __init__(self) -> None:
        self.written: list[tuple[ReportColumns, pd.DataFrame, pd.DataFrame]] = []

    def write(
        self, reference: pd.DataFrame, current: pd.DataFrame, *, columns: ReportColumns, html: Path, document: Path
    ) -> None:
        """Test the drift of every column that has values."""
        used = [*columns.numerical, *columns.categorical]
        for frame in (reference, current):
            if frame.empty or {*used, columns.label or used[0]} - set(frame):
                raise DataError("a report needs rows and columns")
        empty = [name for name in used if reference[name].isna().all() or current[name].isna().all()]
        tests = [_test(name, reference, current, columns) for name in used if name not in empty]
        rows = {"reference": len(reference), "current": len(current)}
        html.write_text(f"<!doctype html>\n<html><body>{'; '.join(test['name'] for test in tests)}</body></html>\n")
        metrics = [{"config": {"column": name}} for name in used if name not in empty]
        document.write_text(json.dumps({"metrics": metrics, "tests": tests, "rows": rows, "without_values": empty}))
        self.written.append((columns, reference, current))


def _test(name: str, reference: pd.DataFrame, current: pd.DataFrame, columns: ReportColumns) -> dict[str, Any]:
    bins = bins_of(reference[name].dropna().to_numpy())
    before, now = (profile(frame[name].dropna().to_numpy(), bins) for frame in (reference, current))
    drifted = psi(before.counts, now.counts) >= columns.drift_threshold
    return {
        "name": f"Value Drift for column {name}",
        "metric_config": {"params": {"column": name}},
        "status": "FAIL" if drifted else "SUCCESS",
    }


class FakeDataTests:
    """Counts with pandas; it is wrong about the rules in `wrong`, knows nothing of `unable`, and raises `trouble`."""

    def __init__(self) -> None:
        self.wrong: set[Rule] = set()
        self.unable: set[Rule] = set()
        self.trouble: TaxiwayError | None = None

    def run(self, windows: Mapping[str, pd.DataFrame], tests: Sequence[DataTest], pages: Path) -> list[TestResult]:
        """Count, and set each count beside its limit."""
        if self.trouble:
            raise self.trouble
        for name in {test.window for test in tests}:
            (pages / f"{name}.html").write_text(f"<!doctype html>\n<html><body>{name}</body></html>\n")
        return [self._result(windows[test.window], test) for test in tests]

    def _result(self, frame: pd.DataFrame, test: DataTest) -> TestResult:
        if test.rule in self.unable:
            return TestResult(Verdict.ERROR)
        counted = _count(frame, test)
        holds = counted <= test.at_most if test.at_most is not None else counted >= (test.at_least or 0)
        return TestResult(Verdict.PASSED if holds != (test.rule in self.wrong) else Verdict.FAILED, counted)


def _count(frame: pd.DataFrame, test: DataTest) -> int:
    if test.rule is Rule.MIN_ROWS:
        return len(frame)
    if test.rule is Rule.MAX_DUPLICATES:
        return int(frame.duplicated().sum())
    values = frame[str(test.column)]
    if test.rule is Rule.MAX_MISSING:
        return int(values.isna().sum())
    if test.rule is Rule.MIN_CLASS_SHARE:
        return int((values == test.label).sum())
    inside = values.between(*test.between) if test.between else values.isin(test.known)
    return int((values.notna() & ~inside).sum())
