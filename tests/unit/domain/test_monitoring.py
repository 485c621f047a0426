"""Monitoring: quality, drift and performance are judged apart, and only two of them ask for retraining."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from taxiway.domain.evidence import Verdict
from taxiway.domain.monitoring import ColumnFigures, MonitoringPolicy, WindowFigures, assess

POLICY = MonitoringPolicy(
    metric="roc_auc",
    max_drop=0.03,
    min_labels=1000,
    column_psi=0.2,
    drifted_share=0.5,
    prediction_psi=0.25,
    max_missing={"temp": 0.1},
    retrain_on=frozenset({"performance", "drift"}),
)
CALM = ColumnFigures(psi=0.01, noise=0.02, missing=0.0, reference_missing=0.0)
MOVED = replace(CALM, psi=0.9)
GOOD = WindowFigures(
    predictions=5000,
    answered=5000,
    labelled=4000,
    columns={"temp": CALM, "wind": CALM, "carrier": CALM},
    prediction=CALM,
    metric=0.70,
    reference_metric=0.71,
)


def with_column(name: str, column: ColumnFigures, figures: WindowFigures = GOOD) -> WindowFigures:
    return replace(figures, columns={**figures.columns, name: column})


def test_good_window_passes_without_a_word() -> None:
    """A window within all limits passes, asks for nothing, alerts nobody and needs no reasons."""
    found = assess(GOOD, POLICY)

    assert (found.verdict, found.asks, found.alert, found.reasons) == (Verdict.PASSED, (), False, ())


def test_drift_of_the_inputs_alone_warns() -> None:
    """Inputs that moved are a warning with their names, the furthest first, and no request for retraining."""
    found = assess(with_column("wind", replace(CALM, psi=0.3), with_column("temp", MOVED)), POLICY)

    assert found.drift.verdict is Verdict.INCONCLUSIVE
    assert found.drift.reasons == ("2 of 3 inputs drifted (PSI): temp 0.90, wind 0.30",)
    assert (found.asks_retraining, found.alert) == (False, True)


def test_fewer_drifted_columns_than_the_share_are_no_news() -> None:
    """One of three columns is below the share of a half."""
    assert assess(with_column("temp", MOVED), POLICY).drift.verdict is Verdict.PASSED


def test_drift_within_the_noise_does_not_count() -> None:
    """A column whose days differ that much anyway has not drifted, however low the policy's limit is."""
    noisy = replace(MOVED, noise=1.2)

    found = assess(with_column("wind", noisy, with_column("temp", noisy)), replace(POLICY, column_psi=0.01))

    assert found.drift.verdict is Verdict.PASSED


def test_moved_predictions_ask_for_retraining() -> None:
    """Predictions at the policy's limit ask for retraining because of drift."""
    found = assess(replace(GOOD, prediction=replace(CALM, psi=0.25)), POLICY)

    assert (found.drift.verdict, found.asks) == (Verdict.FAILED, ("drift",))


def test_loss_of_performance_asks_for_retraining() -> None:
    """A loss beyond the policy, on enough labels, asks for retraining with the figures."""
    found = assess(replace(GOOD, metric=0.66), POLICY)

    assert (found.performance.verdict, found.asks, found.alert) == (Verdict.FAILED, ("performance",), True)
    assert found.reasons == ("roc_auc is 0.6600, worse than the reference's 0.7100 by 0.0500; policy 0.03",)


@pytest.mark.parametrize(("now", "verdict"), [(0.20, Verdict.FAILED), (0.10, Verdict.PASSED)])
def test_direction_of_the_metric_is_known(now: float, verdict: Verdict) -> None:
    """A larger error is worse and a smaller one is better."""
    figures = replace(GOOD, metric=now, reference_metric=0.15)

    assert assess(figures, replace(POLICY, metric="brier")).performance.verdict is verdict


