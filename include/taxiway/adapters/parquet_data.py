"""Datasets of Parquet files, in a local directory or in an object store (`s3://...`).

All files below the directory make one table; directories such as `month=2013-01` group files but add no column.
Timestamps without a zone are UTC. Names that begin with `.` or `_` are ignored, so that writers can work there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs

from taxiway.domain.values import Window
from taxiway.errors import DataError, TransientError

_TICK = timedelta(microseconds=1)
_CHECK_URI = "check data.uri in the model spec, and that the data has been delivered there."
_CHECK_COLUMNS = "check task and data.features in the model spec, or deliver the column."


class ParquetData:
    """A dataset partitioned by time; `timestamp` and `key` name its columns."""

    def __init__(self, uri: str, *, timestamp: str, key: str) -> None:
        self._uri = uri
        self._timestamp = timestamp
        self._key = key

    def newest(self) -> datetime:
        """Return the end of the newest data (UTC): the newest timestamp, floored to the microsecond, + 1 µs.

        Reads the statistics of the files' row groups, and the column only where a file has none. Raises DataError
        when there are no rows.
        """
        with self._errors():
            dataset = self._dataset([self._timestamp])
            newest = max(self._newest_of_files(dataset), default=None)
        if newest is None:
            raise DataError("the dataset has no rows", where=self._uri, next_step=_CHECK_URI)
        return newest.floor("us").to_pydatetime() + _TICK

    def read(self, window: Window, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the rows of the window ordered by time then key, the timestamp as datetime64[us, UTC].

        Only row groups that can hold such rows, and only these columns (all when None) are read. May be empty;
        raises DataError when the dataset or a column is missing.
        """
        with self._errors():
            wanted = list(columns) if columns is not None else None
            dataset = self._dataset([self._timestamp, self._key, *(wanted or [])])
            wanted = wanted if wanted is not None else dataset.schema.names
            read = list(dict.fromkeys([*wanted, self._timestamp, self._key]))
            table = dataset.to_table(columns=read, filter=self._in_window(dataset, window))
            frame: pd.DataFrame = table.sort_by([(self._timestamp, "ascending"), (self._key, "ascending")]).to_pandas()
        frame[self._timestamp] = pd.to_datetime(frame[self._timestamp], utc=True).astype("datetime64[us, UTC]")
        return frame[wanted]

    def _dataset(self, columns: Iterable[str]) -> Any:
        """Open the dataset and make sure that it has the columns."""
        dataset = ds.dataset(self._root(), filesystem=self._filesystem(), format="parquet", exclude_invalid_files=False)
        if not dataset.files:
            raise DataError("the dataset has no Parquet files", where=self._uri, next_step=_CHECK_URI)
        missing = [column for column in columns if column not in dataset.schema.names]
        if missing:
            raise DataError(
                f"the dataset has no column {', '.join(missing)} (it has {', '.join(dataset.schema.names)})",
                where=self._uri,
                next_step=_CHECK_COLUMNS,
            )
        kind = dataset.schema.field(self._timestamp).type
        if not pa.types.is_timestamp(kind):
            raise DataError(
                f"the column {self._timestamp} holds {kind}, not timestamps",
                where=self._uri,
                next_step="write it as a Parquet timestamp, or name another column as task.timestamp.",
            )
        return dataset

    def _filesystem(self) -> Any:
        if "://" in self._uri:
            return pyarrow.fs.FileSystem.from_uri(self._uri)[0]
        return pyarrow.fs.LocalFileSystem()

    def _root(self) -> str:
        if "://" in self._uri:
            root: str = pyarrow.fs.FileSystem.from_uri(self._uri)[1]
            return root
        return str(Path(self._uri).absolute())

    def _newest_of_files(self, dataset: Any) -> Iterator[pd.Timestamp]:
        for file in dataset.get_fragments():
            for group in file.row_groups:
                statistics = (group.statistics or {}).get(self._timestamp)
                if statistics is not None:
                    yield _utc(statistics["max"])
                elif group.num_rows:
                    column = file.subset(row_group_ids=[group.id]).to_table(columns=[self._timestamp])[0]
                    if column.null_count < len(column):
                        yield _utc(pc.max(column).as_py())

    def _in_window(self, dataset: Any, window: Window) -> Any:
        zone = dataset.schema.field(self._timestamp).type.tz
        start, end = (_moment(moment, zone) for moment in (window.start, window.end))
        return (ds.field(self._timestamp) >= start) & (ds.field(self._timestamp) < end)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Map what pyarrow raises while the dataset is found and read."""
        try:
            yield
        except FileNotFoundError as error:
            raise DataError("there is no dataset", where=self._uri, next_step=_CHECK_URI) from error
        except PermissionError as error:
            raise DataError(f"the dataset may not be read: {error}", where=self._uri, next_step=_CHECK_URI) from error
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            advice = "look at the named file; all files must be Parquet with the same columns."
            raise DataError(f"the dataset cannot be read: {error}", where=self._uri, next_step=advice) from error
        except OSError as error:
            advice = "check that the store can be reached; it will be tried again."
            raise TransientError(
                f"the dataset could not be read: {error}", where=self._uri, next_step=advice
            ) from error


def _utc(moment: datetime | pd.Timestamp) -> pd.Timestamp:
    stamp = pd.Timestamp(moment)
    return stamp.tz_localize(UTC) if stamp.tzinfo is None else stamp.tz_convert(UTC)


def _moment(moment: datetime, zone: str | None) -> Any:
    """Return the moment as an Arrow value that compares with a column of that zone (None: UTC without saying so)."""
    utc = moment.astimezone(UTC)
    return pa.scalar(utc if zone else utc.replace(tzinfo=None), pa.timestamp("us", tz=zone))
