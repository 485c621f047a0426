"""Training gives a model that can be packaged, loaded and trusted to be the same again."""

from __future__ import annotations

from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest
from flight_delays.features import FEATURES, select
from flight_delays.train import fit, train
from made_up_flights import made_up

PARAMS = {"max_iter": 20, "learning_rate": 0.1, "seed": 1}


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("trained") / "model"
    train(made_up(rows=600), str(directory), PARAMS)
    return directory


def test_the_model_answers_one_probability_per_row(packaged: Path) -> None:
    """The packaged model answers the probability of a late arrival, once per row."""
    model = mlflow.pyfunc.load_model(str(packaged))

    scores = model.predict(select(made_up(rows=50, seed=8)))

    assert scores.shape == (50,)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_the_signature_names_the_features(packaged: Path) -> None:
    """Callers can read from the model which columns it needs."""
    schema = mlflow.pyfunc.load_model(str(packaged)).metadata.get_input_schema()

    assert tuple(schema.input_names()) == FEATURES


def test_the_package_holds_its_code(packaged: Path) -> None:
    """Serving needs the model directory only, not this repository."""
    assert (packaged / "code" / "flight_delays" / "model.py").is_file()


def test_training_twice_gives_the_same_model() -> None:
    """The same rows and params give exactly the same predictions."""
    frame = made_up(rows=600)
    features = select(frame)

    first, second = (fit(features, frame["late"], PARAMS).predict(None, features) for _ in range(2))

    np.testing.assert_array_equal(first, second)


def test_the_model_learns_from_the_rows() -> None:
    """Late flights score higher than punctual ones."""
    frame = made_up(rows=2000)
    features, late = select(frame), frame["late"] == 1

    scores = fit(features, frame["late"], PARAMS).predict(None, features)

    assert scores[late].mean() > scores[~late].mean() + 0.05
