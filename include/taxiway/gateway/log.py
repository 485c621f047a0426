"""Writes the prediction log: every answer is in a file before it leaves; files become Parquet later.

The files, and why no row is ever missed or doubled, are described in `taxiway.adapters.prediction_log`. While gateways
are exchanged, two processes write here: whoever appends to a segment or compacts it holds a lock on it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taxiway.adapters.prediction_log import SEGMENTS, LogEntry, partitions, segment_of, segment_tables
from taxiway.gateway.state import sync_directory

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Segment:
    """A file that takes entries: `size` is the end of its last whole line."""

    path: Path
    descriptor: int
    opened_at: datetime
    size: int = 0


class LogWriter:
    """Appends to one open segment per model; belongs to one thread (only `compact` may run in another)."""

    def __init__(self, directory: Path, *, segment_bytes: int, segment_age: timedelta) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._segment_age = segment_age
        self._open: dict[str, _Segment] = {}

    def write(self, model: str, entry: LogEntry) -> None:
        """Append the entry; when this returns, it outlives the process. Raises OSError when it cannot be written."""
        segment = self._open.get(model) or self._begin(model, entry.logged_at)
        line = entry.to_line()
        try:
            written = os.write(segment.descriptor, line)
            if written != len(line):
                raise OSError("the disk took only a part of the entry")
        except OSError:
            os.ftruncate(segment.descriptor, segment.size)  # no half line may precede the next entry
            raise
        segment.size += written

    def close_segments(self, now: datetime, *, all_of_them: bool) -> None:
        """Begin a new segment for every model whose segment is large or old enough, or for every model."""
        for model, segment in list(self._open.items()):
            due = segment.size >= self._segment_bytes or now - segment.opened_at >= self._segment_age
            if all_of_them or due:
                os.close(segment.descriptor)
                del self._open[model]

    def closed_segments(self) -> list[Path]:
        """Return the segments that this process does not write: an earlier one's, or another one's that still runs."""
        taken = {segment.path for segment in self._open.values()}
        return [path for path in sorted(self._directory.glob(f"*/{SEGMENTS}/*.jsonl")) if path not in taken]

    def _begin(self, model: str, now: datetime) -> _Segment:
        directory = self._directory / model / SEGMENTS
        directory.mkdir(parents=True, exist_ok=True)
        while True:
            path = directory / f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}.jsonl"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            if _lock(descriptor, path):
                segment = self._open[model] = _Segment(path, descriptor, now)
                return segment
            os.close(descriptor)  # another process compacts it already, between our making and locking it


def compact(segments: list[Path]) -> int:
    """Turn segments that nobody writes into Parquet; returns how many. One that fails stays as it is, and readable."""
    done = 0
    for path in segments:
        try:
            with _held(path) as held:
                if held:
                    _compact(path)
        except (OSError, ValueError, TypeError, RecursionError, pa.ArrowException):
            _log.exception("segment %s of the prediction log stays uncompacted", path)
        else:
            done += held
    return done


@contextmanager
def _held(segment: Path) -> Iterator[bool]:
    """Hold the segment for the block; tells False while another process writes or compacts it, or when it is gone."""
    try:
        descriptor = os.open(segment, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _lock(descriptor, segment)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, segment: Path) -> bool:
    with suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), segment.stat())  # not one that was removed meanwhile
    return False


def _compact(segment: Path) -> None:
    """Write all Parquet files of the segment, then remove it: the removal is what makes them count."""
    root = segment.parents[1]
    for path in root.glob(f"date=*/{segment.stem}*.parquet"):
        path.unlink()  # a compaction that was cut off may have divided the rows otherwise
    for number, table in enumerate(segment_tables(segment)):
        for partition, rows in partitions(table).items():
            _write_parquet(rows, root / partition / f"{segment.stem}.{number:04}.parquet")
    segment.unlink()


def _write_parquet(rows: pa.Table, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{segment_of(target)}.tmp")
    pq.write_table(rows, fresh, compression="zstd")
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.replace(target)
    sync_directory(target.parent)
