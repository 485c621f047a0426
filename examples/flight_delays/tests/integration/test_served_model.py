"""The packaged model on the real scoring server; MODEL_URL says where it answers."""

from __future__ import annotations

import os
from typing import Any

import httpx
import pytest

FLIGHT = {
    "carrier": "UA",
    "origin": "EWR",
    "dest": "ORD",
    "month": 3,
    "weekday": 4,
    "dep_hour": 17,
    "distance": 719,
    "temp": 45.0,
    "dewp": 33.1,
    "humid": 62.9,
    "wind_dir": 270,
    "wind_speed": 12.7,
    "precip": 0.0,
    "pressure": 1014.2,
    "visib": 10.0,
    "plane_age": 12,
    "seats": 149,
}


def ask(*flights: dict[str, Any]) -> httpx.Response:
    """Send the flights as one request; all have the columns of the first."""
    columns = list(flights[0])
    body = {"dataframe_split": {"columns": columns, "data": [[flight[name] for name in columns] for flight in flights]}}
    return httpx.post(f"{os.environ['MODEL_URL']}/invocations", json=body, timeout=30)


def predict(*flights: dict[str, Any]) -> list[float]:
    """Return the probabilities that the model answers."""
    response = ask(*flights)
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def test_a_usual_flight_gets_a_sensible_probability() -> None:
    """A Friday evening flight in fair weather is neither certain to be late nor certain to be in time."""
    (score,) = predict(FLIGHT)

    assert 0.02 < score < 0.9


def test_a_batch_is_answered_row_by_row() -> None:
    """The answer to a row does not depend on the rows that come with it."""
    flights = [FLIGHT | {"dest": dest} for dest in ("ORD", "BOS", "SFO")]

    assert predict(*flights) == pytest.approx([predict(flight)[0] for flight in flights])


@pytest.mark.parametrize("missing", ["temp", "plane_age", "seats", "pressure", "carrier"])
def test_a_missing_value_is_answered(missing: str) -> None:
    """Weather stations and the plane register have gaps: null is a value the model knows."""
    (score,) = predict(FLIGHT | {missing: None})

    assert 0 <= score <= 1


def test_an_unknown_airport_is_answered() -> None:
    """A destination that opens tomorrow gets a probability too."""
    (score,) = predict(FLIGHT | {"dest": "XXX"})

    assert 0 <= score <= 1


@pytest.mark.parametrize(
    "wrong", [{"carrier": "UA"}, FLIGHT | {"distance": "far"}], ids=["columns missing", "text for a number"]
)
def test_a_wrong_row_is_refused(wrong: dict[str, Any]) -> None:
    """What does not fit the signature is the caller's mistake: 400, and no prediction."""
    assert ask(wrong).status_code == 400
