"""What the model looks at: everything that is known before a flight leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

CATEGORICAL = ("carrier", "origin", "dest")

SCHEDULE = ("month", "weekday", "dep_hour", "distance")
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
PLANE = ("plane_age", "seats")
NUMERIC = (*SCHEDULE, *WEATHER, *PLANE)

FEATURES = (*CATEGORICAL, *NUMERIC)

Categories = Mapping[str, Sequence[str]]


def select(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the features in their fixed order: text columns as they are, numbers as float64 (missing is NaN)."""
    return frame[list(FEATURES)].astype(dict.fromkeys(NUMERIC, "float64"))


def categories_of(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Return the known values of each categorical column, sorted."""
    return {name: sorted(frame[name].dropna().unique().tolist()) for name in CATEGORICAL}


def encode(frame: pd.DataFrame, categories: Categories) -> np.ndarray:
    """Return the features as float64, shape (rows, features); a value never seen in training counts as missing."""
    columns = [_codes(frame[name], categories[name]) for name in CATEGORICAL]
    columns += [frame[name].to_numpy(dtype="float64") for name in NUMERIC]
    return np.column_stack(columns)


def _codes(values: pd.Series, known: Sequence[str]) -> np.ndarray:
    code = {value: float(position) for position, value in enumerate(known)}
    return np.array([code.get(value, np.nan) for value in values], dtype="float64")
