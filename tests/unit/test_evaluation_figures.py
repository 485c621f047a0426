"""The evaluation as people read it: what the page of each kind of task shows, and that it shows what was measured."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as reference

from taxiway.adapters.evaluation_page import HtmlEvaluationPages
from taxiway.domain.charts import Chart, Figure, Matrix, Page, Table
from taxiway.domain.curves import MOST_POINTS
from taxiway.domain.evidence import Evidence, Verdict
from taxiway.errors import NotFoundError
from taxiway.stages.candidates import EVALUATION_PAGE
from taxiway.stages.evaluate import measure
from taxiway.stages.evaluation_charts import kind_figures, shown
from taxiway.stages.evaluation_figures import FIGURES, draw_evaluation, evaluation_page
from taxiway.stages.slices import slice_figures
from taxiway.stages.stored_predictions import HoldoutPredictions, stored_predictions
from tests.fakes_pages import FakeEvaluationPages
from tests.unit.evaluated_build import ALL_METRICS, ANSWERS, CLASSES, Evaluated, evaluated_with_champion, spec_for

pytestmark = pytest.mark.timeout(600)  # the first test may have to make the models' environment
KIND_FIGURES = {
    "binary": ["roc", "precision_recall", "calibration", "scores"],
    "scores": ["Classes of the candidate", "confusion_candidate", "confusion_champion", "calibration"],
    "labels": ["Classes of the candidate", "confusion_candidate", "confusion_champion"],
    "regression": ["Quantiles of predicted - actual", "residuals", "predicted_actual", "residual_histogram"],
}


@pytest.fixture(params=ANSWERS)
def evaluated(request: pytest.FixtureRequest, keys: tuple[Path, Path]) -> Evaluated:
    """A build of each kind of answers, evaluated against a champion."""
    return evaluated_with_champion(request.param, keys)[0]


@pytest.fixture
def page(evaluated: Evaluated) -> Page:
    """The page of the build."""
    pages = FakeEvaluationPages()
    draw_evaluation(evaluated.spec, evaluated.build, registry=evaluated.registry, pages=pages)
    return pages.written[0]


def section(page: Page, title: str) -> dict[str, Figure]:
    """Return the figures of a section by name."""
    (found,) = [each for each in page.sections if each.title == title]
    return {figure.title if isinstance(figure, Table) else figure.name: figure for figure in found.figures}


def test_every_kind_has_its_figures(evaluated: Evaluated, page: Page) -> None:
    """The page has what its kind of task is understood by, and two plots for the days of each metric."""
    days = [f"{name}_{what}" for name in ALL_METRICS[evaluated.answers] for what in ("by_day", "difference")]

    assert list(section(page, "The answers")) == KIND_FIGURES[evaluated.answers]
    assert list(section(page, "Day by day")) == days


def test_the_page_says_what_the_gate_asks(evaluated: Evaluated, page: Page) -> None:
    """Each comparison and the groups are judged, in the gate's own sentences, with the bounds of the difference."""
    (metrics,) = section(page, "Metrics").values()
    figures = evaluated.registry.get_json(evaluated.build.run_id, "taxiway/evaluation.json")["figures"]
    sentences = " ".join(check.reason for check in page.checks)

    assert (page.verdict, len(page.checks)) == (Verdict.PASSED, len(ALL_METRICS[evaluated.answers]) + 1)
    assert isinstance(metrics, Table)
    for (name, _, candidate, champion, _, lower, upper), figure in zip(
        metrics.rows, figures["metrics"].values(), strict=True
    ):
        interval = figure["interval"]
        assert (candidate, champion) == (shown(figure["candidate"]), shown(figure["champion"]))
        assert (lower, upper) == (shown(interval["lower"], signed=True), shown(interval["upper"], signed=True))
        assert f"{name} {figure['candidate']:.3f}" in sentences
    assert dict(page.facts)["Champion"] == "version 1"
    assert dict(page.facts)["Holdout"] == "400 rows of 10 days, 2013-03-01 to 2013-03-10"


