"""What a server may answer to a bad request, and how answers of an untrusted server are read."""

from __future__ import annotations

import json

import pytest

from taxiway.stages.bad_requests import BadRequest, bad_requests, problem
from taxiway.stages.scoring_protocol import is_sound, predictions
from taxiway.stages.served_model import Answer

ROW = {"x": 1.0, "c": "a"}
COLUMNS = [{"name": "x", "type": "double", "required": True}, {"name": "c", "type": "string", "required": True}]
JSON = "application/json"
REFUSAL = b'{"error_code": "BAD_REQUEST", "message": "no"}'


def problem_of(status: int, body: bytes, content_type: str = JSON, *, empty: bool = False) -> str | None:
    """Return what is wrong with this answer."""
    return problem(BadRequest("any", b"", empty=empty), Answer(status, content_type, body, 0.0))


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_refusal_in_json_is_right(status: int) -> None:
    """Any 4xx with a JSON object is how a bad request is refused."""
    assert problem_of(status, REFUSAL) is None


@pytest.mark.parametrize(
    ("status", "body", "content_type", "says"),
    [
        (200, b'{"predictions": [1]}', JSON, "status 200 instead of 4xx"),
        (500, REFUSAL, JSON, "status 500 instead of 4xx"),
        (302, REFUSAL, JSON, "status 302 instead of 4xx"),
        (400, b'{"message": "Traceback (most recent call last)"}', JSON, "stack trace"),
        (400, b'{"message": "in File \\"a.py\\", File "b.py", line 2"}', JSON, "stack trace"),
        (400, b"bad request", JSON, "no JSON object"),
        (400, b'["bad request"]', JSON, "no JSON object"),
        (400, REFUSAL, "text/plain", "no JSON object"),
        (400, b"[" * 100_000, JSON, "no JSON object"),
    ],
)
def test_other_answers_are_wrong(status: int, body: bytes, content_type: str, says: str) -> None:
    """No success, no server error, no inside of the server, and nothing but JSON."""
    assert says in str(problem_of(status, body, content_type))


def test_repeating_what_was_sent_is_wrong() -> None:
    """The words of a request are in no answer to it, in whatever part of the request they were."""
    for bad in bad_requests(ROW, COLUMNS):
        sent = f"{bad.body.decode()} {bad.content_type}"
        if bad.name in ("no rows", "no content type"):
            continue
        answer = Answer(400, JSON, json.dumps({"message": f"cannot read {sent}"}).encode(), 0.0)
        assert problem(bad, answer) == "the answer repeats what was sent", bad.name


def test_nothing_is_an_answer_to_nothing() -> None:
    """No rows may be refused, or answered with no predictions; a prediction for nothing is wrong."""
    assert problem_of(200, b'{"predictions": []}', empty=True) is None
    assert problem_of(400, REFUSAL, empty=True) is None
    assert problem_of(200, b'{"predictions": [0.5]}', empty=True) == "status 200 instead of 4xx"
    assert problem_of(200, b'{"predictions": []}') == "status 200 instead of 4xx"


def test_requests_suit_the_signature() -> None:
    """A column is missed only when it is required, and gets a text only when it has numbers."""
    by_name = {bad.name: bad for bad in bad_requests(ROW, COLUMNS)}
    assert "x" not in json.loads(by_name["a missing column"].body)["dataframe_records"][0]
    assert isinstance(json.loads(by_name["text in a column of numbers"].body)["dataframe_records"][0]["x"], str)

    optional = [{"name": "c", "type": "string", "required": False}]
    assert {"a missing column", "text in a column of numbers"}.isdisjoint(
        bad.name for bad in bad_requests(ROW, optional)
    )


@pytest.mark.parametrize("columns", [[], [None], ["x"], [{"type": "double"}], [{"name": 7}], [{"name": "unknown"}]])
def test_a_strange_signature_breaks_nothing(columns: list[object]) -> None:
    """The signature is as untrusted as its model: what cannot be read of it names no column."""
    assert len(list(bad_requests(ROW, columns))) == 6


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b'{"predictions": [1, 0.5]}', [1, 0.5]),
        (b'{"predictions": ["a", "b"]}', ["a", "b"]),
        (b'{"predictions": [[1, 2], [3, 4]]}', [[1, 2], [3, 4]]),
        (b'{"predictions": [{"a": 1, "b": 2}]}', [[1, 2]]),
        (b'{"predictions": [NaN, null, Infinity]}', [None, None, None]),
        (b'{"predictions": []}', []),
    ],
)
def test_predictions_are_numbers_labels_or_scores(answer: bytes, found: list[object]) -> None:
    """What MLflow answers for arrays, lists, labels and frames is one prediction per row."""
    assert predictions(answer) == found


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[1]",
        b'{"predictions": 1}',
        b'{"predictions": [[1, 2], [3]]}',
        b'{"predictions": [[1], 2]}',
        b'{"predictions": [["a"]]}',
        b'{"predictions": [[[1]]]}',
        b'{"predictions": ' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_other_answers_cannot_be_read(answer: bytes) -> None:
    """A server that answers something else is told apart, and crashes nothing."""
    with pytest.raises(ValueError):  # noqa: PT011 (each says something else)
        predictions(answer)


def test_sound_predictions_are_finite() -> None:
    """Labels and finite numbers are sound; null, infinities and integers that no float holds are not."""
    huge = b"1" + b"0" * 5000
    values = predictions(b'{"predictions": [1, 0.5, true, "a", null, 1e999, ' + huge + b"]}")
    assert [is_sound(value) for value in values] == [True, True, True, True, False, False, False]
    assert [is_sound(row) for row in predictions(b'{"predictions": [[1, 2], [1, null]]}')] == [True, False]
