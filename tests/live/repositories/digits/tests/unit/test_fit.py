"""Fitting gives probabilities that follow the pixels."""

from __future__ import annotations

from digits.train import fit
from sklearn.datasets import load_digits


def test_most_digits_are_recognised() -> None:
    """Of the digits that the model has seen nearly all get their own class, and each row's probabilities are one."""
    images = load_digits(as_frame=True)

    model = fit(images.data, images.target, {"C": 1.0})

    assert (model.predict(images.data) == images.target).mean() > 0.97
    assert abs(model.predict_proba(images.data).sum(axis=1) - 1).max() < 1e-6


def test_classes_are_the_ten_digits_in_order() -> None:
    """The columns of the answer are 0 to 9."""
    images = load_digits(as_frame=True)

    assert fit(images.data, images.target, {"C": 1.0}).classes_.tolist() == list(range(10))
