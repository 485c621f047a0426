"""The packaged model: features in, the probability of a late arrival out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel
from sklearn.ensemble import HistGradientBoostingClassifier

from flight_delays.features import Categories, encode


class LateArrival(PythonModel):
    """A classifier together with the categories that it was trained on."""

    def __init__(self, classifier: HistGradientBoostingClassifier, categories: Categories) -> None:
        self.classifier = classifier
        self.categories = categories

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:
        """Return the probability of arriving more than 15 minutes late for each row, shape (rows,)."""
        return self.classifier.predict_proba(encode(model_input, self.categories))[:, 1]
