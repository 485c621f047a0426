"""Data: the training and holdout windows of a build, split by time, stored with it, and checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from taxiway.domain.evidence import Evidence, Json, Verdict
from taxiway.domain.values import Window
from taxiway.errors import DataError
from taxiway.ports import Clock, DataSource, Registry
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build
from taxiway.stages.digests import directory_digest
from taxiway.stages.evidence_store import evidence_of, record
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

    A repeat keeps the snapshot that was stored first, so that a retried stage sees the same data.
    Raises DataError when the dataset is missing or a window has no labelled rows.
    """
    if "taxiway/snapshot.json" in registry.list_files(build.run_id, "taxiway"):
        return evidence_of(registry, build.run_id, "snapshot")
    data_end = parse_time(build.data_end) if build.data_end else data.newest()
    windows = split(spec, data_end)
    columns = [spec.task.key, spec.task.timestamp, *spec.data.features, spec.task.label]
    figures: dict[str, Json] = {"data_end": data_end.isoformat()}
    with workspace("data") as directory:
        for name, window in (("training", windows.training), ("holdout", windows.holdout)):
            frame = data.read(window, columns).dropna(subset=[spec.task.label])
            if frame.empty:
                raise _no_rows(spec, name, window, data)
            frame.to_parquet(directory / f"{name}.parquet", index=False)
            figures[name] = _describe(frame, spec)
        registry.put_directory(build.run_id, "taxiway/data", directory)
        subject = {"commit": build.sha, "data": directory_digest(directory)}
    return record(registry, build.run_id, Evidence("snapshot", Verdict.PASSED, clock.now(), (), subject, figures))


def check_data(spec: ModelSpec, build: Build, *, registry: Registry, clock: Clock) -> Evidence:
    """Check both windows against the spec's rules before anything is trained; raises DataError with every reason."""
    snapshot = evidence_of(registry, build.run_id, "snapshot")
    reasons: list[str] = []
    for name, path in (("training", TRAINING), ("holdout", HOLDOUT)):
        reasons += [f"{name}: {reason}" for reason in _problems(spec, stored_frame(registry, build.run_id, path), name)]
    verdict = Verdict.FAILED if reasons else Verdict.PASSED
    evidence = Evidence("check_data", verdict, clock.now(), tuple(reasons), snapshot.subject, snapshot.figures)
    record(registry, build.run_id, evidence)
    if reasons:
        advice = "correct the data, or the rules under data.checks in the model spec."
        raise DataError("; ".join(reasons), where=f"{build.where}, {spec.data.uri}", next_step=advice)
    return evidence


def stored_frame(registry: Registry, run_id: str, path: str) -> pd.DataFrame:
    """Return a Parquet file of the run as a frame."""
    import pandas as pd

    with workspace("data") as directory:
        file = directory / "frame.parquet"
        registry.get_file(run_id, path, file)
        return pd.read_parquet(file)


def _problems(spec: ModelSpec, frame: pd.DataFrame, name: str) -> list[str]:
    checks = spec.data.checks
    found = []
    if name == "training" and len(frame) < checks.min_rows:
        found.append(f"{len(frame)} rows are fewer than min_rows {checks.min_rows}")
    if frame[spec.task.key].duplicated().any():
        found.append(f"{spec.task.key} is not unique ({int(frame[spec.task.key].duplicated().sum())} repeats)")
    if frame[spec.task.label].nunique() < 2:
        found.append(f"the label {spec.task.label} has only one value")
    for column, largest in checks.max_missing.items():
        share = float(frame[column].isna().mean())
        if share > largest:
            found.append(f"{column}: {share:.1%} missing is more than {largest:.1%}")
    for column, (lowest, highest) in checks.ranges.items():
        outside = int((~frame[column].dropna().between(lowest, highest)).sum())
        if outside:
            found.append(f"{column}: {outside} values outside {lowest:g} to {highest:g}")
    return found


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
