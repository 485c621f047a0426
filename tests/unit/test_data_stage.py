"""Training and holdout windows: split by time, stored once, checked before anything is trained."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from taxiway.errors import DataError
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build
from taxiway.stages.data import HOLDOUT, TRAINING, parse_time, snapshot_data, split, stored_frame
from taxiway.stages.data_checks import check_data
from tests.fakes import FakeClock, FakeData, FakeRegistry
from tests.unit.model_versions import example_spec

END = datetime(2013, 3, 1, tzinfo=UTC)


def spec_with(**data: Any) -> ModelSpec:
    """Return the example's spec with two features and other data settings."""
    spec = example_spec()
    checks = {"min_rows": 10, "max_missing": {"distance": 0.1}, "ranges": {"distance": [0, 6000]}}
    settings = {**spec.data.model_dump(), "features": ["carrier", "distance"], "checks": checks, **data}
    gates = {**spec.gates.model_dump(), "slices": None}
    return ModelSpec.model_validate({**spec.model_dump(), "data": settings, "gates": gates})


def flights(days: int = 60) -> pd.DataFrame:
    """Return one flight an hour before END; the newest are not labelled yet."""
    times = pd.date_range(END - timedelta(days=days), END, freq="h", inclusive="left")
    frame = pd.DataFrame({"scheduled_departure": times, "flight_id": [f"f{number}" for number in range(len(times))]})
    frame["carrier"], frame["distance"] = "AA", 500.0
    frame["late"] = [float(number % 3 == 0) for number in range(len(times))]
    frame.loc[times >= END - timedelta(hours=12), "late"] = None
    return frame


def build_of(registry: FakeRegistry, data_end: str | None = END.isoformat()) -> Build:
    """Return a build as the checkout stage opens it."""
    run_id = registry.open_build("flight_delays", "commit-1", {})
    return Build(
        "flight_delays", "commit-1", run_id, "1" * 40, "ds", "sha256:src", "sha256:lock", "manual", "ds", data_end
    )


def snapshot(frame: pd.DataFrame | None, registry: FakeRegistry, spec: ModelSpec, build: Build) -> Any:
    """Take the snapshot of a dataset."""
    data = FakeData(frame, timestamp="scheduled_departure", key="flight_id")
    return snapshot_data(spec, build, data=data, registry=registry, clock=FakeClock())


def test_the_holdout_is_the_newest_labelled_data() -> None:
    """The holdout ends where labels are known, and training ends where the holdout begins."""
    windows = split(example_spec(), END)

    assert END - timedelta(days=1) == windows.holdout.end
    assert timedelta(days=14) == windows.holdout.end - windows.holdout.start
    assert windows.training.end == windows.holdout.start


def test_no_row_is_in_both_windows_and_all_have_labels() -> None:
    """What is stored for training and holdout does not overlap and is labelled."""
    registry, spec = FakeRegistry(), spec_with()
    build = build_of(registry)

    evidence = snapshot(flights(), registry, spec, build)

    training = stored_frame(registry, build.run_id, TRAINING)
    holdout = stored_frame(registry, build.run_id, HOLDOUT)
    assert training["scheduled_departure"].max() < holdout["scheduled_departure"].min()
    assert not set(training["flight_id"]) & set(holdout["flight_id"])
    assert training["late"].notna().all()
    assert len(holdout) == evidence.figures["holdout"]["rows"] == 14 * 24


def test_a_repeated_snapshot_keeps_the_first() -> None:
    """A retried stage sees the data that the first try stored, although the dataset has changed since."""
    registry, spec = FakeRegistry(), spec_with()
    build = build_of(registry)
    first = snapshot(flights(), registry, spec, build)

    assert first == snapshot(flights(50), registry, spec, build)


def test_the_same_rows_have_the_same_digest() -> None:
    """Two builds on the same data agree on its digest, whatever order the dataset returns its rows in."""
    one, other, spec = FakeRegistry(), FakeRegistry(), spec_with()
    first = snapshot(flights(), one, spec, build_of(one))

    second = snapshot(flights().sample(frac=1, random_state=1), other, spec, build_of(other))

    assert first.subject["data"] == second.subject["data"]


@pytest.mark.parametrize("frame", [None, flights(60).iloc[:0]], ids=["missing", "empty"])
def test_a_dataset_without_rows_is_one_clear_error(frame: pd.DataFrame | None) -> None:
    """A missing or empty dataset stops the build before anything is stored."""
    registry = FakeRegistry()
    build = build_of(registry)

    with pytest.raises(DataError):
        snapshot(frame, registry, spec_with(), build)
    assert [] == registry.list_files(build.run_id, "taxiway/data")


def test_a_window_without_rows_says_where_the_data_ends() -> None:
    """Asking for data long after the newest row names the window and the newest data."""
    registry = FakeRegistry()

    with pytest.raises(DataError, match=r"no labelled rows \(the newest data is from 2013-02-28"):
        snapshot(flights(), registry, spec_with(), build_of(registry, "2020-01-01"))


def test_every_broken_rule_is_named_at_once() -> None:
    """Missing values, values out of range and repeated keys are all reported, not only the first."""
    registry, spec = FakeRegistry(), spec_with()
    build = build_of(registry)
    frame = flights()
    frame.loc[:400, "distance"] = None
    frame.loc[500:502, "distance"] = 9000.0
    frame.loc[11, "flight_id"] = "f10"
    snapshot(frame, registry, spec, build)

    with pytest.raises(DataError) as raised:
        check_data(spec, build, registry=registry, clock=FakeClock())

    for part in ("401 of 1080 rows (37.1%), more than 10%", "3 values outside 0 to 6000", "flight_id is not unique"):
        assert part in str(raised.value)
    assert "failed" == registry.get_json(build.run_id, "taxiway/check_data.json")["verdict"]


def test_good_data_passes_its_checks() -> None:
    """Data that keeps every rule leaves passed evidence."""
    registry, spec = FakeRegistry(), spec_with()
    build = build_of(registry)
    snapshot(flights(), registry, spec, build)

    assert "passed" == check_data(spec, build, registry=registry, clock=FakeClock()).verdict


def test_a_time_that_cannot_be_read_is_refused() -> None:
    """A data end that is no time is an error that shows how to write one."""
    with pytest.raises(DataError, match="write it like 2013-04-01"):
        parse_time("April")
