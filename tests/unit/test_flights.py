"""The demo's data: months of real departures that arrive one after the other."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pytest

from taxiway.adapters.parquet_data import ParquetData
from taxiway.demo.flights import COLUMNS, arrive, prepare
from taxiway.domain.values import Window
from taxiway.spec_files import load_spec
from tests.architecture.sources import PROJECT

KNOWN_ONLY_LATER = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in which January to March have arrived."""
    directory = tmp_path_factory.mktemp("demo") / "flights"
    arrive(directory, through=date(2013, 3, 31))
    return directory


@pytest.fixture(scope="module")
def rows(dataset: Path) -> pd.DataFrame:
    """All months of the year, arrived or not."""
    return pd.concat([pd.read_parquet(path) for path in prepare(dataset.with_name("flights-staging"))])


def source(dataset: Path) -> ParquetData:
    """Read the dataset as every stage does."""
    return ParquetData(dataset.as_uri(), timestamp="scheduled_departure", key="flight_id")


def test_only_months_that_are_over_arrive(dataset: Path) -> None:
    """A month arrives on its last day, not before."""
    assert arrive(dataset, through=date(2013, 3, 31)) == []
    assert sorted(path.name for path in dataset.iterdir()) == ["period=2013-01", "period=2013-02", "period=2013-03"]


def test_a_later_day_lets_further_months_arrive(dataset: Path, tmp_path: Path) -> None:
    """Each call lets what is new arrive, in the order of time, and says so; a repeat changes nothing."""
    directory = tmp_path / "flights"
    (tmp_path / "flights-staging").symlink_to(dataset.with_name("flights-staging"))

    assert arrive(directory, through=date(2013, 1, 31)) == ["2013-01"]
    assert arrive(directory, through=date(2013, 4, 29)) == ["2013-02", "2013-03"]
    written = {path: path.stat().st_mtime_ns for path in directory.rglob("*.parquet")}
    assert arrive(directory, through=date(2013, 4, 29)) == []
    assert written == {path: path.stat().st_mtime_ns for path in directory.rglob("*.parquet")}


def test_an_interrupted_arrival_is_made_up_for(dataset: Path, tmp_path: Path) -> None:
    """What a killed process left behind is no data, and the month still arrives."""
    directory = tmp_path / "flights"
    (tmp_path / "flights-staging").symlink_to(dataset.with_name("flights-staging"))
    leftover = directory / ".arriving-killed" / "period=2013-01"
    leftover.mkdir(parents=True)
    (leftover / "part-0.parquet").write_bytes(b"half a file")

    assert arrive(directory, through=date(2013, 1, 31)) == ["2013-01"]
    assert source(directory).newest() < datetime(2013, 2, 1, tzinfo=UTC)


def test_a_month_of_data_time_is_one_partition(dataset: Path, rows: pd.DataFrame) -> None:
    """The window from one first of a month to the next, in UTC, holds exactly that partition's rows."""
    february = source(dataset).read(Window(datetime(2013, 2, 1, tzinfo=UTC), datetime(2013, 3, 1, tzinfo=UTC)))

    assert len(february) == len(pd.read_parquet(dataset / "period=2013-02" / "part-0.parquet"))
    assert (february["scheduled_departure"].dt.month == 2).all()
    assert len(rows) == 336_776


def test_the_dataset_has_what_the_model_spec_names(dataset: Path, rows: pd.DataFrame) -> None:
    """Key, timestamp, features and label of the spec are the columns, and the spec's data checks hold."""
    spec = load_spec(PROJECT / "include" / "models" / "flight_delays.yaml", {"TAXIWAY_HOME": str(dataset.parent)})
    task, checks = spec.task, spec.data.checks

    assert {task.key, task.timestamp, *spec.data.features, task.label} == set(COLUMNS)
    assert all(rows[column].isna().mean() <= share for column, share in checks.max_missing.items())
    assert all(rows[column].dropna().between(*limits).all() for column, limits in checks.ranges.items())


def test_nothing_is_known_only_after_departure(rows: pd.DataFrame) -> None:
    """No column of the flight itself says how it went, except the label."""
    assert not KNOWN_ONLY_LATER & set(rows.columns)


def test_keys_are_unique(rows: pd.DataFrame) -> None:
    """A flight id names one departure of the year."""
    assert rows["flight_id"].is_unique


def test_new_york_times_become_utc(rows: pd.DataFrame) -> None:
    """05:15 in winter is 10:15 UTC, and 05:15 in summer is 09:15 UTC; the features keep New York's hour."""
    flights = rows.set_index("flight_id")
    winter, summer = flights.loc["2013-01-01-UA1545-EWR"], flights.loc["2013-07-01-US1431-EWR"]

    assert (winter["scheduled_departure"], winter["dep_hour"]) == (pd.Timestamp("2013-01-01T10:15Z"), 5)
    assert summer["scheduled_departure"].tz_convert("America/New_York").hour == summer["dep_hour"]
    assert (summer["scheduled_departure"].hour - summer["dep_hour"]) % 24 == 4


def test_the_label_is_late_by_more_than_a_quarter_of_an_hour(rows: pd.DataFrame) -> None:
    """15 minutes are in time, 16 are late, and a flight that was cancelled or diverted has no label."""
    late = rows.set_index("flight_id")["late"]

    assert late["2013-01-01-B6905-JFK"] == 0  # 15 minutes
    assert late["2013-01-01-AA655-JFK"] == 1  # 16 minutes
    assert late.isna().sum() == 9_430


def test_weather_is_that_of_the_hour_of_departure(rows: pd.DataFrame) -> None:
    """A flight at 05:15 from Newark gets what Newark's station observed for 05:00."""
    flight = rows.set_index("flight_id").loc["2013-01-01-UA1545-EWR"]

    assert (flight["temp"], flight["dewp"], flight["wind_dir"]) == (39.02, 28.04, 260.0)
