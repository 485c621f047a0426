"""The monitoring stage: a window of answers and late labels becomes figures, evidence and, if need be, an alert."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.domain.monitoring import WindowFigures
from taxiway.domain.values import Window
from taxiway.errors import DataError
from taxiway.ports import ReportColumns
from taxiway.stages.monitor import Collected, MonitoringResult, collect, publish, report, resolve_window
from tests.unit.monitored_model import MAY, MODEL, Production, flights

FOLDER = "taxiway/monitoring/2013-05-29"


@pytest.fixture
def production() -> Production:
    found = Production()
    found.promote()
    return found


def monitor(production: Production, window: Window = MAY, as_of: datetime | None = None) -> MonitoringResult | None:
    """Take the three steps of a window, as the DAG does."""
    p, known = production, as_of or window.end + timedelta(days=1)
    collected = collect(p.spec, window, as_of=known, registry=p.registry, predictions=p.log, data=p.data)
    if collected is None:
        return None
    result = publish(p.spec, collected, registry=p.registry, notifier=p.notifier, clock=p.clock)
    report(p.spec, collected, registry=p.registry, reports=p.reports)
    return result


def watched(production: Production, as_of: datetime | None = None) -> MonitoringResult:
    found = monitor(production, as_of=as_of)
    assert found is not None
    return found


def columns_of_report(production: Production) -> tuple[ReportColumns, pd.DataFrame]:
    columns, _, current = production.reports.written[-1]
    return columns, current


def test_calm_window_passes_and_is_kept_as_evidence(production: Production) -> None:
    """Traffic like the reference passes; evidence, figures and report are with the champion; nobody is bothered."""
    production.answer(flights(MAY))

    found = watched(production)
    run = production.registry.runs[found.window.run_id]
    evidence = Evidence.from_json(production.registry.get_json(found.window.run_id, f"{FOLDER}.json"))

    assert (found.verdict, found.asks_retraining, found.reasons) == (Verdict.PASSED, False, ())
    assert (evidence.stage, evidence.verdict, evidence.subject["version"]) == ("monitoring", Verdict.PASSED, "1")
    assert {f"{FOLDER}/{name}" for name in ("figures.json", "profiles.json", "report.html", "report.json")} < set(
        run.files
    )
    assert production.notifier.sent == []


def test_figures_say_what_was_measured(production: Production) -> None:
    """Counts, coverage, PSI of inputs and predictions, and the metric of window and reference are in the result."""
    production.answer(flights(MAY))

    figures = watched(production).figures
    logged = production.registry.runs[production.registry.candidate(MODEL, 1).run_id].metrics

    assert (figures["predictions"], figures["answered"], figures["labelled"], figures["coverage"]) == (560, 560, 560, 1)
    assert set(figures["psi"]) == {"temp", "carrier"}
    assert figures["metric"] == "roc_auc"
    assert figures["value"] == pytest.approx(figures["reference"], abs=0.06)
    assert logged["monitoring_roc_auc"] == figures["value"]
    assert logged["monitoring_prediction_psi"] == figures["prediction_psi"]


def test_result_is_small_json(production: Production) -> None:
    """What a task returns is JSON of at most some kilobytes, and names window, evidence and report."""
    production.answer(flights(MAY))

    document = json.loads(json.dumps(watched(production).to_json()))

    assert len(json.dumps(document)) < 4000
    assert (document["start"], document["end"]) == (MAY.start.isoformat(), MAY.end.isoformat())
    assert (document["evidence"], document["report"]) == (f"{FOLDER}.json", f"{FOLDER}/report.html")


def test_repeat_gives_the_same_evidence(production: Production) -> None:
    """The same window, log and labels give the same files, byte for byte."""
    production.answer(flights(MAY, temp=30.0))
    first = watched(production)
    before = dict(production.registry.runs[first.window.run_id].files)

    second = watched(production)

    assert second == first
    assert production.registry.runs[first.window.run_id].files == before


def test_without_champion_there_is_nothing_to_watch() -> None:
    """A model that is not in production yet is no error."""
    assert monitor(Production()) is None


def test_window_without_traffic_is_an_error_that_says_what_to_do(production: Production) -> None:
    """Nothing answered, or answered by the shadow only, cannot be judged."""
    production.answer(flights(MAY), role="shadow", version=2)

    with pytest.raises(DataError, match="production answered nothing") as failure:
        monitor(production)

    assert "choose a window with traffic" in failure.value.next_step


def test_loss_that_late_labels_show_asks_for_retraining_and_alerts(production: Production) -> None:
    """A model that lost its skill asks for retraining because of performance, and the owners hear of it."""
    rows = flights(MAY)
    production.answer(rows.assign(prediction=rows["prediction"].sample(frac=1, random_state=1).to_numpy()))

    found = watched(production)

    assert (found.verdict, found.cause) == (Verdict.FAILED, "performance")
    assert [(sent.event, sent.model) for sent in production.notifier.sent] == [("monitoring_alert", MODEL)]
    assert "roc_auc" in production.notifier.sent[0].text


def test_moved_predictions_ask_for_retraining(production: Production) -> None:
    """Predictions that moved beyond policy ask for retraining before any label says so."""
    rows = flights(MAY)

    production.answer(rows.assign(prediction=rows["prediction"] ** 4))

    assert watched(production, as_of=MAY.start).cause == "drift"


def test_moved_inputs_only_warn(production: Production) -> None:
    """A warm month moves an input: a warning for the owners and no retraining."""
    production.answer(flights(MAY, temp=30.0))

    found = watched(production)

    assert (found.verdict, found.asks_retraining) == (Verdict.INCONCLUSIVE, False)
    assert found.figures["drifted"] == ["temp"]
    assert len(production.notifier.sent) == 1


def test_broken_data_never_asks_for_retraining(production: Production) -> None:
    """A feed in Fahrenheit is out of range: the loss that follows is no reason to train on it."""
    rows = flights(MAY)
    broken = rows.assign(temp=rows["temp"] * 9 / 5 + 60, prediction=0.9)

    production.answer(broken)
    found = watched(production)

    assert (found.verdict, found.asks_retraining) == (Verdict.FAILED, False)
    assert "temp" in found.reasons[0]


def test_repeat_alerts_once(production: Production) -> None:
    """A task that runs again tells the owners nothing that they know, and something that is new."""
    production.answer(flights(MAY, temp=30.0))
    for _ in range(2):
        watched(production)
    told_once = len(production.notifier.sent)
    production.answer(flights(MAY, temp=40.0), hour=1)
    watched(production)

    assert (told_once, len(production.notifier.sent)) == (1, 2)


def test_labels_count_once_they_are_due(production: Production) -> None:
    """Only rows whose label is known at `as_of` are judged, even when the dataset has the label already."""
    production.answer(flights(MAY))

    halfway = watched(production, as_of=MAY.start + timedelta(days=15))

    assert halfway.figures["labelled"] == pytest.approx(14 * 20, abs=1)
    assert halfway.figures["coverage"] == pytest.approx(0.5, abs=0.01)


def test_early_window_waits_for_its_labels(production: Production) -> None:
    """Without labels the performance is open; quality and drift are judged; the report leaves performance out."""
    production.answer(flights(MAY))

    found = watched(production, as_of=MAY.start)
    columns, current = columns_of_report(production)

    assert (found.figures["performance"], found.figures["drift"], found.figures["value"]) == (
        "inconclusive",
        "passed",
        None,
    )
    assert columns.label is None
    assert "late" not in current


def test_rows_without_label_or_key_are_not_judged(production: Production) -> None:
    """A cancelled flight has no label; a request without key cannot be joined; both are still predictions."""
    rows = flights(MAY)
    production.data.frame = rows.assign(late=rows["late"].where(rows.index >= 60))
    production.answer(rows.assign(flight=rows["flight"].astype("Int64").where(rows.index < 500)))

    figures = watched(production).figures

    assert (figures["predictions"], figures["labelled"]) == (560, 440)


def test_newest_production_answer_of_a_key_counts(production: Production) -> None:
    """Of retries the last answer counts, the shadow's never does."""
    rows = flights(MAY)
    production.answer(rows.assign(prediction=0.99), hour=1)
    production.answer(rows, hour=2)
    production.answer(rows.assign(prediction=0.01), role="shadow", version=2, hour=3)

    figures = watched(production).figures

    assert figures["predictions"] == 560
    assert figures["value"] == pytest.approx(figures["reference"], abs=0.06)


