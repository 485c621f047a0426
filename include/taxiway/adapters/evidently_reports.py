"""The reports port on Evidently, in a process of its own with limits (see `evidently_worker`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from taxiway.adapters.evidently_process import LIMITS, run_worker
from taxiway.errors import DataError
from taxiway.ports import ReportColumns
from taxiway.stages.sandbox import CommandLimits
from taxiway.stages.workspaces import workspace

if TYPE_CHECKING:
    import pandas as pd

_ADVICE = "compare the types of the prediction log's columns with those of the reference."


class EvidentlyReports:
    """Writes reports with Evidently; the caller bounds the rows (5,000 a side take some seconds)."""

    def __init__(self, limits: CommandLimits = LIMITS) -> None:
        self._limits = limits

    def write(
        self, reference: pd.DataFrame, current: pd.DataFrame, *, columns: ReportColumns, html: Path, document: Path
    ) -> None:
        """Compare current with reference; write the HTML report and its results as JSON.

        Columns without any value are left out and named in the JSON under `without_values`; the performance is left out
        where rows of a multiclass task show only two of its classes. Raises DataError with the end of Evidently's
        message when these rows cannot be compared, TransientError when a limit stopped it.
        """
        with workspace("evidently") as directory:
            before, now = directory / "reference.parquet", directory / "current.parquet"
            job = {
                "do": "report",
                "reference": str(before),
                "current": str(now),
                "html": str(html.absolute()),
                "document": str(document.absolute()),
                "numerical": list(columns.numerical),
                "categorical": list(columns.categorical),
                "prediction": columns.prediction,
                "label": columns.label,
                "kind": columns.kind,
                "drift_threshold": columns.drift_threshold,
                "drift_share": columns.drift_share,
            }
            used = [*columns.numerical, *columns.categorical, *([columns.label] if columns.label else [])]
            _require(used, reference=reference, current=current)
            reference[used].to_parquet(before, index=False)
            current[used].to_parquet(now, index=False)
            run_worker(job, directory, limits=self._limits, advice=_ADVICE)


def _require(used: list[str], **frames: pd.DataFrame) -> None:
    for name, frame in frames.items():
        missing = [column for column in used if column not in frame]
        if missing or frame.empty:
            what = f"has no column {', '.join(missing)}" if missing else "has no rows"
            raise DataError(f"a report needs rows and columns, but the {name} frame {what}")
