"""The prediction log on the local disk: its files, and the reader.

`<directory>/<model>/segments/<id>.jsonl` takes the answers as they are given, one line per request; nothing but an
append is ever done to it. `<directory>/<model>/date=YYYY-MM-DD/<id>.<n>.parquet` hold the same rows once the gateway
has compacted the segment, by the date of the event, in tables of bounded size. All Parquet files of a segment are in
place before the segment is removed, and they carry its id, so whoever lists segments first and then skips Parquet files
of the segments it has read sees each row exactly once, whenever the gateway compacts or dies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taxiway.domain.values import Window
from taxiway.errors import DataError

if TYPE_CHECKING:
    import pandas as pd  # a gateway imports this module, and pandas is a third of its start

SEGMENTS = "segments"
_TIME = pa.timestamp("us", tz="UTC")
_SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("key", pa.null()),
        ("event_time", _TIME),
        ("logged_at", _TIME),
        ("version", pa.int64()),
        ("role", pa.string()),
        ("prediction", pa.null()),
        ("latency_ms", pa.float64()),
    ]
)
_TYPED = {field.name: field.type for field in _SCHEMA if field.type != pa.null()}
_TRIES = 5
_MOST_COLUMNS, _MOST_CELLS = 10_000, 1_000_000
"""Columns, and columns times rows, of one table: each column that one caller invents has a cell in every row."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One answered request: `rows[i]` has the values of `columns` as they were sent, and got `predictions[i]`.

    `key` and `timestamp` name the columns with a row's key and event time; `role` is champion, canary or shadow.
    """

    request_id: str
    logged_at: datetime
    version: int
    role: str
    latency_ms: float
    key: str
    timestamp: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    predictions: Sequence[Any]

    def to_line(self) -> bytes:
        """Return the entry as one line of a segment; half characters, which JSON can have, become `?`."""
        document = {name: getattr(self, name) for name in _NAMES} | {"logged_at": self.logged_at.isoformat()}
        return _to_json(document).encode(errors="replace") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> LogEntry:
        """Read what `to_line` wrote."""
        document = json.loads(line)
        return cls(**document | {"logged_at": datetime.fromisoformat(document["logged_at"])})

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield one log row per prediction; the log's own columns win over features of the same name."""
        return (self._record(*pair) for pair in zip(self.rows, self.predictions, strict=True))

    def _record(self, row: Sequence[Any], prediction: Any) -> dict[str, Any]:
        sent = dict(zip(self.columns, row, strict=True))
        own = {
            "request_id": self.request_id,
            "key": sent.get(self.key),
            "event_time": _moment(sent.get(self.timestamp)) or self.logged_at,
            "logged_at": self.logged_at,
            "version": self.version,
            "role": self.role,
            "prediction": prediction,
            "latency_ms": self.latency_ms,
        }
        return own | {name: value for name, value in sent.items() if name not in own}


_NAMES = tuple(field.name for field in fields(LogEntry))
_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


class ParquetPredictionLog:
    """The prediction log of one environment, on this machine's disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, model: str, window: Window, features: Sequence[str] | None = None) -> pd.DataFrame:
        """Return one row per answered prediction whose event time is in the window, ordered by event time.

        Columns as the port says; without any row the frame has the log's own columns. Numbers keep their type; a
        feature that callers sent in different types is text. Raises DataError when the files keep changing.
        """
        names = None if features is None else [*_SCHEMA.names, *features]
        for _ in range(_TRIES):
            try:
                table = _combine(_tables(self._directory / model, window, names))
            except FileNotFoundError:
                continue  # a segment was compacted between listing and opening: its rows are in Parquet now
            frame: pd.DataFrame = table.to_pandas(coerce_temporal_nanoseconds=True)
            return frame.sort_values("event_time", kind="stable", ignore_index=True)
        raise DataError("the prediction log changed while it was read", where=str(self._directory / model))


def segment_tables(path: Path) -> Iterator[pa.Table]:
    """Yield the rows of a segment in order, in tables of bounded size."""
    names: set[str] = set()
    records: list[dict[str, Any]] = []
    for record in _records(path):
        columns = len(names) + len(record.keys() - names)
        if records and (columns > _MOST_COLUMNS or columns * (len(records) + 1) > _MOST_CELLS):
            yield _table(records)
            names, records = set(), []
        names.update(record)
        records.append(record)
    if records:
        yield _table(records)


def segment_of(parquet: Path) -> str:
    """Return the id of the segment whose rows the file has."""
    return parquet.name.partition(".")[0]


def _records(segment: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a segment; a last line without its end was never answered and does not count."""
    with segment.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                return  # its end may be written meanwhile, and would be read as a line
            yield from LogEntry.from_line(line).records()


