"""What plots show of the answers of both models, for each kind of task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from taxiway.domain.charts import Area, Bars, CellKind, Chart, Curve, Figure, Matrix, Role, Table
from taxiway.domain.curves import (
    MOST_POINTS,
    binned_quantiles,
    calibration,
    class_figures,
    confusion,
    pr_points,
    roc_points,
    share_bounds,
    thinned,
)
from taxiway.domain.metrics import Array, Rows, find, read_rows
from taxiway.spec_ci import Task
from taxiway.stages.stored_predictions import HoldoutPredictions

_SCORE_BINS, _RESIDUAL_BINS = 25, 40
_MOST_CLASSES = 12
_LEVELS = (0.05, 0.5, 0.95)
_TABLE_LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def kind_figures(task: Task, predictions: HoldoutPredictions) -> tuple[Figure, ...]:
    """Return the figures of the task's kind; `predictions` hold at least one row."""
    answers: dict[Role, Any] = {"candidate": predictions.candidate}
    if predictions.champion is not None:
        answers["champion"] = predictions.champion
    models = {
        role: read_rows(task.kind, predictions.labels, values, classes=task.classes) for role, values in answers.items()
    }
    if task.kind == "binary":
        return _binary(models)
    if task.kind == "regression":
        return _regression(models)
    return _multiclass([str(name) for name in sorted(task.classes)], models, answers)


def shown(value: float | None, *, signed: bool = False) -> str:
    """Return a figure with about four digits, a dash for none."""
    if value is None or not np.isfinite(value):
        return "-"
    decimals = max(0, 4 - len(str(int(abs(value)))) + (abs(value) < 1))
    return f"{round(value, decimals) + 0.0:{'+' if signed else ''},.{decimals}f}"  # what rounds to zero is not negative


def numbers(values: Array) -> tuple[float, ...]:
    """Return an array as plain floats."""
    return tuple(np.asarray(values, dtype=np.float64).tolist())


def _binary(models: Mapping[Role, Rows]) -> tuple[Figure, ...]:
    truth = models["candidate"].truth
    roc: list[Curve] = []
    pr: list[Curve] = []
    for role, rows in models.items():
        for curves, points, metric in ((roc, roc_points, "roc_auc"), (pr, pr_points, "pr_auc")):
            across, up = thinned(*points(rows.truth, _scores_of(rows)))
            label = f"{role} {find('binary', metric).of(rows):.3f}"
            curves.append(Curve(label, role, numbers(across), numbers(up)))
    share = float(truth.mean())
    always = Curve(f"share of label 1: {share:.1%}", "guide", (0, 1), (share, share), "dashed")
    return (
        Chart(
            "roc", "ROC and the area below", "false positive rate", "true positive rate", (*roc, _diagonal("chance"))
        ),
        Chart("precision_recall", "Precision, recall and the area below", "recall", "precision", (*pr, always)),
        _calibration(
            "Calibration",
            "score",
            "share of label 1",
            {role: (rows.truth, _scores_of(rows)) for role, rows in models.items()},
        ),
        _scores(models["candidate"]),
    )


def _calibration(title: str, x_label: str, y_label: str, models: Mapping[Role, tuple[Any, Any]]) -> Chart:
    """Return the reliability curves with the candidate's rows per bin below; each model has (outcomes, scores)."""
    found = {role: calibration(*rows) for role, rows in models.items()}
    curves = []
    for role, bins in found.items():
        used = bins.rows > 0
        lower, upper = share_bounds(bins.observed[used], bins.rows[used])
        points = numbers(bins.predicted[used]), numbers(bins.observed[used])
        curves.append(Curve(role, role, *points, "marked", numbers(lower), numbers(upper)))
    candidate = found["candidate"]
    return Chart(
        "calibration",
        title,
        x_label,
        y_label,
        (*curves, _diagonal("as it should be")),
        below=Bars("rows", "candidate", numbers(candidate.edges), numbers(candidate.rows)),
        note="Each point is the mean score of a bin and what happened there, with 95 % bounds; below, how many rows "
        "each bin has of the candidate.",
    )


def _scores_of(rows: Rows) -> Array:
    return np.empty(0) if rows.scores is None else rows.scores


def _scores(rows: Rows) -> Chart:
    edges = np.linspace(0, 1, _SCORE_BINS + 1)
    bars = []
    roles: tuple[tuple[int, Role], ...] = ((0, "no"), (1, "yes"))
    for label, role in roles:
        scores = _scores_of(rows)[rows.truth == label]
        heights = np.histogram(scores, edges)[0] / max(len(scores), 1)
        bars.append(Bars(f"label {label}: {len(scores):,} rows", role, numbers(edges), numbers(heights)))
    return Chart(
        "scores",
        "Scores of the candidate by label",
        "score",
        "share of the label's rows",
        bars=tuple(bars),
        note="The less the two overlap, the better the candidate tells the labels apart.",
    )


