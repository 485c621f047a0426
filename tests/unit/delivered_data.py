"""Sixty days of made-up flights as a dataset, and a build that takes its snapshot, for tests of the data stages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from taxiway.adapters.parquet_data import ParquetData
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build
from taxiway.stages.data import snapshot_data
from tests.fakes import FakeClock, FakeRegistry
from tests.unit.model_versions import example_spec

END = datetime(2013, 3, 1, tzinfo=UTC)
TASK = {"label": "late", "key": "flight_id", "timestamp": "scheduled_departure", "label_delay": "1d"}


def spec_with(*, checks: dict[str, Any] | None = None, task: dict[str, Any] | None = None) -> ModelSpec:
    """Return the example's spec with two features, and other checks or another kind of task."""
    spec = example_spec()
    task = {"kind": "binary", **TASK, **(task or {})}
    metric = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "mae"}[task["kind"]]
    asked = {"min_rows": 10, "max_missing": {"distance": 0.1}, "ranges": {"distance": [0, 6000]}}
    return ModelSpec.model_validate(
        {
            **spec.model_dump(),
            "task": task,
            "data": {**spec.data.model_dump(), "features": ["carrier", "distance"], "checks": checks or asked},
            "gates": {"metrics": {metric: {}}},
            "monitoring": {"performance": {"metric": metric, "max_drop": 0.1}},
        }
    )


def flights(days: int = 60) -> pd.DataFrame:
    """Return a flight every hour before END; those of the last twelve hours are not labelled yet."""
    times = pd.date_range(END - timedelta(days=days), END, freq="h", inclusive="left", unit="us")
    frame = pd.DataFrame({"scheduled_departure": times, "flight_id": [f"f{number}" for number in range(len(times))]})
    frame["carrier"], frame["distance"] = "AA", 500.0
    frame["late"] = [float(number % 3 == 0) for number in range(len(times))]
    frame.loc[times >= END - timedelta(hours=12), "late"] = None
    return frame


def in_holdout(frame: pd.DataFrame) -> pd.Series[bool]:
    """Tell which rows of `flights` the holdout has."""
    times = frame["scheduled_departure"]
    return (times >= END - timedelta(days=15)) & (times < END - timedelta(days=1))


def build_of(registry: FakeRegistry, data_end: str | None = END.isoformat()) -> Build:
    """Return a build as the checkout stage opens it."""
    run_id = registry.open_build("flight_delays", "commit-1", {})
    return Build(
        "flight_delays", "commit-1", run_id, "1" * 40, "ds", "sha256:src", "sha256:lock", "manual", "ds", data_end
    )


def snapshot_of(frame: pd.DataFrame, directory: Path, registry: FakeRegistry, spec: ModelSpec) -> Build:
    """Deliver the frame as Parquet files, one a month, and take the snapshot of a build."""
    for month, rows in frame.groupby(frame["scheduled_departure"].dt.strftime("%Y-%m")):
        rows.to_parquet(directory / f"{month}.parquet", index=False)
    build = build_of(registry)
    data = ParquetData(str(directory), timestamp=spec.task.timestamp, key=spec.task.key)
    snapshot_data(spec, build, data=data, registry=registry, clock=FakeClock())
    return build
