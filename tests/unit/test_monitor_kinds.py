"""Monitoring of every kind of answers: class scores, classes and numbers, read back from the real prediction log."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from taxiway.adapters.prediction_log import ParquetPredictionLog
from taxiway.domain.evidence import Verdict
from taxiway.domain.values import CHAMPION, Window
from taxiway.gateway.log import LogWriter, compact
from taxiway.spec import ModelSpec
from taxiway.stages.monitor import MonitoringResult, collect, publish, report
from tests.fakes import FakeData
from tests.unit.monitored_model import MAY, MODEL, TRAINED_UNTIL, Production, flights, model_spec

FOLDER = "taxiway/monitoring/2013-05-29"
TEXTS, NUMBERS = ("early", "late", "on time"), (2, 5, 11)
KINDS = ("scores", "scores of numbers", "labels", "labels of numbers", "regression")
METRICS = {"scores": "log_loss", "labels": "accuracy", "regression": "rmse"}


def metric_of(answers: str) -> str:
    return METRICS[answers.partition(" ")[0]]


def classes_of(answers: str) -> tuple[Any, ...]:
    if answers == "regression":
        return ()
    return NUMBERS if answers.endswith("numbers") else TEXTS


def spec_for(answers: str, max_drop: float) -> ModelSpec:
    """Return the spec of a model with these answers."""
    task: dict[str, Any] = {"kind": "regression", "label": "late", "key": "flight", "timestamp": "at"}
    if answers != "regression":
        task |= {"kind": "multiclass", "classes": classes_of(answers)}
    metric = metric_of(answers)
    performance = {"metric": metric, "max_drop": max_drop, "min_labels": 200}
    return model_spec(
        task=task, gates={"metrics": {metric: {}}}, monitoring={"performance": performance, "report_rows": 100}
    )


def rows_of(answers: str, window: Window, seed: int = 1) -> pd.DataFrame:
    """Return flights with the label `late` and the prediction of the kind; warm ones are later."""
    rows = flights(window, seed=seed)
    warmth = rows["temp"].to_numpy() - 10
    noisy = warmth + np.random.default_rng(seed).normal(0, 2, len(rows))
    if answers == "regression":
        return rows.assign(late=2 * noisy, prediction=2 * warmth)
    names = np.array(classes_of(answers), dtype=object)

    def class_of(value: Any) -> Any:
        return names[np.where(value < -3, 0, np.where(value > 3, 1, 2))]

    scores = np.exp(-np.abs(warmth[:, None] - np.array([-6, 6, 0])))
    scores = scores / scores.sum(axis=1, keepdims=True)
    prediction = scores.tolist() if answers.startswith("scores") else class_of(warmth)
    return rows.assign(late=class_of(noisy), prediction=prediction)


class Logged(Production):
    """A production whose answers go through the gateway's files."""

    def __init__(self, answers: str, directory: Path, *, max_drop: float = 0.3) -> None:
        super().__init__(spec=spec_for(answers, max_drop))
        self.answers, self.directory = answers, directory
        self.writer = LogWriter(directory, segment_bytes=10**9, segment_age=timedelta(hours=1))
        self.data = FakeData(rows_of(answers, MAY), timestamp="at", key="flight")
        run_id = self.registry.open_build(MODEL, "first", {})
        self.store_reference(run_id, rows_of(answers, Window(TRAINED_UNTIL - timedelta(days=14), TRAINED_UNTIL), 2))
        self.registry.register(MODEL, run_id, {}, "first")
        self.registry.set_alias(MODEL, CHAMPION, 1)

    def answer(self, rows: pd.DataFrame, *, version: int = 1, role: str = "champion", hour: int = 0) -> None:
        """Write the answers as the gateway does, in a segment or compacted."""
        self.writer.write(MODEL, self.entry(rows, version=version, role=role, hour=hour))

    def compact(self) -> None:
        """Turn what was written into Parquet."""
        self.writer.close_segments(MAY.end, all_of_them=True)
        compact(self.writer.closed_segments())

    def watch(self) -> MonitoringResult:
        """Take the steps of the window, the report too."""
        log = ParquetPredictionLog(self.directory)
        as_of = MAY.end + timedelta(days=1)
        collected = collect(self.spec, MAY, as_of=as_of, registry=self.registry, predictions=log, data=self.data)
        assert collected is not None
        report(self.spec, collected, registry=self.registry, reports=self.reports)
        return publish(self.spec, collected, registry=self.registry, notifier=self.notifier, clock=self.clock)


Answering = Callable[..., Logged]


@pytest.fixture
def answering(tmp_path: Path) -> Answering:
    return lambda answers, **changes: Logged(answers, tmp_path, **changes)


