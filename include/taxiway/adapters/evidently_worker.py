"""The process that imports Evidently, writes one report and ends; started by `evidently_reports`.

Evidently takes some seconds and 300 MB to import, which must not stay in a task's worker. Usage:
`python -m taxiway.adapters.evidently_worker JOB`, where the JSON file JOB names the files and the columns.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from evidently import BinaryClassification, DataDefinition, Dataset, MulticlassClassification, Regression, Report
from evidently.presets import ClassificationQuality, DataDriftPreset, RegressionQuality


def main(job_file: Path) -> None:
    """Write the report that the job asks for: HTML to read, and metrics and tests as JSON."""
    job = json.loads(job_file.read_text(encoding="utf-8"))
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
