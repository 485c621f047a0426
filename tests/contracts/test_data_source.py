"""The data port: the fake and Parquet files give the same rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from taxiway.adapters.parquet_data import ParquetData
from taxiway.domain.values import Window
from taxiway.errors import DataError, TaxiwayError
from taxiway.ports import DataSource
from tests.fakes import FakeData

Deliver = Callable[[pd.DataFrame | None], DataSource]
TICK = timedelta(microseconds=1)
ALWAYS = Window(datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


@pytest.fixture(params=["fake", "parquet", "uri"])
def deliver(request: pytest.FixtureRequest, tmp_path: Path) -> Deliver:
    """Make a dataset from a frame (None: nothing was delivered), one file per month."""

    def make(frame: pd.DataFrame | None) -> DataSource:
        if request.param == "fake":
            return FakeData(frame, timestamp="at", key="id")
        root = tmp_path / "data set"
        if frame is not None:
            for month, rows in frame.groupby(frame["at"].dt.strftime("%Y-%m")) if len(frame) else [("none", frame)]:
                (root / f"month={month}").mkdir(parents=True)
                rows.to_parquet(root / f"month={month}" / "part.parquet", index=False)
        uri = str(root) if request.param == "parquet" else root.as_uri()
        return ParquetData(uri, timestamp="at", key="id")

    return make


@pytest.fixture
def frame() -> pd.DataFrame:
    """Rows of three months, in no order; two share a moment."""
    at = pd.to_datetime(
        ["2013-03-01T00:00:00Z", "2013-01-10T08:00:00.000001Z", "2013-02-05T12:00:00Z", "2013-01-10T08:00:00.000001Z"],
        format="ISO8601",
    )
    return pd.DataFrame({"at": at, "id": ["d", "b", "c", "a"], "month": [3, 1, 2, 1], "x": [1.0, None, 3.0, 4.0]})


def test_newest_is_just_after_the_last_row(deliver: Deliver, frame: pd.DataFrame) -> None:
    """The end of the data is a microsecond after the newest timestamp, so that a window up to it has that row."""
    source = deliver(frame)
    assert source.newest() == datetime(2013, 3, 1, tzinfo=UTC) + TICK
    assert len(source.read(Window(source.newest() - TICK, source.newest()))) == 1


def test_rows_come_in_order_of_time_and_key(deliver: Deliver, frame: pd.DataFrame) -> None:
    """Rows are ordered by time, then key, with all columns, the index from 0 and times as UTC microseconds."""
    rows = deliver(frame).read(ALWAYS)
    expected = frame.iloc[[3, 1, 2, 0]].reset_index(drop=True).astype({"at": "datetime64[us, UTC]"})
    pd.testing.assert_frame_equal(rows, expected)


def test_a_window_has_its_start_and_not_its_end(deliver: Deliver, frame: pd.DataFrame) -> None:
    """Windows are half-open to the microsecond, also when their times are in another zone."""
    source = deliver(frame)
    start, end = datetime(2013, 1, 10, 8, 0, 0, 1, tzinfo=UTC), datetime(2013, 2, 5, 12, tzinfo=UTC)
    local = start.astimezone().tzinfo
    assert source.read(Window(start, end))["id"].tolist() == ["a", "b"]
    assert source.read(Window(start.astimezone(local), end + TICK))["id"].tolist() == ["a", "b", "c"]
    assert source.read(Window(start + TICK, end))["id"].tolist() == []


def test_an_empty_window_keeps_the_columns(deliver: Deliver, frame: pd.DataFrame) -> None:
    """A window without rows gives an empty frame with the same columns and the same type of time."""
    rows = deliver(frame).read(Window(datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)))
    assert (len(rows), list(rows.columns)) == (0, ["at", "id", "month", "x"])
    assert str(rows["at"].dtype) == "datetime64[us, UTC]"


def test_columns_are_those_that_were_asked_for(deliver: Deliver, frame: pd.DataFrame) -> None:
    """Only the named columns come, in their order; rows are ordered by time and key even without these."""
    rows = deliver(frame).read(ALWAYS, ["x", "month"])
    assert list(rows.columns) == ["x", "month"]
    assert rows["month"].tolist() == [1, 1, 2, 3]
    assert rows["x"].tolist()[0] == 4.0


def test_a_missing_dataset_is_an_error(deliver: Deliver) -> None:
    """A dataset that was never delivered is a DataError, not an empty frame."""
    source = deliver(None)
    with pytest.raises(DataError):
        source.newest()
    with pytest.raises(DataError):
        source.read(ALWAYS)


def test_a_missing_column_is_an_error(deliver: Deliver, frame: pd.DataFrame) -> None:
    """A column that the dataset does not have is named."""
    with pytest.raises(DataError, match="humid"):
        deliver(frame).read(ALWAYS, ["x", "humid"])


def test_a_dataset_without_rows_has_no_newest(deliver: Deliver, frame: pd.DataFrame) -> None:
    """No rows means no newest data, but reading them is possible."""
    source = deliver(frame.iloc[:0])
    with pytest.raises(DataError):
        source.newest()
    assert source.read(ALWAYS).empty


@pytest.mark.parametrize("statistics", [True, False], ids=["statistics", "no statistics"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_every_kind_of_timestamp(unit: str, zone: str | None, statistics: bool, tmp_path: Path) -> None:
    """Any unit and zone of a Parquet timestamp gives the same moments; without a zone they are UTC."""
    moments = [datetime(2013, 1, 10, 3, 0, 0, 7000, tzinfo=UTC), datetime(2013, 3, 10, 7, 30, tzinfo=UTC)]
    times = pa.array(moments, pa.timestamp("us", "UTC")).cast(pa.timestamp(unit, "UTC"))
    times = times.cast(pa.timestamp(unit, zone)) if zone else pc.local_timestamp(times)
    table = pa.table({"at": times, "id": [1, 2]})
    pq.write_table(table, tmp_path / "part.parquet", row_group_size=1, write_statistics=statistics)
    source = ParquetData(str(tmp_path), timestamp="at", key="id")
    assert source.newest() == moments[1] + TICK
    assert source.read(ALWAYS)["at"].tolist() == moments
    assert source.read(Window(moments[0], moments[1]))["id"].tolist() == [1]
    assert source.read(Window(moments[0] + TICK, moments[1] + TICK))["id"].tolist() == [2]


def test_nanoseconds_are_floored(tmp_path: Path) -> None:
    """The window that ends at the newest moment has a row whose timestamp is finer than a microsecond."""
    moment = pd.Timestamp("2013-01-10T03:00:00.000000999Z")
    pd.DataFrame({"at": [moment], "id": [1]}).to_parquet(tmp_path / "part.parquet", index=False)
    source = ParquetData(str(tmp_path), timestamp="at", key="id")
    assert source.newest() == datetime(2013, 1, 10, 3, 0, 0, 1, tzinfo=UTC)
    assert len(source.read(Window(source.newest() - TICK, source.newest()))) == 1


def test_rows_without_a_time_are_in_no_window(tmp_path: Path) -> None:
    """A missing timestamp belongs to no window and is not the newest."""
    at = pd.to_datetime([None, "2013-01-10T03:00:00Z", None])
    pd.DataFrame({"at": at, "id": [1, 2, 3]}).to_parquet(tmp_path / "a.parquet", index=False, row_group_size=1)
    source = ParquetData(str(tmp_path), timestamp="at", key="id")
    assert source.newest() == datetime(2013, 1, 10, 3, tzinfo=UTC) + TICK
    assert source.read(ALWAYS)["id"].tolist() == [2]


def test_only_files_of_the_window_are_read(tmp_path: Path) -> None:
    """Row groups outside of the window are never opened: broken pages there do no harm."""
    for month in (1, 2):
        at = pd.date_range(f"2013-{month:02}-01", periods=500, freq="min", tz="UTC")
        rows = pd.DataFrame({"at": at, "id": range(500), "x": [f"value {number}" for number in range(500)]})
        rows.to_parquet(tmp_path / f"{month}.parquet", index=False)
    broken = bytearray((tmp_path / "1.parquet").read_bytes())
    broken[4 : len(broken) // 4] = b"\xff" * (len(broken) // 4 - 4)
    (tmp_path / "1.parquet").write_bytes(broken)
    source = ParquetData(str(tmp_path), timestamp="at", key="id")
    february = Window(datetime(2013, 2, 1, tzinfo=UTC), datetime(2013, 3, 1, tzinfo=UTC))
    assert len(source.read(february)) == 500
    assert source.newest().month == 2
    with pytest.raises(TaxiwayError):
        source.read(ALWAYS)


def deliver_months(directory: Path, *columns: pa.Array | None) -> ParquetData:
    """Write one file a month, with this column `x` in it (None: without the column)."""
    for month, column in enumerate(columns, start=1):
        at = [datetime(2013, month, day, tzinfo=UTC) for day in (1, 2)]
        rows = {"at": pa.array(at, pa.timestamp("us", "UTC")), "id": [f"{month}a", f"{month}b"]}
        pq.write_table(pa.table(rows if column is None else {**rows, "x": column}), directory / f"{month}.parquet")
    return ParquetData(str(directory), timestamp="at", key="id")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([pa.array([1, 2]), pa.array([0.5, None])], [1.0, 2.0, 0.5, None]),
        ([pa.array([1, 2], pa.int8()), pa.array([300, 4])], [1, 2, 300, 4]),
        ([None, pa.array(["a", "b"])], [None, None, "a", "b"]),
        ([pa.array(["a", "b"]), None], ["a", "b", None, None]),
        ([pa.nulls(2), pa.array([True, False])], [None, None, True, False]),
        ([pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", "c"])], ["a", "b", "b", "c"]),
        ([pa.array(["a", "b"]), pa.array(["b", "c"]).dictionary_encode()], ["a", "b", "b", "c"]),
        ([pa.array(["a", "b"]), pa.array(["b", None], pa.large_string())], ["a", "b", "b", None]),
    ],
    ids=["wider", "longer", "new", "gone", "nothing first", "text second", "text first", "large"],
)
def test_files_of_one_kind_are_one_table(
    columns: list[pa.Array | None], expected: list[object], tmp_path: Path
) -> None:
    """Files that hold the same kind of thing are read together, whichever comes first."""
    rows = deliver_months(tmp_path, *columns).read(ALWAYS, ["x"])["x"].astype(object)

    assert rows.where(rows.notna(), None).tolist() == expected


@pytest.mark.parametrize(
    "columns",
    [
        [pa.array(["a", "b"]), pa.array([1, 2])],
        [pa.array([1, 2]), pa.array(["1", "2"])],
        [pa.array([1.5, 2]), pa.array([True, False])],
        [pa.array([True, False]), pa.array([1, 2])],
        [pa.array([1, 2]), pa.array([datetime(2013, 1, 1), None], pa.timestamp("us"))],  # noqa: DTZ001
        [pa.array(["a", "b"]).dictionary_encode(), pa.array([1, 2])],
        [pa.array([1, 2]), pa.array([[1], [2]])],
    ],
    ids=["text and numbers", "numbers and text", "numbers and booleans", "booleans", "times", "categories", "lists"],
)
def test_files_of_different_kinds_are_an_error(columns: list[pa.Array], tmp_path: Path) -> None:
    """A file that holds something else than those before it is named with its column; nothing is cast in silence."""
    source = deliver_months(tmp_path, *columns)

    with pytest.raises(DataError, match=r"2\.parquet does not fit the files before it: .*Field x"):
        source.read(ALWAYS, ["x"])


def test_files_outside_of_the_window_do_not_matter(tmp_path: Path) -> None:
    """What a column was in another time is no trouble of this window."""
    source = deliver_months(tmp_path, pa.array(["a", "b"]), pa.array([1, 2]))
    february = Window(datetime(2013, 2, 1, tzinfo=UTC), datetime(2013, 3, 1, tzinfo=UTC))

    assert source.read(february, ["x"])["x"].tolist() == [1, 2]


def test_a_column_that_the_window_lost_is_missing(tmp_path: Path) -> None:
    """A column that only older files have is not there: nobody learns from what is no longer delivered."""
    source = deliver_months(tmp_path, pa.array(["a", "b"]), None)
    february = Window(datetime(2013, 2, 1, tzinfo=UTC), datetime(2013, 3, 1, tzinfo=UTC))

    with pytest.raises(DataError, match="no column x"):
        source.read(february, ["x"])


def test_columns_that_nobody_reads_do_not_matter(tmp_path: Path) -> None:
    """Files may differ in what was not asked for."""
    source = deliver_months(tmp_path, pa.array(["a", "b"]), pa.array([1, 2]))

    assert len(source.read(ALWAYS, ["id"])) == 4


def test_unfinished_files_do_not_count(tmp_path: Path) -> None:
    """Files and directories that begin with a dot or an underscore are a writer's own business."""
    row = pd.DataFrame({"at": pd.to_datetime(["2013-01-10T03:00:00Z"]), "id": [1]})
    row.to_parquet(tmp_path / "a.parquet", index=False)
    (tmp_path / ".b.parquet.part").write_text("not ready")
    (tmp_path / "_temporary").mkdir()
    (tmp_path / "_temporary/c.parquet").write_text("not ready")
    assert len(ParquetData(str(tmp_path), timestamp="at", key="id").read(ALWAYS)) == 1


@pytest.mark.parametrize("kind", ["no files", "no Parquet", "time is text", "no such store"])
def test_an_unusable_dataset_is_an_error(kind: str, tmp_path: Path) -> None:
    """What is no dataset with a time column is a DataError that says what to do next."""
    if kind == "no Parquet":
        (tmp_path / "a.parquet").write_text("hello")
    if kind == "time is text":
        pd.DataFrame({"at": ["2013-01-01"], "id": [1]}).to_parquet(tmp_path / "a.parquet")
    uri = "nowhere://bucket/data" if kind == "no such store" else str(tmp_path)
    for action in (lambda source: source.newest(), lambda source: source.read(ALWAYS)):
        with pytest.raises(DataError) as failure:
            action(ParquetData(uri, timestamp="at", key="id"))
        assert failure.value.next_step
