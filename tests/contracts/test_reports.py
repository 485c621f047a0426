"""The reports port: the fake and Evidently keep the same promises."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from taxiway.adapters.evidently_reports import EvidentlyReports
from taxiway.errors import DataError, TransientError
from taxiway.ports import Reports
from taxiway.stages.monitored_rows import Columns
from taxiway.stages.sandbox import CommandLimits
from tests.fakes_reports import FakeReports

pytestmark = pytest.mark.timeout(300)  # Evidently alone takes some seconds to import
ROWS = 400
BINARY = Columns(
    numerical=("temp", "wind", "prediction"),
    categorical=("carrier",),
    label=None,
    kind="binary",
    drift_threshold=0.2,
    drift_share=0.5,
)


@dataclass
class Written:
    """A report that was written: its page and its results."""

    html: str
    results: dict[str, Any]

    def statuses(self) -> dict[str, str]:
        """Return the status of the drift test of each column."""
        found = {test["metric_config"]["params"].get("column"): test["status"] for test in self.results["tests"]}
        found.pop(None, None)  # the test of the share of drifted columns
        return found


@pytest.fixture(params=["fake", "evidently"])
def reports(request: pytest.FixtureRequest) -> Reports:
    return FakeReports() if request.param == "fake" else EvidentlyReports()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Written]:
    def write(reports: Reports, reference: pd.DataFrame, current: pd.DataFrame, columns: Columns) -> Written:
        html, document = tmp_path / "report.html", tmp_path / "report.json"
        reports.write(reference, current, columns=columns, html=html, document=document)
        return Written(html.read_text(encoding="utf-8"), json.loads(document.read_text(encoding="utf-8")))

    return write


def rows(seed: int, *, temp: float = 0.0) -> pd.DataFrame:
    """Return rows with a label of each kind; the score knows something about `late`."""
    rng = np.random.default_rng(seed)
    late = rng.random(ROWS) < 0.3
    return pd.DataFrame(
        {
            "temp": rng.normal(temp, 1, ROWS),
            "wind": np.where(rng.random(ROWS) < 0.1, np.nan, rng.normal(5, 2, ROWS)),
            "carrier": [None if value == "none" else value for value in rng.choice(["AA", "UA", "none"], ROWS)],
            "prediction": np.clip(rng.normal(0.3, 0.1, ROWS) + 0.2 * late, 0, 1),
            "late": late.astype("int64"),
            "minutes": rng.normal(10, 5, ROWS),
            "gate": rng.choice(["A", "B", "C"], ROWS),
        }
    )


def test_report_tells_drifted_columns_from_others(reports: Reports, write: Callable[..., Written]) -> None:
    """One page and one result per column: what moved fails, what did not passes, missing values are no obstacle."""
    written = write(reports, rows(1), rows(2, temp=2.0), BINARY)

    assert "<html" in written.html
    assert written.statuses() == {"temp": "FAIL", "wind": "SUCCESS", "carrier": "SUCCESS", "prediction": "SUCCESS"}
    assert written.results["rows"] == {"reference": ROWS, "current": ROWS}


def test_column_without_values_is_left_out_and_named(reports: Reports, write: Callable[..., Written]) -> None:
    """A column that lost every value does not break the report of all others."""
    current = rows(2).assign(wind=np.nan, carrier=None)

    written = write(reports, rows(1), current, BINARY)

    assert set(written.statuses()) == {"temp", "prediction"}
    assert sorted(written.results["without_values"]) == ["carrier", "wind"]


@pytest.mark.parametrize("problem", ["no rows", "no column"])
def test_unusable_frames_are_refused(reports: Reports, write: Callable[..., Written], problem: str) -> None:
    """A frame without rows, or without one of the columns, is the data's fault and says so."""
    current = rows(2).head(0) if problem == "no rows" else rows(2).drop(columns="wind")

    with pytest.raises(DataError):
        write(reports, rows(1), current, BINARY)


def test_evidently_shows_the_performance_once_labels_are_known(write: Callable[..., Written]) -> None:
    """A binary report has the ROC AUC of scores against labels; performance is shown and not tested."""
    written = write(EvidentlyReports(), rows(1), rows(2), replace(BINARY, label="late"))
    values = {metric["config"]["type"].rpartition(":")[2]: metric["value"] for metric in written.results["metrics"]}

    assert 0.7 < values["RocAuc"] < 1
    assert not [test for test in written.results["tests"] if "ROC" in test["name"]]


@pytest.mark.parametrize(
    ("kind", "label", "metric"), [("regression", "minutes", "RMSE"), ("multiclass", "gate", "Accuracy")]
)
def test_evidently_knows_every_kind_of_task(write: Callable[..., Written], kind: str, label: str, metric: str) -> None:
    """Numbers are judged by their error and classes by their accuracy."""
    prediction = rows(3)[label]
    columns = replace(BINARY, kind=kind, label=label)
    if kind == "multiclass":
        columns = replace(columns, numerical=("temp", "wind"), categorical=("carrier", "prediction"))

    written = write(
        EvidentlyReports(), rows(1).assign(prediction=prediction), rows(2).assign(prediction=prediction), columns
    )

    types = [found["config"]["type"].rpartition(":")[2] for found in written.results["metrics"]]
    assert metric in types


def test_evidently_takes_windows_without_one_of_the_classes(write: Callable[..., Written]) -> None:
    """A calm window in which two classes only occurred and were predicted has a report, of drift alone."""
    columns = replace(BINARY, kind="multiclass", label="gate", numerical=("temp", "wind"), categorical=("prediction",))
    reference, current = rows(1), rows(2)
    calm = current[current["gate"] != "C"]

    written = write(
        EvidentlyReports(), reference.assign(prediction=reference["gate"]), calm.assign(prediction="A"), columns
    )

    assert written.results["rows"]["current"] == len(calm)
    assert "Accuracy" not in [found["config"]["type"].rpartition(":")[2] for found in written.results["metrics"]]
    assert set(written.statuses()) == {"temp", "wind", "prediction"}


def test_failure_of_evidently_tells_why(write: Callable[..., Written]) -> None:
    """Rows that Evidently cannot compare end in its own last words, in an error that is not tried again."""
    with pytest.raises(DataError, match="Evidently cannot make a report") as failure:
        write(EvidentlyReports(), rows(1), rows(2).assign(temp="warm"), BINARY)

    assert "Error" in failure.value.what


def test_report_that_runs_into_a_limit_is_tried_again(write: Callable[..., Written]) -> None:
    """A report stopped by its wall time is trouble of the machine: another try may work."""
    limits = CommandLimits(wall=timedelta(milliseconds=50), memory_mb=8192, log_kb=16)

    with pytest.raises(TransientError, match="wall time"):
        write(EvidentlyReports(limits), rows(1), rows(2), BINARY)