def _table(records: Sequence[Mapping[str, Any]]) -> pa.Table:
    names = dict.fromkeys([*_SCHEMA.names, *(name for record in records for name in record)])
    return pa.table({name: _array([record.get(name) for record in records], _TYPED.get(name)) for name in names})


def _tables(root: Path, window: Window, names: Sequence[str] | None) -> list[pa.Table]:
    """Return what is in the window: first the segments, then the Parquet files of all other segments.

    `names` are the columns that are wanted, None for all: callers can send any, and the tables get them all.
    """
    inside = (pc.field("event_time") >= pa.scalar(window.start, _TIME)) & (
        pc.field("event_time") < pa.scalar(window.end, _TIME)
    )
    segments = sorted((root / SEGMENTS).glob("*.jsonl"))
    tables = [_only(table, names).filter(inside) for path in segments for table in segment_tables(path)]
    seen = {path.stem for path in segments}
    for path in sorted(root.glob("date=*/*.parquet")):
        if segment_of(path) not in seen and _overlaps(path.parent.name, window):
            tables.append(_only(pq.ParquetFile(path).read(columns=names), names).filter(inside))
    return [table for table in tables if table.num_rows]


def _only(table: pa.Table, names: Sequence[str] | None) -> pa.Table:
    return table if names is None else table.select([name for name in table.column_names if name in names])


def _overlaps(partition: str, window: Window) -> bool:
    day = date.fromisoformat(partition.removeprefix("date="))
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return start < window.end and window.start < start + timedelta(days=1)


def _combine(tables: Sequence[pa.Table]) -> pa.Table:
    """Return one table; a column whose types do not fit together becomes text."""
    try:
        return pa.concat_tables([_SCHEMA.empty_table(), *tables], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        types: dict[str, set[pa.DataType]] = {}
        for field in (field for table in tables for field in table.schema):
            types.setdefault(field.name, set()).add(field.type)
        mixed = {name for name, found in types.items() if not _fit_together(found)}
        return pa.concat_tables(
            [_SCHEMA.empty_table(), *(_with_text(table, mixed) for table in tables)], promote_options="permissive"
        )


def _fit_together(types: set[pa.DataType]) -> bool:
    known = types - {pa.null()}
    return len(known) <= 1 or all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in known)


def _with_text(table: pa.Table, names: set[str]) -> pa.Table:
    for name in names & set(table.column_names):
        text = _text(table[name].to_pylist())
        table = table.set_column(table.column_names.index(name), name, text)
    return table


def _array(values: Sequence[Any], kind: pa.DataType | None) -> pa.Array:
    """Return a column; values of unlike types are text, and so is what is nested: Parquet cannot have all of that."""
    try:
        array = pa.array(values, type=kind, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return _text(values)
    return array if _is_flat(array.type) else _text(values)


def _is_flat(kind: pa.DataType) -> bool:
    """Tell whether values are plain, or lists of plain values."""
    return not pa.types.is_nested(kind.value_type if pa.types.is_list(kind) else kind)


def _text(values: Sequence[Any]) -> pa.Array:
    texts = [value if value is None or isinstance(value, str) else json.dumps(value, default=str) for value in values]
    return pa.array(texts, type=pa.string())


def _moment(value: object) -> datetime | None:
    """Read an event time: ISO 8601 (UTC when it names no zone) or milliseconds since 1970, as pandas writes them."""
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000, tz=UTC)
    except (ValueError, OverflowError, OSError):
        pass  # not a time: the row counts at the moment it was answered
    return None


def partitions(table: pa.Table) -> Mapping[str, pa.Table]:
    """Split a segment's rows by the date of the event: partition name -> rows ordered by event time."""
    days = table["event_time"].cast(pa.date32())
    ordered = sorted(pc.unique(days).to_pylist())
    return {
        f"date={day.isoformat()}": table.filter(pc.equal(days, pa.scalar(day, pa.date32()))).sort_by("event_time")
        for day in ordered
    }