def _multiclass(names: Sequence[str], models: Mapping[Role, Rows], answers: Mapping[Role, Any]) -> tuple[Figure, ...]:
    counts = {role: confusion(rows.truth, rows.guess, len(names)) for role, rows in models.items()}
    figures: list[Figure] = [_class_table(names, counts)]
    figures += [_confusion(names, role, found) for role, found in counts.items()]
    scored = {
        role: ((rows.truth == rows.guess), answers[role].max(axis=1))
        for role, rows in models.items()
        if rows.likelihood is not None
    }
    if "candidate" in scored:
        chart = _calibration("Calibration of the predicted class", "its score", "share that is right", scored)
        figures.append(chart)
    return tuple(figures)


def _confusion(names: Sequence[str], role: Role, counts: Array) -> Matrix:
    most = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[:_MOST_CLASSES])
    left_out = f" The {len(most)} most frequent of {len(names)} classes." if len(most) < len(names) else ""
    return Matrix(
        f"confusion_{role}",
        f"What the {role} takes for what",
        tuple(names[position] for position in most),
        tuple(tuple(row) for row in counts[np.ix_(most, most)].tolist()),
        note=f"Rows are the true classes: shares of the row, and counts.{left_out}",
    )


def _class_table(names: Sequence[str], counts: Mapping[Role, Array]) -> Table:
    found = {role: class_figures(matrix) for role, matrix in counts.items()}
    candidate, champion = found["candidate"], found.get("champion")
    rows = []
    for position, name in enumerate(names):
        row = [name, f"{candidate.rows[position]:,}", f"{candidate.guessed[position]:,}"]
        row += [shown(values[position]) for values in (candidate.precision, candidate.recall, candidate.f1)]
        rows.append((*row, *([shown(champion.f1[position])] if champion else [])))
    columns = ("class", "rows", "predicted", "precision", "recall", "F1", *(["champion's F1"] if champion else []))
    return Table("Classes of the candidate", columns, _first_is_text(len(columns)), tuple(rows))


def _regression(models: Mapping[Role, Rows]) -> tuple[Figure, ...]:
    candidate = models["candidate"]
    residuals = {role: rows.guess - rows.truth for role, rows in models.items()}
    sample = np.linspace(0, len(candidate.truth) - 1, min(len(candidate.truth), MOST_POINTS)).astype(int)
    note = f"{len(sample):,} of {len(candidate.truth):,} rows as points; line and area are made of all rows."
    lowest = float(min(candidate.truth.min(), candidate.guess.min()))
    highest = float(max(candidate.truth.max(), candidate.guess.max()))
    return (
        _quantile_table(residuals),
        _cloud(
            ("residuals", "Residuals of the candidate", "predicted", "predicted - actual"),
            (candidate.guess, residuals["candidate"]),
            sample,
            Curve("no error", "guide", (float(candidate.guess.min()), float(candidate.guess.max())), (0, 0), "dashed"),
            note,
        ),
        _cloud(
            ("predicted_actual", "Predicted and actual values", "predicted", "actual"),
            (candidate.guess, candidate.truth),
            sample,
            Curve("as it should be", "guide", (lowest, highest), (lowest, highest), "dashed"),
            note,
        ),
        _residual_histogram(residuals),
    )


def _cloud(words: tuple[str, str, str, str], xy: tuple[Array, Array], sample: Array, guide: Curve, note: str) -> Chart:
    x, y = xy
    found = binned_quantiles(x, y, _LEVELS)
    low, middle, high = (numbers(level) for level in found.values)
    points = Curve("", "candidate", numbers(x[sample]), numbers(y[sample]), "points")
    median = Curve("median", "summary", numbers(found.x), middle)
    spread = Area("nine rows of ten", "summary", numbers(found.x), low, high)
    return Chart(*words, curves=(points, guide, median), areas=(spread,), note=note)


def _residual_histogram(residuals: Mapping[Role, Array]) -> Chart:
    everything = np.concatenate(list(residuals.values()))
    lowest, highest = np.quantile(everything, (0.005, 0.995))
    edges = np.linspace(lowest, highest if highest > lowest else lowest + 1, _RESIDUAL_BINS + 1)
    bars = [
        Bars(role, role, numbers(edges), numbers(np.histogram(values, edges)[0] / len(values)))
        for role, values in residuals.items()
    ]
    return Chart(
        "residual_histogram",
        "How large the errors are",
        "predicted - actual",
        "share of rows",
        bars=tuple(bars),
        note="The furthest half percent at either end is left out.",
    )


def _quantile_table(residuals: Mapping[Role, Array]) -> Table:
    columns = ("", "mean", *(f"{level:.0%}" for level in _TABLE_LEVELS))
    rows = tuple(
        (role, *(shown(value, signed=True) for value in (values.mean(), *np.quantile(values, _TABLE_LEVELS))))
        for role, values in residuals.items()
    )
    title = "Quantiles of predicted - actual"
    return Table(title, columns, _first_is_text(len(columns)), rows)


def _first_is_text(columns: int) -> tuple[CellKind, ...]:
    return tuple("number" if column else "text" for column in range(columns))


def _diagonal(label: str) -> Curve:
    return Curve(label, "guide", (0, 1), (0, 1), "dashed")
