"""Fitting gives minutes that follow the way."""

from __future__ import annotations

import numpy as np
import pandas as pd
from air_time.train import INPUTS, fit, predict

PARAMS = {"rounds": 50, "learning_rate": 0.3, "seed": 1}


def flights(rows: int) -> pd.DataFrame:
    """Return made-up flights of 100 to 2,500 miles."""
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(rng.uniform(0, 30, (rows, len(INPUTS))), columns=list(INPUTS))
    return frame.assign(distance=rng.uniform(100, 2500, rows))


def test_minutes_follow_the_distance() -> None:
    """Seven miles a minute are learned within a few minutes."""
    frame = flights(2000)

    predicted = predict(fit(frame, frame["distance"] / 7, PARAMS), frame)

    assert np.abs(predicted - frame["distance"] / 7).mean() < 10


def test_a_longer_way_never_takes_less() -> None:
    """Whatever the noise, more distance does not lower a prediction."""
    frame = flights(500)
    model = fit(frame, frame["distance"] / 7 + np.random.default_rng(8).normal(0, 60, 500), PARAMS)

    farther = frame.assign(distance=frame["distance"] + 200)

    assert (predict(model, farther) >= predict(model, frame) - 1e-3).all()


def test_unknown_weather_is_no_obstacle() -> None:
    """Missing values are predicted, not refused."""
    frame = flights(200)
    model = fit(frame, frame["distance"] / 7, PARAMS)

    assert np.isfinite(predict(model, frame.assign(temp=np.nan, bearing=np.nan))).all()
