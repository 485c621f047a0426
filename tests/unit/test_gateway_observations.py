"""What each version did."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from taxiway.domain.observation import CONCORDANCE, EQUAL, VersionObservation
from taxiway.gateway.observations import Observations

NOW = datetime(2013, 7, 1, 12, 0, tzinfo=UTC)


def test_latencies_errors_and_mean() -> None:
    """Percentiles are over all requests, the mean is over the rows that were predicted."""
    observations = Observations()
    for latency in range(1, 101):
        observations.record("m", 1, "champion", at=NOW, latency_ms=latency, predictions=[0.0, 1.0])
    observations.record("m", 1, "champion", at=NOW, latency_ms=100, predictions=None)

    (seen,) = observations.observe("m", [1], NOW)

    assert (seen.requests, seen.errors) == (101, 1)
    assert (seen.latencies.quantile(0.5), seen.latencies.quantile(0.99)) == pytest.approx((50, 99), rel=0.02)
    assert seen.prediction_mean == 0.5


def test_only_what_happened_since() -> None:
    """Requests before the moment do not count."""
    observations = Observations()
    for minutes in (0, 1, 2):
        at = NOW + timedelta(minutes=minutes)
        observations.record("m", 1, "champion", at=at, latency_ms=1, predictions=[float(minutes)])

    (seen,) = observations.observe("m", [1], NOW + timedelta(minutes=1))

    assert (seen.requests, seen.prediction_mean) == (2, 1.5)


def test_predictions_without_a_mean() -> None:
    """Classes, score lists and missing numbers have no mean."""
    observations = Observations()
    for predictions in (["late"], [[0.1, 0.9]], [float("nan")], [None]):
        observations.record("m", 1, "champion", at=NOW, latency_ms=1, predictions=predictions)

    (seen,) = observations.observe("m", [1], NOW)

    assert (seen.requests, seen.errors, seen.prediction_mean) == (4, 0, None)
    assert seen.predictions is not None
    assert dict(zip(seen.predictions.bins.labels, seen.predictions.counts, strict=True)) == {
        "class 1": 1,
        "late": 1,
        "other": 0,
        "missing": 2,
    }


def test_a_moment_is_counted_on_from_the_first_question() -> None:
    """What the newest requests no longer show is still counted for a moment that was asked about in time."""
    observations = Observations()
    answer(observations, 10, [0.5])
    (seen,) = observations.observe("m", [1], NOW)
    assert seen.requests == 10

    answer(observations, 20_000, [0.5])

    (known,) = observations.observe("m", [1], NOW)
    (late,) = observations.observe("m", [1], NOW - timedelta(minutes=1))
    assert (known.requests, late.requests) == (20_010, 10_000)
    assert known.predictions is not None
    assert known.predictions.rows < 5_000


def test_the_moments_that_nobody_asks_about_are_forgotten() -> None:
    """A bounded number of moments is summed up; one that comes again counts what is still known."""
    observations = Observations()
    observations.observe("m", [1], NOW)
    answer(observations, 12_000, [0.5])
    for minutes in range(1, 5):
        observations.observe("m", [1], NOW - timedelta(minutes=minutes))

    (seen,) = observations.observe("m", [1], NOW)

    assert seen.requests == 10_000


def test_dropped_copies_are_no_errors() -> None:
    """A copy that a shadow was not sent is counted by itself, and shows in the metrics."""
    observations = Observations()
    observations.drop("m", 2, "shadow", at=NOW)

    (seen,) = observations.observe("m", [2], NOW)

    assert (seen.requests, seen.errors, seen.dropped) == (0, 0, 1)
    assert (
        'taxiway_requests_total{model="m",version="2",role="shadow",outcome="dropped"} 1' in observations.prometheus()
    )


def test_predictions_are_counted_on_the_champions_bins() -> None:
    """Both versions' numbers are on the same bins, which the champion's fix."""
    observations = Observations()
    for number in range(100):
        observations.record("m", 1, "champion", at=NOW, latency_ms=1, predictions=[number / 100])
        observations.record("m", 2, "canary", at=NOW, latency_ms=1, predictions=[5 + number / 100])

    champion, canary = observations.observe("m", [1, 2], NOW)

    assert champion.predictions is not None
    assert canary.predictions is not None
    assert champion.predictions.bins == canary.predictions.bins
    assert canary.predictions.counts[-2] == 100  # all above the champion's range
    assert max(champion.predictions.counts) == 10


@pytest.mark.parametrize(
    ("champion", "shadow", "measure", "value"),
    [
        ([0.1, 0.2, 0.9], [0.1, 0.2, 0.9], CONCORDANCE, 1.0),
        ([0.1, 0.2, 0.9], [0.1, None, 0.9], CONCORDANCE, 2 / 3),
        ([0.1, 0.2, 0.9], ["a", "b", "c"], CONCORDANCE, 0.0),
        (["a", "b"], ["a", "a"], EQUAL, 0.5),
        ([0, 1, 1, 1], [0, 1, 1, 0], EQUAL, 0.75),
        ([[0.2, 0.8]], [[0.4, 0.6]], EQUAL, 1.0),
        ([True, False], [True, True], EQUAL, 0.5),
    ],
)
def test_agreement(champion: list[object], shadow: list[object], measure: str, value: float) -> None:
    """Answers to the same request are compared by what they are: numbers, classes, or scores per class."""
    observations = Observations()
    observations.record("m", 1, "champion", at=NOW, latency_ms=1, predictions=champion)
    observations.record("m", 2, "shadow", at=NOW, latency_ms=1, predictions=shadow)
    observations.pair("m", 2, at=NOW, champion=champion, predictions=shadow)

    _, seen = observations.observe("m", [1, 2], NOW)

    assert seen.agreement is not None
    assert (seen.agreement.requests, seen.agreement.measure) == (1, measure)
    assert seen.agreement.value == pytest.approx(value)


def test_an_observation_survives_its_way_over_http() -> None:
    """What is written as JSON is read as the same."""
    observations = Observations()
    answer(observations, 3, [0.5, 0.7])
    observations.pair("m", 1, at=NOW, champion=[0.5], predictions=[0.4])
    (seen,) = observations.observe("m", [1], NOW)

    assert VersionObservation.from_json(seen.to_json()) == seen


def answer(observations: Observations, requests: int, predictions: list[float]) -> None:
    """Let the champion answer so many requests."""
    for _ in range(requests):
        observations.record("m", 1, "champion", at=NOW, latency_ms=1, predictions=predictions)


def test_unused_and_forgotten_versions_have_zeros() -> None:
    """A version without requests, or one that was undeployed, starts from nothing."""
    observations = Observations()
    observations.record("m", 1, "champion", at=NOW, latency_ms=1, predictions=[1])
    observations.forget("m", 1)

    assert [(item.version, item.requests) for item in observations.observe("m", [1, 2], NOW)] == [(1, 0), (2, 0)]
    assert "version" not in observations.prometheus()


def test_prometheus_text() -> None:
    """Counters and a cumulative histogram are in Prometheus' text format."""
    observations = Observations()
    observations.record("m", 1, "champion", at=NOW, latency_ms=4, predictions=[1])
    observations.record("m", 1, "canary", at=NOW, latency_ms=40, predictions=None)
    lines = observations.prometheus().splitlines()

    assert 'taxiway_requests_total{model="m",version="1",role="champion",outcome="ok"} 1' in lines
    assert 'taxiway_requests_total{model="m",version="1",role="canary",outcome="error"} 1' in lines
    assert 'taxiway_request_seconds_bucket{model="m",version="1",le="0.005"} 1' in lines
    assert 'taxiway_request_seconds_bucket{model="m",version="1",le="0.05"} 2' in lines
    assert 'taxiway_request_seconds_bucket{model="m",version="1",le="+Inf"} 2' in lines
    assert 'taxiway_request_seconds_sum{model="m",version="1"} 0.044000' in lines


