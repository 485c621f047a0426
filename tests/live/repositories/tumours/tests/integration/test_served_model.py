"""The packaged model on the real scoring server; MODEL_URL says where it answers."""

from __future__ import annotations

import os

import httpx
from sklearn.datasets import load_breast_cancer


def test_the_served_model_tells_malignant_from_benign() -> None:
    """A malignant and a benign tumour get probabilities on their side of one half."""
    measured = load_breast_cancer()
    columns = [name.replace(" ", "_") for name in measured.feature_names]
    malignant, benign = measured.data[0].tolist(), measured.data[19].tolist()
    body = {"dataframe_split": {"columns": columns, "data": [malignant, benign]}}

    response = httpx.post(f"{os.environ['MODEL_URL']}/invocations", json=body, timeout=30)

    assert response.status_code == 200, response.text
    first, second = response.json()["predictions"]
    assert first > 0.5 > second


def test_a_row_without_measurements_is_refused() -> None:
    """What does not fit the signature is the caller's mistake."""
    body = {"dataframe_split": {"columns": ["colour"], "data": [["blue"]]}}

    assert httpx.post(f"{os.environ['MODEL_URL']}/invocations", json=body, timeout=30).status_code == 400
