"""The features are what the model was trained on, whatever the caller sends."""

from __future__ import annotations

import numpy as np
import pandas as pd
from flight_delays.features import CATEGORICAL, FEATURES, categories_of, encode, select
from made_up_flights import made_up


def test_select_keeps_only_the_features_in_their_order() -> None:
    """Key, timestamp and label never reach the model, and columns in another order change nothing."""
    frame = made_up(rows=20)

    selected = select(frame[sorted(frame.columns)])

    assert tuple(selected.columns) == FEATURES
    assert not {"flight_id", "scheduled_departure", "late"} & set(selected.columns)


def test_numbers_become_float64() -> None:
    """Whole numbers arrive as integers or floats, and look the same to the model."""
    frame = made_up(rows=20)
    whole = frame.astype({"month": "int64", "distance": "int32"})

    pd.testing.assert_frame_equal(select(whole), select(frame))


def test_encode_is_one_number_per_feature() -> None:
    """Every row becomes as many float64 numbers as there are features."""
    features = select(made_up(rows=20))

    encoded = encode(features, categories_of(features))

    assert encoded.shape == (20, len(FEATURES))
    assert encoded.dtype == np.float64


def test_unknown_and_missing_categories_are_missing() -> None:
    """A carrier that training never saw, and none at all, count as missing."""
    features = select(made_up(rows=20))
    known = categories_of(features)
    features.loc[0, "carrier"] = "??"
    features.loc[1, "carrier"] = None

    codes = encode(features, known)[:, CATEGORICAL.index("carrier")]

    assert np.isnan(codes[:2]).all()
    assert not np.isnan(codes[2:]).any()