def test_too_few_labels_decide_nothing() -> None:
    """Before enough labels are known a terrible metric asks for nothing, and nobody is alerted."""
    found = assess(replace(GOOD, metric=0.4, labelled=999), POLICY)

    assert (found.performance.verdict, found.asks, found.alert) == (Verdict.INCONCLUSIVE, (), False)
    assert found.reasons == ("999 labels are known; 1000 are needed to judge roc_auc",)


@pytest.mark.parametrize("undefined", [None, float("nan")])
def test_undefined_metric_decides_nothing(undefined: float | None) -> None:
    """Labels of one class only define no AUC, in the window or in the reference."""
    for figures in (replace(GOOD, metric=undefined), replace(GOOD, reference_metric=undefined)):
        assert assess(figures, POLICY).performance.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (replace(CALM, missing=0.2), "temp: 20.0% missing is more than 10.0%"),
        (replace(CALM, out_of_range=0.02), "temp: 2.0% of the values are out of range"),
    ],
)
def test_broken_column_fails_quality(column: ColumnFigures, reason: str) -> None:
    """Missing values beyond the spec's check, and values out of their range, are broken data."""
    found = assess(with_column("temp", column), POLICY)

    assert (found.quality.verdict, found.quality.reasons, found.alert) == (Verdict.FAILED, (reason,), True)


def test_column_that_vanished_is_broken_data() -> None:
    """A column without any value is broken, unless the reference never had one either."""
    gone = replace(CALM, missing=1.0)

    assert assess(with_column("wind", gone), POLICY).quality.reasons == ("wind: every value is missing",)
    assert assess(with_column("wind", replace(gone, reference_missing=1.0)), POLICY).quality.verdict is Verdict.PASSED


def test_missing_predictions_are_broken_data() -> None:
    """An answer that is no number is a fault of the service and not drift."""
    found = assess(replace(GOOD, prediction=replace(CALM, missing=0.001)), POLICY)

    assert found.quality.verdict is Verdict.FAILED


def test_broken_data_never_asks_for_retraining() -> None:
    """With broken data neither a loss nor moved predictions ask for retraining, and the evidence says why."""
    figures = with_column("temp", replace(CALM, missing=0.5), replace(GOOD, metric=0.5, prediction=MOVED))

    found = assess(figures, POLICY)

    assert (found.performance.verdict, found.drift.verdict) == (Verdict.FAILED, Verdict.FAILED)
    assert found.asks == ()
    assert "no retraining for performance and drift: the data is broken" in found.reasons


@pytest.mark.parametrize("allowed", [frozenset(), frozenset({"performance"}), frozenset({"drift"})])
def test_only_the_causes_of_the_policy_ask(allowed: frozenset[str]) -> None:
    """A cause that the spec's retraining.on leaves out fails its verdict and asks for nothing."""
    found = assess(replace(GOOD, metric=0.5, prediction=MOVED), replace(POLICY, retrain_on=allowed))

    assert set(found.asks) == allowed
    assert (found.performance.verdict, found.drift.verdict) == (Verdict.FAILED, Verdict.FAILED)


def test_performance_comes_before_drift() -> None:
    """With both causes the loss is named first: it is the one that labels prove."""
    assert assess(replace(GOOD, metric=0.5, prediction=MOVED), POLICY).asks == ("performance", "drift")


def test_window_that_another_version_answered_says_nothing_about_predictions() -> None:
    """Without answers of the champion there is no drift of predictions and no performance to judge."""
    found = assess(replace(GOOD, answered=0, labelled=0, prediction=None, metric=None), POLICY)

    assert (found.drift.verdict, found.performance.verdict) == (Verdict.PASSED, Verdict.INCONCLUSIVE)


@pytest.mark.parametrize("figures", [GOOD, replace(GOOD, prediction=None, metric=None)])
def test_figures_survive_json(figures: WindowFigures) -> None:
    """Figures read back from their JSON text are the same."""
    assert WindowFigures.from_json(json.loads(json.dumps(figures.to_json()))) == figures
