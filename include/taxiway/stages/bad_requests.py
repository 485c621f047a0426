"""Bad requests: what callers get wrong, and what a server has to answer to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taxiway.stages.scoring_protocol import JSON, predictions, request
from taxiway.stages.served_model import Answer
from taxiway.stages.untrusted_files import document

_MARK = "what-was-sent-comes-not-back"
_NUMBERS = ("double", "float", "long", "integer")
_LONG = 20_000  # characters
_OK, _REFUSED = 200, range(400, 500)


@dataclass(frozen=True, slots=True)
class BadRequest:
    """One request that no model can answer; `empty` asks for nothing, to which nothing is an answer too."""

    name: str
    body: bytes
    content_type: str | None = JSON
    empty: bool = False


def bad_requests(row: Mapping[str, Any], columns: Sequence[Any]) -> Iterator[BadRequest]:
    """Yield what to try, made from a good row (column -> value) and the columns of the model's signature.

    A model whose columns are all optional misses none, and one without numbers has no column for a text.
    """
    good = _records(row)
    yield BadRequest("malformed JSON", b'{"dataframe_records": [{"' + _MARK.encode())
    yield BadRequest("JSON without a known key", json.dumps({_MARK: [dict(row)]}, default=str).encode())
    if missing := _first(columns, row, lambda column: column.get("required", True) is True):
        rest = {name: value for name, value in row.items() if name != missing}
        yield BadRequest("a missing column", _records({**rest, _MARK: _MARK}))
    if number := _first(columns, row, lambda column: column.get("type") in _NUMBERS):
        yield BadRequest("text in a column of numbers", _records({**row, number: _MARK}))
    yield BadRequest("no rows", request({"columns": list(row), "data": []}), empty=True)
    yield BadRequest("an unknown content type", good, f"application/{_MARK}")
    yield BadRequest("no content type", good, None)
    yield BadRequest("a very long content type", good, f"{JSON}; {_MARK}={'x' * _LONG}")


def problem(bad: BadRequest, answer: Answer) -> str | None:
    """Say what is wrong with the answer: it must refuse (4xx) in JSON, without a stack trace, and repeat nothing."""
    if bad.empty and answer.status == _OK and _answers_nothing(answer):
        return None
    if answer.status not in _REFUSED:
        return f"status {answer.status} instead of 4xx"
    if b"Traceback" in answer.body or b'File "' in answer.body:
        return "the answer has a stack trace"
    if _MARK.encode() in answer.body:
        return "the answer repeats what was sent"
    if answer.content_type != JSON or not _is_object(answer.body):
        return "the answer is no JSON object"
    return None


def _records(row: Mapping[str, Any]) -> bytes:
    return json.dumps({"dataframe_records": [dict(row)]}, default=str).encode()


def _first(columns: Sequence[Any], row: Mapping[str, Any], suits: Callable[[dict[str, Any]], bool]) -> str | None:
    """Return the name of the first column that suits; the signature is as untrusted as the model."""
    known = (column for column in columns if isinstance(column, dict) and isinstance(column.get("name"), str))
    return next((column["name"] for column in known if column["name"] in row and suits(column)), None)


def _answers_nothing(answer: Answer) -> bool:
    try:
        return predictions(answer.body) == []
    except ValueError:
        return False


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(document(text), dict)
    except ValueError:
        return False