def test_only_the_champions_own_answers_are_its_performance(production: Production) -> None:
    """What the version before answered in the window moves neither the champion's metric nor its predictions' PSI."""
    rows = flights(MAY)
    production.answer(rows.head(260).assign(prediction=1 - rows["prediction"]), version=7)
    production.answer(rows.tail(200), version=1, role="champion")
    production.answer(rows.iloc[260:360], version=1, role="canary")

    figures = watched(production).figures

    assert (figures["predictions"], figures["answered"], figures["labelled"]) == (560, 300, 300)
    assert figures["value"] == pytest.approx(figures["reference"], abs=0.08)
    assert figures["performance"] == "passed"


def test_window_that_another_version_answered_is_measured_for_drift_only(production: Production) -> None:
    """A backfill of an old window has inputs to compare, and nothing to say about the champion's answers."""
    production.answer(flights(MAY), version=7)

    found = watched(production)

    assert (found.figures["answered"], found.figures["value"], found.figures["prediction_psi"]) == (0, None, None)
    assert found.asks_retraining is False


def test_values_arrive_as_callers_send_them(production: Production) -> None:
    """Numbers sent as text, holes, and a column that is not sent at all are measured and not tripped over."""
    rows = flights(MAY)
    sent = rows.assign(temp=[str(value) if index % 10 else None for index, value in enumerate(rows["temp"])])
    production.answer(sent.drop(columns="carrier"))

    found = watched(production)
    figures = WindowFigures.from_json(production.registry.get_json(found.window.run_id, f"{FOLDER}/figures.json"))

    assert figures.columns["temp"].missing == pytest.approx(0.1)
    assert figures.columns["carrier"].missing == 1
    assert found.reasons[0] == "carrier: every value is missing"


