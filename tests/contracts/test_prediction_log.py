"""The prediction log port: the fake and the gateway's files keep the same promises."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taxiway.adapters.prediction_log import LogEntry, ParquetPredictionLog
from taxiway.domain.values import Window
from taxiway.gateway.log import LogWriter, compact
from taxiway.ports import PredictionLog
from tests.fakes_serving import LOG_COLUMNS, FakePredictionLog

NOW = datetime(2013, 7, 1, 12, 0, tzinfo=UTC)
JUNE = Window(datetime(2013, 6, 1, tzinfo=UTC), datetime(2013, 7, 1, tzinfo=UTC))
Add = Callable[[LogEntry], None]


@pytest.fixture(params=["fake", "segments", "parquet"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[PredictionLog, Add]:
    if request.param == "fake":
        fake = FakePredictionLog()
        return fake, lambda entry: fake.add("flight_delays", entry)
    writer = LogWriter(tmp_path, segment_bytes=10**6, segment_age=timedelta(hours=1))

    def add(entry: LogEntry) -> None:
        writer.write("flight_delays", entry)
        writer.close_segments(NOW, all_of_them=True)
        if request.param == "parquet":
            assert compact(writer.closed_segments()) == 1

    return ParquetPredictionLog(tmp_path), add


def test_nothing_logged(log: tuple[PredictionLog, Add]) -> None:
    """Without answers the frame is empty and has the log's columns."""
    frame = log[0].read("flight_delays", JUNE)

    assert list(frame.columns) == LOG_COLUMNS
    assert frame.empty


def test_row_is_kept_as_it_was_sent(log: tuple[PredictionLog, Add]) -> None:
    """A row has who asked, what was sent, what was answered, by whom, and how fast."""
    reader, add = log
    add(_entry(rows=[["f1", "2013-06-03T10:00:00", "AA", 3]], predictions=[0.25]))

    frame = reader.read("flight_delays", JUNE)

    assert frame.to_dict("records") == [
        {
            "request_id": "r1",
            "key": "f1",
            "event_time": pd.Timestamp("2013-06-03T10:00:00Z"),
            "logged_at": pd.Timestamp(NOW),
            "version": 7,
            "role": "champion",
            "prediction": 0.25,
            "latency_ms": 1.5,
            "id": "f1",
            "at": "2013-06-03T10:00:00",
            "carrier": "AA",
            "hour": 3,
        }
    ]


def test_features_that_nobody_named_are_left_out(log: tuple[PredictionLog, Add]) -> None:
    """Who names features gets those that somebody sent, beside the log's own columns, and not what else came."""
    reader, add = log
    add(_entry(rows=[["f1", "2013-06-03T10:00:00", "AA", 3]], predictions=[[0.25, 0.75]]))

    frame = reader.read("flight_delays", JUNE, ["hour", "never sent"])

    assert list(frame.columns) == [*LOG_COLUMNS, "hour"]
    assert (frame["hour"].item(), list(frame["prediction"].item())) == (3, [0.25, 0.75])


@pytest.mark.parametrize("predictions", [[[0.1, 0.7, 0.2], [1, 0, 0]], ["green", "red"], [1.5, None]])
def test_predictions_of_every_kind_are_kept(log: tuple[PredictionLog, Add], predictions: list[Any]) -> None:
    """Scores of classes, classes and numbers come back as they were answered."""
    reader, add = log
    at = "2013-06-03T10:00:00"
    add(_entry(rows=[["f1", at, "AA", 3], ["f2", at, "UA", 4]], predictions=predictions))

    found = reader.read("flight_delays", JUNE)["prediction"]

    assert [
        None if pd.api.types.is_scalar(value) and pd.isna(value) else _plain(value) for value in found
    ] == predictions


def test_window_is_half_open_and_ordered(log: tuple[PredictionLog, Add]) -> None:
    """Rows count by their event time: the start is in the window, the end is not."""
    reader, add = log
    times = ["2013-06-30T23:59:59.999Z", "2013-07-01T00:00:00Z", "2013-06-01T00:00:00Z", "2013-05-31T23:59:59Z"]
    add(_entry(rows=[[time, time, "AA", 1] for time in times], predictions=[1.0, 2.0, 3.0, 4.0]))

    assert list(reader.read("flight_delays", JUNE)["prediction"]) == [3.0, 1.0]
    assert reader.read("another_model", JUNE).empty


@pytest.mark.parametrize("time", [None, "tomorrow", True, [1], 1e30])
def test_row_without_time_counts_when_it_was_answered(log: tuple[PredictionLog, Add], time: Any) -> None:
    """Where the timestamp is missing or no time, the wall time stands in."""
    reader, add = log
    add(_entry(rows=[["f1", time, "AA", 1]], predictions=[0.5]))

    assert reader.read("flight_delays", JUNE).empty
    assert len(reader.read("flight_delays", Window(NOW, NOW + timedelta(seconds=1)))) == 1


@pytest.mark.parametrize("time", [1371031200000, "2013-06-12T12:00:00+02:00", "2013-06-12T10:00:00"])
def test_times_in_every_usual_form(log: tuple[PredictionLog, Add], time: Any) -> None:
    """Milliseconds, another time zone and no time zone mean the same moment."""
    reader, add = log
    add(_entry(rows=[["f1", time, "AA", 1]], predictions=[0.5]))

    assert list(reader.read("flight_delays", JUNE)["event_time"]) == [pd.Timestamp("2013-06-12T10:00:00Z")]


def test_requests_of_different_shape_fit_into_one_frame(log: tuple[PredictionLog, Add]) -> None:
    """Columns that only some callers sent are missing for the others."""
    reader, add = log
    add(_entry(rows=[["f1", "2013-06-03", "AA", 3]], predictions=[0.25]))
    add(_entry(columns=("at", "hour"), rows=[["2013-06-04", 2.5]], predictions=[0.5]))
    add(_entry(columns=("at", "hour"), rows=[["2013-06-05", None]], predictions=[1]))

    frame = reader.read("flight_delays", JUNE)

    assert list(frame["hour"].dropna()) == [3.0, 2.5]
    assert list(frame["carrier"].isna()) == [False, True, True]
    assert list(frame["prediction"]) == [0.25, 0.5, 1.0]


def test_features_of_mixed_types_become_text(tmp_path: Path) -> None:
    """What one caller sends as a number and another as text is readable as text, in one file and across files."""
    writer = LogWriter(tmp_path, segment_bytes=10**6, segment_age=timedelta(hours=1))
    for number, values in enumerate(([1, "two"], ["three", "four"], [5, 6])):
        rows = [["f", f"2013-06-0{number + 1}T00:00:0{index}", value, 1] for index, value in enumerate(values)]
        writer.write("flight_delays", _entry(rows=rows, predictions=[0.5] * len(rows)))
        writer.close_segments(NOW, all_of_them=True)
        if number < 2:
            compact(writer.closed_segments())

    carriers = ParquetPredictionLog(tmp_path).read("flight_delays", JUNE)["carrier"]

    assert list(carriers) == ["1", "two", "three", "four", "5", "6"]


def _entry(
    *, rows: list[list[Any]], predictions: list[Any], columns: tuple[str, ...] = ("id", "at", "carrier", "hour")
) -> LogEntry:
    return LogEntry(
        request_id="r1",
        logged_at=NOW,
        version=7,
        role="champion",
        latency_ms=1.5,
        key="id",
        timestamp="at",
        columns=columns,
        rows=rows,
        predictions=predictions,
    )


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | float) else list(value)
