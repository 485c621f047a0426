"""The packaged model on the real scoring server; MODEL_URL says where it answers."""

from __future__ import annotations

import os

import httpx

FLIGHT = {"month": 1, "dep_hour": 9, "temp": 39.0, "pressure": 1012.0, "wind_dir": 260, "wind_speed": 12.7}


def minutes(*flights: dict[str, object]) -> list[float]:
    """Ask the server."""
    rows = [{**FLIGHT, **flight} for flight in flights]
    response = httpx.post(f"{os.environ['MODEL_URL']}/invocations", json={"dataframe_records": rows}, timeout=30)
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def test_boston_is_nearer_than_san_francisco() -> None:
    """Less than an hour and a half to Boston, more than four and a half to the west coast."""
    boston, san_francisco = minutes({"distance": 187, "bearing": 53}, {"distance": 2586, "bearing": 282})

    assert 20 < boston < 90
    assert 270 < san_francisco < 450


def test_text_that_the_model_does_not_need_is_ignored() -> None:
    """Callers send whole rows, with carrier and airports."""
    with_text, without = minutes(
        {"distance": 1000, "bearing": 225, "carrier": "UA"}, {"distance": 1000, "bearing": 225}
    )

    assert with_text == without
