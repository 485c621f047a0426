"""The prediction log's files: no row is missed or doubled, whenever the gateway compacts or dies."""

from __future__ import annotations

import os
import resource
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from taxiway.adapters.prediction_log import LogEntry, ParquetPredictionLog, segment_tables
from taxiway.domain.values import Window
from taxiway.gateway.log import LogWriter, compact

NOW = datetime(2013, 7, 1, 12, 0, tzinfo=UTC)
ALL = Window(datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC))
MODEL = "flight_delays"


@pytest.fixture
def writer(tmp_path: Path) -> LogWriter:
    return LogWriter(tmp_path, segment_bytes=2000, segment_age=timedelta(hours=1))


def test_written_row_is_in_a_file_at_once(writer: LogWriter, tmp_path: Path) -> None:
    """A reader sees a row as soon as `write` has returned."""
    writer.write(MODEL, _entry("a"))

    assert _read(tmp_path) == ["a"]


def test_torn_last_line_does_not_count(writer: LogWriter, tmp_path: Path) -> None:
    """What a killed process left half-written was never answered; everything before it stays."""
    writer.write(MODEL, _entry("a"))
    with _segments(tmp_path)[0].open("ab") as file:
        file.write(_entry("b").to_line()[:-20])

    assert _read(tmp_path) == ["a"]
    writer.close_segments(NOW, all_of_them=True)
    compact(writer.closed_segments())
    assert _read(tmp_path) == ["a"]


def test_compaction_sorts_rows_into_days(writer: LogWriter, tmp_path: Path) -> None:
    """Parquet files lie under the date of the event, and the segment is gone."""
    writer.write(MODEL, _entry("a", "2013-06-02T23:00:00Z"))
    writer.write(MODEL, _entry("b", "2013-06-01T10:00:00Z"))
    writer.write(MODEL, _entry("c", "2013-06-02T01:00:00Z"))
    writer.close_segments(NOW, all_of_them=True)

    assert compact(writer.closed_segments()) == 1

    files = sorted(path.relative_to(tmp_path).parent.as_posix() for path in tmp_path.rglob("*.parquet"))
    assert files == [f"{MODEL}/date=2013-06-01", f"{MODEL}/date=2013-06-02"]
    assert _segments(tmp_path) == []
    assert _read(tmp_path) == ["b", "c", "a"]


def test_odd_values_spoil_nothing(writer: LogWriter, tmp_path: Path) -> None:
    """Half characters, empty and deeply nested values of one caller leave the log readable, as segment and Parquet."""
    nested: Any = 1
    for _ in range(300):
        nested = [nested]
    odd = {"half": "a\ud800", "b\ud800": 1, "in a list": ["\ud800"], "empty": {}, "list": [{}], "deep": nested}
    writer.write(MODEL, replace(_entry("a"), columns=tuple(odd), rows=[list(odd.values())]))
    writer.write(MODEL, _entry("b"))

    before = ParquetPredictionLog(tmp_path).read(MODEL, ALL)
    writer.close_segments(NOW, all_of_them=True)
    assert compact(writer.closed_segments()) == 1
    after = ParquetPredictionLog(tmp_path).read(MODEL, ALL)
    for frame in (before, after):
        row = frame[frame["request_id"] == "a"].iloc[0]
        assert (row["half"], row["b?"], row["empty"], row["list"]) == ("a?", 1, "{}", "[{}]")
        assert row["deep"] == "[" * 300 + "1" + "]" * 300


def test_compaction_that_was_cut_off_doubles_nothing(writer: LogWriter, tmp_path: Path) -> None:
    """With some Parquet files of a segment in place, rows still count once, before and after the next try."""
    for name, day in (("a", "2013-06-01"), ("b", "2013-06-02")):
        writer.write(MODEL, _entry(name, day))
    writer.close_segments(NOW, all_of_them=True)
    segment = _segments(tmp_path)[0]
    partition = tmp_path / MODEL / "date=2013-06-01"
    partition.mkdir()
    pq.write_table(next(segment_tables(segment)).slice(0, 1), partition / f"{segment.stem}.7.parquet")
    (partition / f".{segment.stem}.tmp").write_bytes(b"half a file")

    assert _read(tmp_path) == ["a", "b"]
    compact(writer.closed_segments())
    assert _read(tmp_path) == ["a", "b"]


def test_columns_that_one_caller_invents_cost_the_others_little(writer: LogWriter, tmp_path: Path) -> None:
    """A wide request beside many rows, and wide requests beside each other, become tables of bounded size."""
    many, wide = _entry("many"), [f"a{number}" for number in range(6000)]
    writer.write(MODEL, replace(many, rows=[*many.rows] * 500, predictions=[0.5] * 500))
    for name in ("x", "y"):
        columns = [f"{name}{column}" for column in wide]
        writer.write(MODEL, replace(_entry(name), columns=columns, rows=[[1] * len(wide)]))
    writer.write(MODEL, replace(many, rows=[*many.rows] * 500, predictions=[0.5] * 500))
    writer.close_segments(NOW, all_of_them=True)

    assert compact(writer.closed_segments()) == 1

    files = [pq.read_metadata(path) for path in tmp_path.rglob("*.parquet")]
    assert max(file.num_columns for file in files) <= 10_000
    assert max(file.num_columns * file.num_rows for file in files) <= 1_000_000
    assert sum(file.num_rows for file in files) == 1002
    assert Counter(_read(tmp_path)) == {"many": 1000, "x": 1, "y": 1}