@pytest.mark.parametrize("where", ["segments", "Parquet"])
@pytest.mark.parametrize("answers", KINDS)
def test_calm_window_passes(answering: Answering, answers: str, where: str) -> None:
    """Answers of every kind are joined, measured and profiled, whichever file of the log they are in."""
    production = answering(answers)
    production.answer(rows_of(answers, MAY))
    if where == "Parquet":
        production.compact()

    found = production.watch()
    profiles = production.registry.get_json(found.window.run_id, f"{FOLDER}/profiles.json")
    _, before, current = production.reports.written[-1]

    assert (found.verdict, found.reasons) == (Verdict.PASSED, ())
    assert (found.figures["labelled"], found.figures["metric"]) == (560, metric_of(answers))
    assert found.figures["value"] == pytest.approx(found.figures["reference"], rel=0.2)
    if classes := classes_of(answers):
        assert profiles["prediction"]["bins"] == [*sorted(map(str, classes)), "other", "missing"]
        assert set(current["late"]) == set(current["prediction"]) == set(before["late"]) == set(map(str, classes))
    else:
        assert current.dtypes[["late", "prediction"]].map(str).tolist() == ["float64", "float64"]


@pytest.mark.parametrize("answers", KINDS)
def test_worse_answers_are_a_loss(answering: Answering, answers: str) -> None:
    """A model that answers anything asks for retraining because of performance, whichever way its metric turns."""
    production = answering(answers)
    rows = rows_of(answers, MAY)
    production.answer(rows.assign(prediction=rows["prediction"].sample(frac=1, random_state=1).tolist()))

    found = production.watch()

    assert (found.verdict, found.cause) == (Verdict.FAILED, "performance")
    assert f"{metric_of(answers)} is " in found.reasons[0]


def test_a_smaller_error_is_no_loss(answering: Answering) -> None:
    """Of a metric that is better when low, a fall is good news however large it is."""
    production = answering("regression", max_drop=0.01)
    rows = rows_of("regression", MAY)
    production.answer(rows.assign(prediction=rows["late"]))

    found = production.watch()

    assert found.figures["value"] < found.figures["reference"] - 1
    assert found.figures["performance"] == "passed"


@pytest.mark.parametrize("answers", KINDS)
def test_moved_answers_are_drift(answering: Answering, answers: str) -> None:
    """When most rows get the answer of warm ones, the predictions have moved."""
    production = answering(answers)
    rows = rows_of(answers, MAY)
    warm = rows["prediction"].iloc[int(rows["temp"].to_numpy().argmax())]
    production.answer(
        rows.assign(prediction=[warm if row % 4 else value for row, value in enumerate(rows["prediction"])])
    )

    found = production.watch()

    assert found.figures["drift"] == "failed"
    assert any("the predictions moved" in reason for reason in found.reasons)


@pytest.mark.parametrize("where", ["segments", "Parquet"])
@pytest.mark.parametrize("numbers", ["", " of numbers"])
def test_versions_of_other_answers_share_the_log(answering: Answering, where: str, numbers: str) -> None:
    """While a version that answers labels hands over to one that answers scores, each row keeps its meaning."""
    production = answering(f"scores{numbers}")
    production.answer(rows_of(f"labels{numbers}", MAY).head(260), version=7)
    production.answer(rows_of(f"scores{numbers}", MAY).tail(300))
    if where == "Parquet":
        production.compact()

    found = production.watch()

    assert (found.figures["predictions"], found.figures["answered"], found.figures["labelled"]) == (560, 300, 300)
    assert (found.figures["quality"], found.figures["performance"]) == ("passed", "passed")


def test_unusable_answers_are_told_and_not_tripped_over(answering: Answering) -> None:
    """Scores of another number of classes, holes, and classes that nobody named count as missing predictions."""
    production = answering("scores")
    rows = rows_of("scores", MAY)
    broken = [[0.5, 0.5], [0.1, None, 0.9], [0.9, 0.9, 0.9], "unheard of", None, {"no": "scores"}, "[1, 2"]
    production.answer(rows.assign(prediction=[*broken, *rows["prediction"][len(broken) :]]))

    found = production.watch()

    assert found.figures["labelled"] == 560 - len(broken)
    assert found.reasons[0] == "1.2% of the predictions are missing or not what the task asks for"


def test_records_of_scores_are_scores(answering: Answering) -> None:
    """A model that answers a frame is logged as one record per row, with the scores in the order of its columns."""
    production = answering("scores")
    rows = rows_of("scores", MAY)
    production.answer(rows.assign(prediction=[dict(zip("abc", scores, strict=True)) for scores in rows["prediction"]]))
    production.compact()

    assert production.watch().figures["performance"] == "passed"


def test_labels_that_are_no_class_are_broken_data(answering: Answering) -> None:
    """A class that the spec does not name is told, and no model is trained on it."""
    production = answering("scores")
    production.data.frame = rows_of("scores", MAY).assign(
        late=lambda rows: rows["late"].where(rows.index >= 5, "cancelled")
    )
    production.answer(rows_of("scores", MAY))

    found = production.watch()

    assert (found.verdict, found.asks_retraining, found.figures["labelled"]) == (Verdict.FAILED, False, 555)
    assert found.reasons == ("5 labels are none of the task's classes",)


def test_window_without_one_of_the_classes_is_measured(answering: Answering) -> None:
    """A calm month in which nobody was late still has a metric."""
    production = answering("scores")
    rows = rows_of("scores", MAY)
    production.answer(rows[rows["late"] != "late"])

    found = production.watch()

    assert isinstance(found.figures["value"], float)
    json.dumps(found.to_json(), allow_nan=False)
