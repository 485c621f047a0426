"""Made-up flights for the unit tests."""

from __future__ import annotations

import numpy as np
import pandas as pd


def made_up(rows: int, seed: int = 7) -> pd.DataFrame:
    """Return flights with every column of the dataset; evening flights in the rain are late more often."""
    rng = np.random.default_rng(seed)
    number = pd.Series(np.arange(rows))
    departure = pd.Timestamp("2013-01-01T10:00Z") + pd.to_timedelta(number * 20, unit="min")
    frame = pd.DataFrame(
        {
            "flight_id": "F" + number.astype(str),
            "scheduled_departure": departure,
            "carrier": rng.choice(["AA", "B6", "UA"], rows),
            "origin": rng.choice(["EWR", "JFK", "LGA"], rows),
            "dest": rng.choice(["BOS", "ORD", "SFO"], rows),
            "month": departure.dt.month.astype("float64"),
            "weekday": departure.dt.weekday.astype("float64"),
            "dep_hour": departure.dt.hour.astype("float64"),
            "distance": rng.choice([187.0, 733.0, 2586.0], rows),
            "temp": rng.normal(55, 15, rows),
            "dewp": rng.normal(40, 15, rows),
            "humid": rng.uniform(20, 100, rows),
            "wind_dir": rng.uniform(0, 360, rows),
            "wind_speed": rng.gamma(3, 4, rows),
            "precip": rng.choice([0.0, 0.0, 0.1], rows),
            "pressure": rng.normal(1017, 7, rows),
            "visib": rng.choice([10.0, 10.0, 3.0], rows),
            "plane_age": rng.choice([2.0, 12.0, np.nan], rows),
            "seats": rng.choice([55.0, 189.0, np.nan], rows),
        }
    )
    risk = 0.05 + 0.03 * frame["dep_hour"] + 3 * frame["precip"]
    return frame.assign(late=(rng.uniform(size=rows) < risk).astype("float64"))
