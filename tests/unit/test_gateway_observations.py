"""What each version did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from taxiway.gateway.observations import Observations

NOW = datetime(2013, 7, 1, 12, 0, tzinfo=UTC)


def test_latencies_errors_and_mean() -> None:
    """Percentiles are over all requests, the mean is over the rows that were predicted."""
    observations = Observations()
    for latency in range(1, 100):
        observations.record("m", 1, "champion", at=NOW, latency_ms=latency, predictions=[0.0, 1.0])
    observations.record("m", 1, "champion", at=NOW, latency_ms=100, predictions=None)

    (seen,) = observations.observe("m", [1], NOW)

    assert (seen.requests, seen.errors) == (100, 1)
    assert (seen.latency_p50_ms, seen.latency_p99_ms) == (50, 99)
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
