"""Data: the training and holdout windows of a build, split by time and stored with it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from taxiway.domain.evidence import Evidence, Json, Verdict
from taxiway.domain.values import Window
from taxiway.errors import DataError
from taxiway.ports import Clock, DataSource, Registry
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build
from taxiway.stages.evidence_store import evidence_of, record
from taxiway.stages.table_digest import table_digest
from taxiway.stages.workspaces import workspace

if TYPE_CHECKING:
    import pandas as pd

_BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)
TRAINING, HOLDOUT = "taxiway/data/training.parquet", "taxiway/data/holdout.parquet"


@dataclass(frozen=True, slots=True)
class Windows:
    """The two windows of a build: the holdout is the newest labelled data and is never trained on."""

    training: Window
    holdout: Window


def split(spec: ModelSpec, data_end: datetime) -> Windows:
    """Return the windows as of `data_end`: rows younger than the label delay have no label yet."""
    labelled_until = data_end - spec.task.label_delay
    holdout_start = labelled_until - spec.data.holdout_window
    length = spec.data.train_window
    training_start = holdout_start - length if isinstance(length, timedelta) else _BEGINNING
    return Windows(Window(training_start, holdout_start), Window(holdout_start, labelled_until))


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 time (UTC when it names no zone); raises DataError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        advice = "write it like 2013-04-01 or 2013-04-01T00:00:00Z."
        raise DataError(f"{text!r} is not a time", where="data_end", next_step=advice) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def snapshot_data(spec: ModelSpec, build: Build, *, data: DataSource, registry: Registry, clock: Clock) -> Evidence:
    """Store the labelled rows of both windows with the build; the evidence holds windows, rows and digest.

    A repeat keeps the snapshot that was stored first, so that a retried stage sees the same data. Raises DataError,
    with its evidence, when the dataset or a column is missing or a window has no labelled rows.
    """
    if "taxiway/snapshot.json" in registry.list_files(build.run_id, "taxiway"):
        stored = evidence_of(registry, build.run_id, "snapshot")
        if stored.verdict is Verdict.PASSED:
            return stored
    subject, figures = {"commit": build.sha}, dict[str, Json]()
    try:
        data_end = parse_time(build.data_end) if build.data_end else data.newest()
        figures["data_end"] = data_end.isoformat()
        subject["data"] = _store(spec, split(spec, data_end), build.run_id, figures, data=data, registry=registry)
    except DataError as error:
        failed = Evidence("snapshot", Verdict.FAILED, clock.now(), (error.what,), subject, figures)
        record(registry, build.run_id, failed)
        raise
    return record(registry, build.run_id, Evidence("snapshot", Verdict.PASSED, clock.now(), (), subject, figures))


def _store(
    spec: ModelSpec, windows: Windows, run_id: str, figures: dict[str, Json], *, data: DataSource, registry: Registry
) -> str:
    """Store both windows and add what they are to the figures; returns the digest of their rows."""
    import pyarrow.parquet as pq

    columns = dict.fromkeys((spec.task.key, spec.task.timestamp, *spec.data.features, spec.task.label))
    rows = hashlib.sha256()
    with workspace("data") as directory:
        for name, window in (("training", windows.training), ("holdout", windows.holdout)):
            frame = data.read(window, list(columns)).dropna(subset=[spec.task.label])
            if frame.empty:
                raise _no_rows(spec, name, window, data)
            table = _table(spec, name, frame)
            pq.write_table(table, directory / f"{name}.parquet")
            rows.update(f"{table_digest(table)}  {name}\n".encode())
            figures[name] = _describe(frame, spec)
        registry.put_directory(run_id, "taxiway/data", directory)
    return "sha256:" + rows.hexdigest()


def stored_frame(registry: Registry, run_id: str, path: str) -> pd.DataFrame:
    """Return a Parquet file of the run as a frame."""
    import pandas as pd

    with workspace("data") as directory:
        file = directory / "frame.parquet"
        registry.get_file(run_id, path, file)
        return pd.read_parquet(file)


def _table(spec: ModelSpec, name: str, frame: pd.DataFrame) -> Any:
    import pyarrow as pa

    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"the {name} window cannot be stored: {'; '.join(map(str, error.args))}",
            where=f"{spec.model}, {spec.data.uri}",
            next_step="deliver each column with values of one type.",
        ) from error


def _describe(frame: pd.DataFrame, spec: ModelSpec) -> dict[str, Json]:
    times = frame[spec.task.timestamp]
    return {
        "rows": len(frame),
        "first": times.iloc[0].isoformat(),
        "last": times.iloc[-1].isoformat(),
        "schema": {str(column): str(dtype) for column, dtype in frame.dtypes.items()},
    }


def _no_rows(spec: ModelSpec, name: str, window: Window, data: DataSource) -> DataError:
    return DataError(
        f"the {name} window {window} has no labelled rows (the newest data is from {data.newest():%Y-%m-%d %H:%M})",
        where=f"{spec.model}, {spec.data.uri}",
        next_step="choose another data_end, or shorten data.holdout_window or data.train_window.",
    )
