"""MLflow's scoring protocol: rows as requests with exact values, and answers read with distrust."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeGuard

from taxiway.stages.untrusted_files import document

if TYPE_CHECKING:
    import pandas as pd

JSON = "application/json"


def as_split(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the frame as `dataframe_split` with exact values; times are ISO 8601, what is missing is null."""
    cells = [_cells(frame.iloc[:, index]) for index in range(frame.shape[1])]
    return {"columns": [str(name) for name in frame.columns], "data": [list(row) for row in zip(*cells, strict=True)]}


def request(rows: object, *, form: str = "dataframe_split") -> bytes:
    """Return the JSON body that asks for predictions of rows, in one of the protocol's forms (see `as_split`)."""
    return json.dumps({form: rows}, default=str).encode()


def predictions(answer: bytes) -> list[Any]:
    """Return one prediction per row: a number or a label, or as many scores in each row; raises ValueError.

    What is no finite number stays what it is (null, or an infinity): `is_sound` finds it.
    """
    found = document(answer)
    values = found.get("predictions") if isinstance(found, dict) else None
    if not isinstance(values, list):
        raise ValueError("it has no list of predictions")
    rows = [list(row.values()) if isinstance(row, dict) else row for row in values]
    scores = [row for row in rows if isinstance(row, list)]
    if scores and (len(scores) < len(rows) or len({len(row) for row in scores}) > 1):
        raise ValueError("its rows have different lengths")
    if any(not _is_number(score) and score is not None for row in scores for score in row):
        raise ValueError("it has rows with something else than scores")
    return rows


def is_sound(prediction: Any) -> bool:
    """Tell whether a prediction is a label, or made of finite numbers."""
    if isinstance(prediction, list):
        return all(_is_number(score) and math.isfinite(score) for score in prediction)
    return isinstance(prediction, str) or (_is_number(prediction) and math.isfinite(prediction))


def _cells(column: pd.Series[Any]) -> list[Any]:
    values = column.astype(object)
    return [
        None if missing else value.isoformat() if isinstance(value, datetime) else value
        for value, missing in zip(values, column.isna(), strict=True)
    ]


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float)
