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
            dataset = self._dataset()
            newest = max(self._newest_of_files(dataset), default=None)
        if newest is None:
            raise DataError("the dataset has no rows", where=self._uri, next_step=_CHECK_URI)
        return newest.floor("us").to_pydatetime() + _TICK

    def read(self, window: Window, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the rows of the window ordered by time then key, the timestamp as datetime64[us, UTC].

        Only row groups that can hold such rows, and only these columns (all when None) are read; a file without one of
        the columns has missing values there. May be empty; raises DataError when the dataset or a column is missing,
        or the window's files hold different things in one column.
        """
        with self._errors():
            dataset = self._dataset()
            rows = self._in_window(dataset, window)
            files = self._files_with(rows, dataset, None if columns is None else [*columns, self._timestamp, self._key])
            wanted = list(columns) if columns is not None else files.schema.names
            read = list(dict.fromkeys([*wanted, self._timestamp, self._key]))
            self._require(read, files.schema.names, others=dataset.schema.names)
            table = files.to_table(columns=read, filter=rows)
            frame: pd.DataFrame = table.sort_by([(self._timestamp, "ascending"), (self._key, "ascending")]).to_pandas()
        frame[self._timestamp] = pd.to_datetime(frame[self._timestamp], utc=True).astype("datetime64[us, UTC]")
        return frame[wanted]

    def _dataset(self) -> Any:
        """Open the dataset and make sure that it has times."""
        dataset = ds.dataset(self._root(), filesystem=self._filesystem(), format="parquet", exclude_invalid_files=False)
        if not dataset.files:
            raise DataError("the dataset has no Parquet files", where=self._uri, next_step=_CHECK_URI)
        self._require([self._timestamp], dataset.schema.names)
        kind = dataset.schema.field(self._timestamp).type
        if not pa.types.is_timestamp(kind):
            raise DataError(
                f"the column {self._timestamp} holds {kind}, not timestamps",
                where=self._uri,
                next_step="write it as a Parquet timestamp, or name another column as task.timestamp.",
            )
        return dataset

    def _files_with(self, rows: Any, dataset: Any, columns: Sequence[str] | None) -> Any:
        """Return the files that can hold such rows, as a dataset that fits all of them: widest numbers, all columns.

        Left alone, Arrow casts every file to the types of the first: numbers become text, times become numbers.
        """
        files = [file for file in dataset.get_fragments() if file.split_by_row_group(rows, dataset.schema)]
        schema = pa.schema([])
        for file in files:
            own = [field for field in file.physical_schema if columns is None or field.name in columns]
            try:
                schema = _merged(schema, pa.schema(own))
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise DataError(
                    f"{Path(file.path).name} does not fit the files before it: {error}",
                    where=f"{self._uri}, {file.path}",
                    next_step="deliver the file again, each column with the same type as before.",
                ) from error
        return ds.FileSystemDataset(files, schema, dataset.format, dataset.filesystem) if files else dataset

    def _require(self, columns: Iterable[str], names: Sequence[str], others: Sequence[str] = ()) -> None:
        missing = [column for column in columns if column not in names]
        if missing:
            has = ", ".join(name for name in dict.fromkeys([*names, *others]) if name not in missing)
            raise DataError(
                f"the dataset has no column {', '.join(missing)} (it has {has})",
                where=self._uri,
                next_step=_CHECK_COLUMNS,
            )

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


def _merged(schema: Any, own: Any) -> Any:
    """Return a schema for both files; raises ArrowTypeError when a column holds different things."""
    try:
        return pa.unify_schemas([schema, own], promote_options="permissive")
    except pa.ArrowTypeError:  # categories in one file and text in another are all text
        return pa.unify_schemas([_decoded(schema), _decoded(own)], promote_options="permissive")


def _decoded(schema: Any) -> Any:
    kinds = {field.name: field.type for field in schema}
    return pa.schema([(name, of.value_type if pa.types.is_dictionary(of) else of) for name, of in kinds.items()])


def _utc(moment: datetime | pd.Timestamp) -> pd.Timestamp:
    stamp = pd.Timestamp(moment)
    return stamp.tz_localize(UTC) if stamp.tzinfo is None else stamp.tz_convert(UTC)


def _moment(moment: datetime, zone: str | None) -> Any:
    """Return the moment as an Arrow value that compares with a column of that zone (None: UTC without saying so)."""
    utc = moment.astimezone(UTC)
    return pa.scalar(utc if zone else utc.replace(tzinfo=None), pa.timestamp("us", tz=zone))
