"""Training and holdout windows: split by time, and stored once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taxiway.adapters.parquet_data import ParquetData
from taxiway.domain.evidence import Verdict
from taxiway.errors import DataError
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build
from taxiway.stages.data import HOLDOUT, TRAINING, parse_time, snapshot_data, split, stored_frame
from tests.fakes import FakeClock, FakeData, FakeRegistry
from tests.unit.delivered_data import END, build_of, flights, snapshot_of, spec_with
from tests.unit.model_versions import example_spec


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


def test_a_snapshot_that_failed_leaves_evidence_and_is_taken_again() -> None:
    """What stopped a snapshot is kept with the build; once the data is there, a retry takes it."""
    registry, spec = FakeRegistry(), spec_with()
    build = build_of(registry)
    with pytest.raises(DataError):
        snapshot(flights().drop(columns="carrier"), registry, spec, build)
    failed = registry.get_json(build.run_id, "taxiway/snapshot.json")

    again = snapshot(flights(), registry, spec, build)

    assert ("failed", ["the dataset has no column carrier"]) == (failed["verdict"], failed["reasons"])
    assert again.to_json() == registry.get_json(build.run_id, "taxiway/snapshot.json")
    assert Verdict.PASSED == again.verdict


def test_a_column_that_cannot_be_stored_is_named() -> None:
    """Values of several types in one column, which no Parquet file can hold, are one clear error."""
    registry, spec = FakeRegistry(), spec_with()
    frame = flights().astype({"carrier": object})
    frame.loc[3, "carrier"] = 7

    with pytest.raises(DataError, match=r"the training window cannot be stored: .*carrier"):
        snapshot(frame, registry, spec, build_of(registry))


def test_a_column_with_two_roles_is_stored_once() -> None:
    """The timestamp may be a feature too."""
    registry, spec = FakeRegistry(), spec_with()
    features = (*spec.data.features, spec.task.timestamp)
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"features": features})})
    build = build_of(registry)

    snapshot(flights(), registry, spec, build)

    assert 5 == len(stored_frame(registry, build.run_id, TRAINING).columns)


def test_the_digest_is_that_of_the_rows(tmp_path: Path) -> None:
    """Two deliveries of the same rows agree, however their files are written; one changed value does not."""
    whole, parts, other = (tmp_path / name for name in ("whole", "parts", "other"))
    for directory in (whole, parts, other):
        directory.mkdir()
    frame, changed = flights(), flights()
    changed.loc[17, "distance"] = 501.0
    frame.to_parquet(whole / "rows.parquet", index=False, compression="zstd", row_group_size=100)
    changed.to_parquet(other / "rows.parquet", index=False)
    snapshot_of(frame, parts, FakeRegistry(), spec_with())

    digests = [_digest_of(directory) for directory in (whole, parts, other)]

    assert digests[0] == digests[1] != digests[2]


def test_a_time_that_cannot_be_read_is_refused() -> None:
    """A data end that is no time is an error that shows how to write one."""
    with pytest.raises(DataError, match="write it like 2013-04-01"):
        parse_time("April")


def _digest_of(directory: Path) -> str:
    registry = FakeRegistry()
    data = ParquetData(str(directory), timestamp="scheduled_departure", key="flight_id")
    evidence = snapshot_data(spec_with(), build_of(registry), data=data, registry=registry, clock=FakeClock())
    return evidence.subject["data"]
