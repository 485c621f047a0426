"""Trains the model: boosted trees on where the flight goes, when, and in which wind."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import mlflow.xgboost
import pandas as pd
import xgboost
from mlflow.models import infer_signature

LABEL = "air_time"
INPUTS = ("month", "dep_hour", "distance", "bearing", "temp", "pressure", "wind_dir", "wind_speed")
REQUIREMENTS = ("mlflow-skinny", "numpy", "pandas", "xgboost-cpu")


def train(frame: pd.DataFrame, model_dir: str, params: Mapping[str, Any]) -> None:
    """Fit on the frame and save an MLflow model: XGBoost's own file, without a pickle and without code of ours."""
    model = fit(frame, frame[LABEL], params)
    example = frame[list(INPUTS)].dropna().head().astype("float64")
    mlflow.xgboost.save_model(
        model,
        model_dir,
        signature=infer_signature(example, predict(model, example)),
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
    )


def fit(frame: pd.DataFrame, minutes: pd.Series, params: Mapping[str, Any]) -> xgboost.Booster:
    """Return the fitted trees; params: rounds, learning_rate, seed. A longer way never takes less time."""
    options = {
        "objective": "reg:squarederror",
        "learning_rate": float(params["learning_rate"]),
        "monotone_constraints": {"distance": 1} if "distance" in INPUTS else {},
        "seed": int(params["seed"]),
        "nthread": 1,
    }
    return xgboost.train(options, _matrix(frame, minutes), num_boost_round=int(params["rounds"]))


def predict(model: xgboost.Booster, frame: pd.DataFrame) -> Any:
    """Return the minutes in the air of each row, shape (rows,)."""
    return model.predict(_matrix(frame))


def _matrix(frame: pd.DataFrame, minutes: pd.Series | None = None) -> xgboost.DMatrix:
    return xgboost.DMatrix(frame[list(INPUTS)].astype("float64"), label=minutes)
