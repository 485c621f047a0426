"""Trains the model. Taxiway calls `train` (see [tool.taxiway] in pyproject.toml)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.models import infer_signature
from sklearn.ensemble import HistGradientBoostingClassifier

from flight_delays.features import CATEGORICAL, categories_of, encode, select
from flight_delays.model import LateArrival

LABEL = "late"
PACKAGE = Path(__file__).parent
REQUIREMENTS = ("mlflow-skinny", "numpy", "pandas", "scikit-learn")


def train(frame: pd.DataFrame, model_dir: str, params: Mapping[str, Any]) -> None:
    """Fit on the frame (features and the label `late`) and save an MLflow model; the same input, the same model."""
    features = select(frame)
    model = fit(features, frame[LABEL], params)
    example = features.dropna().head(5)
    mlflow.pyfunc.save_model(
        model_dir,
        python_model=model,
        signature=infer_signature(example, model.predict(None, example)),
        input_example=example,
        code_paths=[str(PACKAGE)],
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
    )


def fit(features: pd.DataFrame, labels: pd.Series, params: Mapping[str, Any]) -> LateArrival:
    """Return the fitted model; params: max_iter, learning_rate, seed."""
    categories = categories_of(features)
    classifier = HistGradientBoostingClassifier(
        max_iter=int(params["max_iter"]),
        learning_rate=float(params["learning_rate"]),
        random_state=int(params["seed"]),
        categorical_features=list(range(len(CATEGORICAL))),
        early_stopping=False,
    )
    return LateArrival(classifier.fit(encode(features, categories), labels.astype(int)), categories)