def test_groups_are_listed_with_both_models(page: Page) -> None:
    """Each group has its rows, both values and a verdict; one that is too small has none."""
    (table,) = section(page, "Groups of rows").values()
    assert isinstance(table, Table)
    by_group = {row[:2]: row for row in table.rows}

    assert by_group["carrier", "<b>'&"][-1] == "too few rows"
    assert by_group["carrier", "missing"][-1] == by_group["gate", "missing"][-1] == "passed"
    assert all("-" not in row[3:5] for row in table.rows if row[-1] == "passed")


def test_page_and_pictures_are_stored_with_the_build(evaluated: Evaluated) -> None:
    """The stage leaves one page and its pictures in the run; a repeat leaves the same."""
    registry, run_id = evaluated.registry, evaluated.build.run_id

    def draw() -> dict[str, bytes]:
        assert (
            draw_evaluation(evaluated.spec, evaluated.build, registry=registry, pages=HtmlEvaluationPages())
            == EVALUATION_PAGE
        )
        files = registry.runs[run_id].files
        return {name: content for name, content in files.items() if name == EVALUATION_PAGE or name.startswith(FIGURES)}

    first = draw()

    assert len(first) > 5
    assert b"&lt;b&gt;&#39;&amp;" in first[EVALUATION_PAGE]
    assert draw() == first


def test_without_predictions_there_is_nothing_to_draw(keys: tuple[Path, Path]) -> None:
    """A build that was not evaluated says that the file is not there."""
    found = Evaluated("binary", keys)

    with pytest.raises(NotFoundError):
        draw_evaluation(found.spec, found.build, registry=found.registry, pages=FakeEvaluationPages())


def page_of(answers: str, rows: HoldoutPredictions, **changes: Any) -> Page:
    """Return the page about predictions that no model made."""
    spec = spec_for(answers, **changes)
    frame = pd.DataFrame({"truth": rows.labels, "at": rows.times, "carrier": "AA", "gate": 9.0})
    figures: dict[str, Any] = {
        "champion": None if rows.champion is None else 1,
        "metrics": measure(spec, frame, rows.candidate, rows.champion),
        "slices": slice_figures(spec, frame, rows.candidate, rows.champion),
        "latency_p99_ms": 1.0,
        "size_mb": 1.0,
    }
    evidence = Evidence("evaluation", Verdict.PASSED, datetime(2013, 7, 1, tzinfo=UTC), figures=figures)
    return evaluation_page(spec, evaluated_build(), evidence, rows)


def evaluated_build() -> Any:
    from taxiway.stages.build import Build

    return Build("delays", "commit-1", "run", "1" * 40, "ds@example.com", "sha256:s", "sha256:l", "commit", "ds")


def made_up(answers: str, count: int, *, champion: bool = True, days: int = 20) -> HoldoutPredictions:
    """Return many rows of any kind."""
    rng = np.random.default_rng(1)
    times = pd.Series(pd.date_range("2012-01-01", periods=count, freq=timedelta(days=days) / count, tz="UTC"))
    if answers == "binary":
        labels, make = rng.integers(0, 2, count), lambda: np.round(rng.random(count), 6)
    elif answers == "regression":
        labels, make = rng.normal(0, 1e6, count), lambda: labels + rng.normal(0, 1e5, count)
    else:
        labels, make = rng.choice(np.array(CLASSES, dtype=object), count), lambda: rng.dirichlet([1, 1, 1], count)
    return HoldoutPredictions(times, labels, make(), make() if champion else None)


@pytest.mark.parametrize("answers", ["binary", "scores", "regression"])
def test_plots_of_large_holdouts_stay_small(answers: str) -> None:
    """However many rows and days there are, no curve has more than 500 points."""
    found = page_of(answers, made_up(answers, 30_000, days=700))

    lengths = {
        f"{chart.name} {curve.label}": len(curve.x)
        for chart in found.drawings
        if isinstance(chart, Chart)
        for curve in chart.curves
    }
    assert max(lengths.values()) <= MOST_POINTS
    assert min(len(name) for name in lengths) > 0


