"""Makes the data frame of a scoring request the short way, where that gives the frame that MLflow would make.

MLflow builds a frame from the request and casts it column by column in place, which costs a small model more than the
prediction. Here every column is made with the type of the model's schema at once; additional columns, such as the key
and the timestamp of a row, are dropped as MLflow drops them. Whatever is not plain (other types, missing columns, a
column twice, params, an index, values that would have to be converted) is left to MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from mlflow.types import DataType

Values = Sequence[Any]


def _of_kinds(kind: Any, *allowed: type) -> Callable[[Values], Any]:
    """Return a maker of arrays from values that all are of the allowed Python types, exactly."""

    def make(values: Values) -> Any:
        if not {type(value) for value in values} <= set(allowed):
            raise TypeError("would have to be converted")
        return np.array(values, dtype=kind)

    return make


def _strings(values: Values) -> Any:
    if {type(value) for value in values} != {str}:
        raise TypeError("would have to be converted")
    return values  # pandas chooses how to store text, as it does for MLflow


def _datetimes(values: Values) -> Any:
    return pd.to_datetime(pd.Series(_strings(values))).astype("datetime64[ns]")


_MAKERS: dict[Any, Callable[[Values], Any]] = {
    DataType.double: _of_kinds(np.float64, float, int, type(None)),
    DataType.float: _of_kinds(np.float32, float, int, type(None)),
    DataType.long: _of_kinds(np.int64, int),
    DataType.integer: _of_kinds(np.int32, int),
    DataType.boolean: _of_kinds(np.bool_, bool),
    DataType.string: _strings,
    DataType.datetime: _datetimes,
}


class FrameMaker:
    """Makes the frames of one model."""

    def __init__(self, metadata: Any) -> None:
        """Take the metadata of a loaded MLflow model."""
        schema = metadata.get_input_schema()
        self._makers: dict[str, Callable[[Values], Any]] = {}
        # MLflow gives a model whose signature is a type hint what was sent, not a frame; older ones had no such models.
        hinted = getattr(metadata, "_is_signature_from_type_hint", bool)()
        if hinted or schema is None or schema.is_tensor_spec() or not schema.has_input_names():
            return
        types = {column.name: column.type for column in schema.inputs}
        if all(isinstance(kind, DataType) and kind in _MAKERS for kind in types.values()):
            self._makers = {name: _MAKERS[kind] for name, kind in types.items()}

    def frame(self, body: bytes) -> pd.DataFrame | None:
        """Return the frame (one column per input of the schema, in its order), or None: that is for MLflow to judge."""
        if not self._makers:
            return None
        try:
            columns = _columns(json.loads(body))
            return pd.DataFrame({name: maker(columns[name]) for name, maker in self._makers.items()})
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
            return None


def _columns(document: Any) -> dict[str, Values]:
    """Return the values by name; raises TypeError for everything but full rows of named values."""
    (layout,) = document
    data = document[layout]
    if layout == "dataframe_split" and data.keys() == {"columns", "data"}:
        names, rows = data["columns"], data["data"]
    elif layout == "dataframe_records":
        names = list(data[0])
        if not all(type(row) is dict and row.keys() == data[0].keys() for row in data):
            raise TypeError("not every row has every value")
        rows = [list(map(row.__getitem__, names)) for row in data]
    else:
        raise TypeError("neither rows nor records")
    if not rows or len(set(names)) < len(names) or {type(name) for name in names} != {str}:
        raise TypeError("no rows, or names that are none")
    if not all(type(row) is list and len(row) == len(names) for row in rows):
        raise TypeError("not every row has every value")
    return dict(zip(names, zip(*rows, strict=True), strict=True))