def test_report_gets_a_bounded_sample_in_plain_types(production: Production) -> None:
    """People's report is made of the spec's number of rows, with float64, text and int64 labels."""
    production.answer(flights(MAY))
    watched(production)

    columns, current = columns_of_report(production)

    assert len(current) == 100
    assert (columns.numerical, columns.categorical, columns.label) == (("temp", "prediction"), ("carrier",), "late")
    assert [str(kind) for kind in current.dtypes] == ["float64", "float64", "object", "int64"]


def test_steps_work_from_references_alone(production: Production) -> None:
    """A step on another machine needs only the JSON that the step before returned, and the registry."""
    p = production
    p.answer(flights(MAY))
    collected = collect(p.spec, MAY, as_of=MAY.end, registry=p.registry, predictions=p.log, data=p.data)
    assert collected is not None

    again = Collected(**json.loads(json.dumps(collected.to_json())))
    found = publish(p.spec, again, registry=p.registry, notifier=p.notifier, clock=p.clock)

    assert again == collected
    assert found.verdict is Verdict.PASSED


def test_window_ends_with_the_newest_data_unless_told_otherwise(production: Production) -> None:
    """Without bounds the window has the spec's length and ends with the data; each bound can be named."""
    p, newest = production, production.data.newest()
    first, last = datetime(2013, 5, 3, tzinfo=UTC), datetime(2013, 5, 10, tzinfo=UTC)

    assert resolve_window(p.spec, p.data) == Window(newest - timedelta(days=28), newest)
    assert resolve_window(p.spec, p.data, data_end=last) == Window(last - timedelta(days=28), last)
    assert resolve_window(p.spec, p.data, first, last) == Window(first, last)
    with pytest.raises(DataError, match="would start"):
        resolve_window(p.spec, p.data, last, first)


def test_windows_that_end_at_different_hours_are_kept_apart(production: Production) -> None:
    """Hourly monitoring keeps one evidence per window, not one per day."""
    production.answer(flights(MAY))
    noon = replace(MAY, end=datetime(2013, 5, 28, 12, tzinfo=UTC))

    found = monitor(production, noon)

    assert found is not None
    assert found.window.evidence == "taxiway/monitoring/2013-05-28T1200.json"