@pytest.mark.parametrize("answers", ["binary", "scores", "regression"])
def test_a_first_model_is_shown_alone(answers: str) -> None:
    """Without a champion nothing is compared, and nothing is made up."""
    found = page_of(answers, made_up(answers, 2000, champion=False))

    roles = {curve.role for chart in found.drawings if isinstance(chart, Chart) for curve in chart.curves}
    assert "champion" not in roles
    assert not [chart.name for chart in found.drawings if "difference" in chart.name or "champion" in chart.name]
    assert dict(found.facts)["Champion"] == "none: nothing serves yet"


def test_one_day_has_no_bounds() -> None:
    """A holdout of one day is drawn, and the difference says that nothing bounds it."""
    found = page_of("binary", made_up("binary", 200, days=1))

    notes = {chart.name: chart.note for chart in found.drawings}
    assert notes["roc_auc_difference"].endswith("without bounds.")
    assert dict(found.facts)["Holdout"] == "200 rows of 1 day, 2012-01-01 to 2012-01-01"


def test_a_champion_that_could_not_be_measured_is_named(keys: tuple[Path, Path]) -> None:
    """The page says who serves, and that it was not measured; the comparison is open."""
    evaluated, evidence = evaluated_with_champion("binary", keys)
    figures: Any = {**evidence.figures, "champion_problem": "version 1: it needs dep_hour"}
    figures["metrics"] = {name: {"candidate": each["candidate"]} for name, each in figures["metrics"].items()}
    rows = replace(stored_predictions(evaluated.registry, evaluated.build.run_id), champion=None)

    found = evaluation_page(evaluated.spec, evaluated.build, replace(evidence, figures=figures), rows)

    assert found.verdict is Verdict.INCONCLUSIVE
    assert dict(found.facts)["Champion"] == "version 1, which could not be measured"
    assert "it needs dep_hour" in found.checks[0].reason


def test_confusion_is_that_of_scikit_learn() -> None:
    """Counts of true and predicted classes, and the figures of each class, are scikit-learn's."""
    rows = made_up("scores", 500)
    guesses = np.array(CLASSES)[rows.candidate.argmax(axis=1)]

    table, matrix, *_ = kind_figures(spec_for("scores").task, rows)

    assert isinstance(matrix, Matrix)
    assert isinstance(table, Table)
    assert np.array(matrix.counts).tolist() == reference.confusion_matrix(rows.labels, guesses).tolist()
    recalls = reference.recall_score(rows.labels, guesses, average=None)
    assert [row[4] for row in table.rows] == [f"{recall:.4f}" for recall in recalls]


def test_of_many_classes_the_most_frequent_are_drawn() -> None:
    """A matrix has twelve classes at most, and says of how many; the table has all of them."""
    classes = tuple(range(40))
    labels = np.repeat(classes, np.arange(1, 41))
    task = spec_for("labels").task.model_copy(update={"classes": classes})
    times = pd.Series(pd.date_range("2012-01-01", periods=len(labels), freq="h", tz="UTC"))

    table, matrix = kind_figures(task, HoldoutPredictions(times, labels, labels, None))

    assert isinstance(matrix, Matrix)
    assert isinstance(table, Table)
    assert (matrix.labels, len(table.rows)) == (tuple(map(str, range(28, 40))), 40)
    assert matrix.note.endswith("The 12 most frequent of 40 classes.")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.71234, "0.7123"), (12.3456, "12.35"), (1234.5, "1,234"), (-0.000001, "0.0000"), (None, "-"), (np.nan, "-")],
)
def test_figures_have_four_digits(value: float | None, text: str) -> None:
    """A figure is as long as it can be read, and what rounds to nothing is not negative."""
    assert shown(value) == text