def test_next_process_compacts_what_is_left(writer: LogWriter, tmp_path: Path) -> None:
    """Segments of a process that was killed are closed ones for the next, whose own open segment stays."""
    child = os.fork()
    if child == 0:
        writer.write(MODEL, _entry("a"))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    successor = LogWriter(tmp_path, segment_bytes=2000, segment_age=timedelta(hours=1))
    successor.write(MODEL, _entry("b"))

    assert compact(successor.closed_segments()) == 1
    assert len(_segments(tmp_path)) == 1
    assert sorted(_read(tmp_path)) == ["a", "b"]


def test_segments_close_by_size_and_age(writer: LogWriter) -> None:
    """A segment takes entries until it is large or old enough."""
    writer.write(MODEL, _entry("a"))
    writer.close_segments(NOW + timedelta(minutes=59), all_of_them=False)
    assert writer.closed_segments() == []

    writer.close_segments(NOW + timedelta(minutes=60), all_of_them=False)
    assert len(writer.closed_segments()) == 1

    for number in range(20):
        writer.write(MODEL, _entry(f"b{number}"))
    writer.close_segments(NOW, all_of_them=False)
    assert len(writer.closed_segments()) == 2


def test_full_disk_leaves_no_half_line(writer: LogWriter, tmp_path: Path) -> None:
    """An entry that does not fit is refused as a whole; entries before and after it stay readable."""
    child = os.fork()  # the limit must not hold for this process, whose output may be a file
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))  # as on a full disk
        writer.write(MODEL, _entry("a"))
        refused = False
        try:
            writer.write(MODEL, _entry("b" * 500))
        except OSError:
            refused = True
        writer.write(MODEL, _entry("c"))
        os._exit(0 if refused else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert _read(tmp_path) == ["a", "c"]


def test_damaged_segment_stops_no_other(writer: LogWriter, tmp_path: Path) -> None:
    """A segment that cannot be compacted stays where it is; the others become Parquet."""
    writer.write(MODEL, _entry("a"))
    (tmp_path / "other" / "segments").mkdir(parents=True)
    damaged = tmp_path / "other" / "segments" / "x.jsonl"
    damaged.write_bytes(b"this is no JSON\n")
    writer.close_segments(NOW, all_of_them=True)

    assert compact(writer.closed_segments()) == 1
    assert damaged.exists()


def test_reader_sees_each_row_once_while_the_log_is_compacted(tmp_path: Path) -> None:
    """Readers that run beside writer and compaction see every row that was answered before, once."""
    writer = LogWriter(tmp_path, segment_bytes=1, segment_age=timedelta(hours=1))
    reader = ParquetPredictionLog(tmp_path)

    def read() -> list[str]:
        return sorted(reader.read(MODEL, ALL)["request_id"])

    with ThreadPoolExecutor(2) as pool:
        for number in range(40):
            writer.write(MODEL, _entry(f"{number:03}", f"2013-06-{number % 5 + 1:02}"))
            writer.close_segments(NOW, all_of_them=True)
            compaction = pool.submit(compact, writer.closed_segments())
            seen = pool.submit(read)
            assert seen.result() == [f"{answered:03}" for answered in range(number + 1)]
            assert compaction.result() == 1


def test_two_processes_share_the_directory(writer: LogWriter, tmp_path: Path) -> None:
    """Whoever compacts leaves the segment alone that another one writes, and takes it once that one has closed it."""
    other = LogWriter(tmp_path, segment_bytes=2000, segment_age=timedelta(hours=1))
    other.write(MODEL, _entry("a"))
    writer.write(MODEL, _entry("b"))
    writer.close_segments(NOW, all_of_them=True)

    assert compact(writer.closed_segments()) == 1
    other.write(MODEL, _entry("c"))
    assert sorted(_read(tmp_path)) == ["a", "b", "c"]
    other.close_segments(NOW, all_of_them=True)
    both = writer.closed_segments()
    assert (compact(other.closed_segments()), compact(both)) == (1, 0)
    assert sorted(_read(tmp_path)) == ["a", "b", "c"]


def test_line_survives_the_process(tmp_path: Path) -> None:
    """A row is in the file though the process is killed right after `write`."""
    child = os.fork()
    if child == 0:
        LogWriter(tmp_path, segment_bytes=2000, segment_age=timedelta(hours=1)).write(MODEL, _entry("a"))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)

    assert _read(tmp_path) == ["a"]


def _read(directory: Path) -> list[str]:
    return list(ParquetPredictionLog(directory).read(MODEL, ALL)["request_id"])


def _segments(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.jsonl"))


def _entry(name: str, time: str = "2013-06-03T10:00:00Z") -> LogEntry:
    return LogEntry(
        request_id=name,
        logged_at=NOW,
        version=1,
        role="champion",
        latency_ms=1.5,
        key="id",
        timestamp="at",
        columns=("id", "at", "x"),
        rows=[["k", time, 1.5]],
        predictions=[0.5],
    )
