"""The process that imports Evidently, does one job and ends; started by `evidently_process`.

Evidently takes some seconds and 300 MB to import, which must not stay in a task's worker. Usage:
`python -m taxiway.adapters.evidently_worker JOB`, where the JSON file JOB says what to do with which files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from evidently import BinaryClassification, DataDefinition, Dataset, MulticlassClassification, Regression, Report
from evidently.metrics import (
    CategoryCount,
    DuplicatedRowCount,
    MissingValueCount,
    OutListValueCount,
    OutRangeValueCount,
    RowCount,
)
from evidently.presets import ClassificationQuality, DataDriftPreset, RegressionQuality
from evidently.tests import gte, lte

from taxiway.domain.data_rules import TRAINING, Rule


def main(job_file: Path) -> None:
    """Do what the job asks for."""
    job = json.loads(job_file.read_text(encoding="utf-8"))
    if job["do"] == "report":
        write_report(job)
    else:
        run_data_tests(job)


def write_report(job: dict[str, Any]) -> None:
    """Write the report that the job asks for: HTML to read, and metrics and tests as JSON."""
    reference, current = pd.read_parquet(job["reference"]), pd.read_parquet(job["current"])
    empty = [name for name in reference if reference[name].isna().all() or current[name].isna().all()]
    job["numerical"] = [name for name in job["numerical"] if name not in empty]
    job["categorical"] = [name for name in job["categorical"] if name not in empty]
    if job["kind"] == "multiclass" and job["label"] and _has_two_classes(job, reference, current):
        job["label"] = None
    definition = _definition(job)
    snapshot = Report(_metrics(job), include_tests=True).run(
        Dataset.from_pandas(current, data_definition=definition),
        Dataset.from_pandas(reference, data_definition=definition),
    )
    snapshot.save_html(job["html"])
    document = json.loads(snapshot.json())
    document["rows"] = {"reference": len(reference), "current": len(current)}
    document["without_values"] = empty  # Evidently cannot compare a column that has none
    Path(job["document"]).write_text(json.dumps(document, indent=1), encoding="utf-8")


def run_data_tests(job: dict[str, Any]) -> None:
    """Run the tests of both windows: a page for each window, and one result for each test in the job's order."""
    windows = {name: pd.read_parquet(path) for name, path in job["windows"].items()}
    results: dict[int, dict[str, Any]] = {}
    for name, frame in windows.items():
        asked = {number: test for number, test in enumerate(job["tests"]) if test["window"] == name}
        metrics = {number: _count(test) for number, test in asked.items()}
        if not asked:
            continue
        reference = None if name == TRAINING else _dataset(windows[TRAINING])
        snapshot = Report(list(metrics.values()), include_tests=True).run(_dataset(frame), reference)
        snapshot.save_html(str(Path(job["pages"]) / f"{name}.html"))
        document = json.loads(snapshot.json())
        statuses = {test["metric_config"]["metric_id"]: test["status"] for test in document["tests"]}
        values = {metric["id"]: metric["value"] for metric in document["metrics"]}
        for number, metric in metrics.items():
            value = values.get(metric.metric_id)
            counted = value["count"] if isinstance(value, dict) else value
            results[number] = {"status": statuses.get(metric.metric_id, "ERROR"), "counted": counted}
    Path(job["results"]).write_text(json.dumps([results[number] for number in sorted(results)]), encoding="utf-8")


def _count(test: dict[str, Any]) -> Any:
    """Return the metric that counts what the test limits: counts, because a share of Evidently may leave out nulls."""
    limit = [lte(test["at_most"])] if test["at_most"] is not None else [gte(test["at_least"])]
    column = test["column"]
    match test["rule"]:
        case Rule.MIN_ROWS:
            return RowCount(tests=limit)
        case Rule.MAX_MISSING:
            return MissingValueCount(column=column, tests=limit)
        case Rule.RANGES:
            return OutRangeValueCount(column=column, left=test["between"][0], right=test["between"][1], tests=limit)
        case Rule.MAX_NEW_CATEGORIES:
            return OutListValueCount(column=column, values=test["known"], tests=limit)
        case Rule.MAX_DUPLICATES:
            return DuplicatedRowCount(tests=limit)
        case Rule.MIN_CLASS_SHARE:
            return CategoryCount(column=column, category=test["label"], tests=limit)
        case rule:
            raise ValueError(f"no metric counts {rule}")


def _dataset(frame: pd.DataFrame) -> Dataset:
    numbers, times = frame.select_dtypes("number").columns, frame.select_dtypes(["datetime", "datetimetz"]).columns
    definition = DataDefinition(
        numerical_columns=list(numbers),
        datetime_columns=list(times),
        categorical_columns=[name for name in frame if name not in {*numbers, *times}],
    )
    return Dataset.from_pandas(frame, data_definition=definition)


def _has_two_classes(job: dict[str, Any], *frames: pd.DataFrame) -> bool:
    """Tell whether a frame shows two classes only: Evidently takes them for a binary task, and fails on its label 1."""
    return any(frame[[job["label"], job["prediction"]]].stack().nunique() == 2 for frame in frames)


def _definition(job: dict[str, Any]) -> DataDefinition:
    """Name every column: what Evidently finds out by itself changes with the data, and hides a missing column."""
    label, prediction = job["label"], job["prediction"]
    roles: dict[str, Any] = {}
    if label and job["kind"] == "binary":
        task = BinaryClassification(target=label, prediction_labels=None, prediction_probas=prediction, pos_label=1)
        roles["classification"] = [task]
    elif label and job["kind"] == "multiclass":
        roles["classification"] = [MulticlassClassification(target=label, prediction_labels=prediction)]
    elif label:
        roles["regression"] = [Regression(target=label, prediction=prediction)]
    return DataDefinition(numerical_columns=job["numerical"], categorical_columns=job["categorical"], **roles)


def _metrics(job: dict[str, Any]) -> list[Any]:
    """Test drift only: Evidently's own tests of performance are two-sided, so an improvement would fail them."""
    columns = [*job["numerical"], *job["categorical"]]
    limits = {"threshold": job["drift_threshold"], "drift_share": job["drift_share"]}
    metrics: list[Any] = [DataDriftPreset(columns=columns, method="psi", **limits)]
    if job["label"] and job["kind"] == "regression":
        metrics.append(RegressionQuality(pred_actual_plot=True, error_plot=True, error_distr=True, include_tests=False))
    elif job["label"]:
        metrics.append(ClassificationQuality(conf_matrix=True, include_tests=False))
    return metrics


if __name__ == "__main__":
    main(Path(sys.argv[1]))
