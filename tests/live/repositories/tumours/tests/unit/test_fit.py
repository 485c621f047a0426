"""Fitting gives probabilities that follow the label."""

from __future__ import annotations

import pandas as pd
from sklearn.datasets import load_breast_cancer
from tumours.train import fit


def test_malignant_tumours_score_higher() -> None:
    """The fitted model tells malignant from benign tumours."""
    measured = load_breast_cancer(as_frame=True)
    malignant = pd.Series(measured.target == 0)

    scores = fit(measured.data, malignant, {"C": 1.0}).predict(None, measured.data)

    assert scores[malignant].min() > 0
    assert scores[malignant].mean() > 0.9 > 0.1 > scores[~malignant].mean()
