"""The packaged model: measurements in, the probability of a malignant tumour out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel
from sklearn.pipeline import Pipeline


class Malignancy(PythonModel):
    """A fitted pipeline that answers one probability per row."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:
        """Return the probability of a malignant tumour for each row, shape (rows,)."""
        return self.pipeline.predict_proba(model_input.to_numpy())[:, 1]
