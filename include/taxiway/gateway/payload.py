"""The rows of a scoring request, as the prediction log keeps them (MLflow's scoring protocol)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

JSON, CSV = "application/json", "text/csv"
_FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_DEEPEST = 500  # half of what Python's reader and writer of JSON take, which also count the calls around them
_NESTED = {list, dict}
_MOST_COLUMNS = 10_000  # each costs the log's files some kilobytes, whatever is in it
_FEW_CELLS, _SPARSEST = 100_000, 4  # records are a table here: it may have that many cells, or so many per value sent
_PROTOCOL = f"the body must be a JSON object with exactly one of {', '.join(_FORMATS)}"


@dataclass(frozen=True, slots=True)
class Rows:
    """Named values of each row; `None` for a request whose values have no names (tensors)."""

    columns: Sequence[str]
    values: Sequence[Sequence[Any]]


def read_rows(body: bytes, content_type: str) -> Rows | None:
    """Return the rows of a request body; raises ValueError, in words that repeat nothing of the body.

    Only what is surely wrong for every model is refused here; everything else is left to the model.
    """
    rows = _from_csv(_decoded(body)) if content_type == CSV else _from_json(body)
    if rows is not None and len(rows.columns) > _MOST_COLUMNS:
        raise ValueError(f"the body must not have more than {_MOST_COLUMNS} columns")
    return rows


def _from_json(body: bytes) -> Rows | None:
    try:
        document = json.loads(_decoded(body))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError("the body is not valid JSON") from error
    found = [name for name in _FORMATS if isinstance(document, dict) and name in document]
    if len(found) != 1:
        raise ValueError(_PROTOCOL)
    data = document[found[0]]
    if not is_shallow(data, body):
        raise ValueError(f"the body must not be nested deeper than {_DEEPEST} levels")
    if found[0] == "dataframe_split":
        return _from_split(data)
    if isinstance(data, dict):
        return _from_columns(data)
    return _from_records(data)


def is_shallow(value: Any, text: bytes) -> bool:
    """Tell whether the value of a JSON text is nested little enough to be written as JSON again, inside a log entry."""
    if text.count(b"[") + text.count(b"{") <= _DEEPEST:
        return True  # it need not be walked through
    level = [value] if type(value) in _NESTED else []
    for _ in range(_DEEPEST):
        if not level:
            return True
        items = (outer.values() if isinstance(outer, dict) else outer for outer in level)
        level = [item for inner in items for item in inner if type(item) in _NESTED]
    return False


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("the body is not valid UTF-8") from error


def _from_split(data: Any) -> Rows | None:
    columns, values = (data.get("columns"), data.get("data")) if isinstance(data, dict) else (None, None)
    if not isinstance(columns, list) or not isinstance(values, list):
        return None
    if not all(isinstance(row, list) and len(row) == len(columns) for row in values):
        raise ValueError("every row of dataframe_split.data must have one value per column")
    return Rows([str(name) for name in columns], values)


def _from_records(data: Any) -> Rows | None:
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        return None
    columns = list(dict.fromkeys(name for row in data for name in row))
    if len(columns) * len(data) > max(_FEW_CELLS, _SPARSEST * sum(map(len, data))):
        raise ValueError("the body's records must have the same columns: most of theirs are missing in the others")
    return Rows(columns, [[row.get(name) for name in columns] for row in data])


def _from_columns(data: dict[str, Any]) -> Rows | None:
    lists = list(data.values())
    if not lists or not all(isinstance(values, list) and len(values) == len(lists[0]) for values in lists):
        return None
    return Rows(list(data), list(zip(*lists, strict=True)))


def _from_csv(text: str) -> Rows:
    try:
        lines = list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise ValueError("the body is not valid CSV") from error
    if not lines or not all(len(line) == len(lines[0]) for line in lines if line):
        raise ValueError("the CSV must have a header and one value per column in every line")
    return Rows(lines[0], [[_number(cell) for cell in line] for line in lines[1:] if line])


def _number(cell: str) -> int | float | str | None:
    if "_" in cell:
        return cell  # Python reads 1_000 as a number, nobody else does
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell or None