def test_long_texts_stay_different_and_short() -> None:
    """Texts that differ only at their end are different classes, whose names a person can read."""
    observations = Observations()
    texts = ["x" * 1_000_000 + end for end in ("a", "b")]
    observations.record("m", 1, "champion", at=NOW, latency_ms=1, predictions=texts)
    observations.pair("m", 1, at=NOW, champion=texts, predictions=[texts[0], texts[0]])

    (seen,) = observations.observe("m", [1], NOW)

    assert seen.predictions is not None
    assert seen.predictions.counts == (1, 1, 0, 0)
    assert max(map(len, seen.predictions.bins.labels)) < 150
    assert seen.agreement is not None
    assert seen.agreement.value == 0.5


@pytest.mark.parametrize("prediction", ["x" * 100_000, 2**800_000], ids=["text", "integer"])
def test_what_is_kept_of_a_prediction_is_small(prediction: str | int) -> None:
    """A version's answers take little memory, however long each is."""
    observations = Observations()
    tracemalloc.start()
    try:
        for number in range(300):
            fresh = f"{prediction}{number}" if isinstance(prediction, str) else prediction * (number + 1)
            observations.record("m", 1, "champion", at=NOW, latency_ms=1, predictions=[fresh])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 3_000_000


def test_a_number_that_no_float_holds_is_counted() -> None:
    """Whatever was answered can be counted; what is no usual number has no part in the mean."""
    observations = Observations()
    observations.record("m", 1, "champion", at=NOW, latency_ms=1, predictions=[10**401, 0.5, 2**70])

    (seen,) = observations.observe("m", [1], NOW)

    assert (seen.requests, seen.errors, seen.prediction_mean) == (1, 0, (0.5 + 2**70) / 2)
