"""The rows of a scoring request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taxiway.gateway.payload import CSV, JSON, Rows, read_rows

COLUMNS, VALUES = ["x", "note"], [[1.5, "a"], [None, "b"]]
RECORDS = [{"x": 1.5, "note": "a"}, {"x": None, "note": "b"}]


@pytest.mark.parametrize(
    "document",
    [
        {"dataframe_split": {"columns": COLUMNS, "data": VALUES, "index": [0, 1]}},
        {"dataframe_records": RECORDS, "params": {"deep": True}},
        {"instances": RECORDS},
        {"inputs": {"x": [1.5, None], "note": ["a", "b"]}},
        {"inputs": RECORDS},
    ],
)
def test_every_json_form_has_the_same_rows(document: dict[str, Any]) -> None:
    """MLflow's four JSON forms of the same data are the same rows."""
    rows = read_rows(json.dumps(document).encode(), JSON)

    assert rows is not None
    assert [dict(zip(rows.columns, row, strict=True)) for row in rows.values] == RECORDS


def test_csv() -> None:
    """CSV cells are numbers where they look like numbers, and missing where they are empty."""
    rows = read_rows(b"id,x,n,note\nA_1,1.5,3,\n1_0,,4,b\n\n", CSV)

    assert rows == Rows(["id", "x", "n", "note"], [["A_1", 1.5, 3, None], ["1_0", None, 4, "b"]])


@pytest.mark.parametrize(("body", "kind"), [(b"x\n1\n", CSV), (b'{"dataframe_records": [{"x": 1}]}', JSON)])
def test_byte_order_mark(body: bytes, kind: str) -> None:
    """The mark that some programs put before UTF-8 is no part of the first column's name."""
    assert read_rows(b"\xef\xbb\xbf" + body, kind) == Rows(["x"], [[1]])


def test_records_with_different_keys() -> None:
    """A record that lacks a column of another one has nothing there."""
    rows = read_rows(b'{"dataframe_records": [{"x": 1}, {"y": 2}]}', JSON)

    assert rows == Rows(["x", "y"], [[1, None], [None, 2]])


@pytest.mark.parametrize("document", [{"instances": [[1, 2]]}, {"inputs": [1, 2]}, {"inputs": {"x": 1}}])
def test_values_without_names(document: dict[str, Any]) -> None:
    """Tensors have no named rows; that is left to the model."""
    assert read_rows(json.dumps(document).encode(), JSON) is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"dataframe_split": secret', JSON),
        (b"\xff\xfe", JSON),
        (b"[1]", JSON),
        (b'"secret"', JSON),
        (b'{"secret": 1}', JSON),
        (b'{"instances": [], "inputs": []}', JSON),
        (b'{"dataframe_split": {"columns": ["x"], "data": [[1, "secret"]]}}', JSON),
        (b"[" * 100_000, JSON),
        (b"", CSV),
        (b"x,y\nsecret\n", CSV),
        (b"\xff", CSV),
    ],
)
def test_malformed_bodies_are_refused_without_repeating_them(body: bytes, kind: str) -> None:
    """What no model could read is refused in words that hold nothing of it."""
    with pytest.raises(ValueError, match=r"the (body|CSV)|every row") as caught:
        read_rows(body, kind)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (json.dumps({"dataframe_records": [{f"secret{number}": 1} for number in range(1000)]}).encode(), JSON),
        (json.dumps({"inputs": {f"secret{number}": [1] for number in range(10_001)}}).encode(), JSON),
        (json.dumps({"dataframe_split": {"columns": ["secret"] * 10_001, "data": []}}).encode(), JSON),
        (",".join(["secret"] * 10_001).encode(), CSV),
        (b'{"instances": [{"secret": ' + b"[" * 600 + b"]" * 600 + b"}]}", JSON),
    ],
    ids=["records without a common column", "columns", "split", "csv", "nested"],
)
def test_a_small_body_does_not_become_a_large_table(body: bytes, kind: str) -> None:
    """What the log would need far more room for than the body has is refused, before any model is asked."""
    with pytest.raises(ValueError, match="the body") as caught:
        read_rows(body, kind)

    assert "secret" not in str(caught.value)


def test_large_records_may_lack_some_columns() -> None:
    """A large request whose records each lack some columns is a table like any other."""
    records = [{"x": 1, "y": 1, f"only{number % 8}": 1} for number in range(20_000)]

    rows = read_rows(json.dumps({"dataframe_records": records}).encode(), JSON)

    assert rows is not None
    assert (len(rows.columns), len(rows.values)) == (10, 20_000)
