"""Trains the model: logistic regression on the pixels."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler

LABEL = "digit"
REQUIREMENTS = ("mlflow-skinny", "numpy", "pandas", "scikit-learn")


def train(frame: pd.DataFrame, model_dir: str, params: Mapping[str, Any]) -> None:
    """Fit on the frame and save an MLflow model that answers ten probabilities per row."""
    pixels = frame.filter(like="pixel_")
    model = fit(pixels, frame[LABEL], params)
    mlflow.sklearn.save_model(
        model,
        model_dir,
        signature=infer_signature(pixels.head(), model.predict_proba(pixels.head())),
        pyfunc_predict_fn="predict_proba",
        serialization_format="cloudpickle",
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
    )


def fit(pixels: pd.DataFrame, digits: pd.Series, params: Mapping[str, Any]) -> Pipeline:
    """Return the fitted pipeline; params: C, the inverse strength of the regularisation."""
    pipeline = make_pipeline(MinMaxScaler(), LogisticRegression(C=float(params["C"]), max_iter=1000))
    return pipeline.fit(pixels, digits.astype(int))
