"""The packaged model on the real scoring server; MODEL_URL says where it answers."""

from __future__ import annotations

import os

import httpx
from sklearn.datasets import load_digits


def test_the_served_model_reads_digits() -> None:
    """Ten images get ten probabilities each, and nearly all the right digit."""
    images = load_digits(as_frame=True)
    body = {"dataframe_split": {"columns": list(images.data.columns), "data": images.data.head(10).to_numpy().tolist()}}

    response = httpx.post(f"{os.environ['MODEL_URL']}/invocations", json=body, timeout=30)

    assert response.status_code == 200, response.text
    scores = response.json()["predictions"]
    assert {len(row) for row in scores} == {10}
    read = [row.index(max(row)) for row in scores]
    assert sum(digit == guess for digit, guess in zip(images.target, read, strict=False)) >= 9


def test_half_an_image_is_refused() -> None:
    """What does not fit the signature is the caller's mistake."""
    body = {"dataframe_split": {"columns": ["pixel_0_0"], "data": [[1.0]]}}

    assert httpx.post(f"{os.environ['MODEL_URL']}/invocations", json=body, timeout=30).status_code == 400
