"""Trains the model: logistic regression on all measurements."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tumours.model import Malignancy

LABEL = "malignant"
NOT_MEASURED = ["patient_id", "examined_at", LABEL]
REQUIREMENTS = ("mlflow-skinny", "numpy", "pandas", "scikit-learn")


def train(frame: pd.DataFrame, model_dir: str, params: Mapping[str, Any]) -> None:
    """Fit on the frame and save an MLflow model."""
    features = frame.drop(columns=NOT_MEASURED)
    model = fit(features, frame[LABEL], params)
    mlflow.pyfunc.save_model(
        model_dir,
        python_model=model,
        signature=infer_signature(features.head(), model.predict(None, features.head())),
        code_paths=[str(Path(__file__).parent)],
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
    )


def fit(features: pd.DataFrame, labels: pd.Series, params: Mapping[str, Any]) -> Malignancy:
    """Return the fitted model; params: C, the inverse strength of the regularisation."""
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=float(params["C"])))
    return Malignancy(pipeline.fit(features.to_numpy(), labels.astype(int)))
