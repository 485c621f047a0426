"""The in-memory stand-in for the reports port; tests/contracts runs the same tests on it as on the real adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from taxiway.domain.drift import bins_of, profile, psi
from taxiway.errors import DataError
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
