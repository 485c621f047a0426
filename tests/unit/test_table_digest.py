"""The digest of a table is that of its rows, and of nothing else."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taxiway.bootstrap import PROJECT
from taxiway.stages.table_digest import table_digest

_OF_A_FILE = (
    "import sys, pyarrow.parquet as pq; from taxiway.stages.table_digest import table_digest; "
    "print(table_digest(pq.read_table(sys.argv[1])))"
)
_DIGEST_OF_TABLE = "sha256:372b84aedaac5d821f59670f343f1b701b3a8681b863f97d42bdefeea38f8d5b"


def table() -> pa.Table:
    """Return rows of every kind of column, with missing values."""
    at = datetime(2013, 1, 1, 12, tzinfo=UTC)
    return pa.table(
        {
            "text": ["a", None, "", "ü"],
            "number": pa.array([1.5, None, -0.0, float("inf")]),
            "small": pa.array([1, None, 3, -4], pa.int8()),
            "flag": [True, False, None, True],
            "at": pa.array([at, None, at, at.replace(microsecond=7)], pa.timestamp("us", "UTC")),
            "day": [date(2013, 1, 1), None, date(1900, 1, 1), date(2013, 1, 1)],
            "category": pa.array(["x", None, "y", "x"]).dictionary_encode(),
            "list": [[1, 2], None, [], [None]],
            "decimal": [Decimal("1.10"), None, Decimal("0.00"), Decimal("2.00")],
            "bytes": [b"\x00", None, b"", b"\xff"],
            "nothing": pa.nulls(4),
        }
    )


def test_digest_stays_what_it_was() -> None:
    """The digest of these rows is written down here: another version of pyarrow or of this code may not change it."""
    assert table_digest(table()) == _DIGEST_OF_TABLE


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_files_differ_and_rows_do_not(compression: str, tmp_path: Path) -> None:
    """How a file is written and which process reads it is no part of the digest."""
    file = tmp_path / "rows.parquet"
    noted = table().replace_schema_metadata({"pandas": "{}", "writer": compression})
    pq.write_table(noted, file, compression=compression, row_group_size=1)

    command = [sys.executable, "-W", "ignore", "-c", _OF_A_FILE, str(file)]
    told = subprocess.run(command, env={"PYTHONPATH": str(PROJECT / "include")}, capture_output=True, check=True)

    assert told.stdout.decode().strip() == table_digest(pq.read_table(file)) == table_digest(table())


def test_layout_in_memory_does_not_count() -> None:
    """Chunks, slices and the width of text offsets make no difference."""
    rows = table()
    doubled = pa.concat_tables([rows, rows])
    wide = rows.schema.set(0, pa.field("text", pa.large_string()))

    assert table_digest(doubled.slice(4)) == table_digest(rows)
    assert table_digest(pa.concat_tables([rows.slice(0, 1), rows.slice(1)])) == table_digest(rows)
    assert table_digest(rows.cast(wide)) == table_digest(rows)


def test_a_frame_and_its_table_agree() -> None:
    """Rows that went through pandas and a file keep their digest."""
    frame = pd.DataFrame(
        {"x": [1.0, np.nan], "text": ["a", None], "at": pd.to_datetime(["2013-01-01", None], utc=True)}
    )

    through = pa.Table.from_pandas(frame, preserve_index=False).to_pandas()

    assert table_digest(pa.Table.from_pandas(through)) == table_digest(pa.Table.from_pandas(frame))


@pytest.mark.parametrize("column", table().column_names[:-1])
def test_every_value_counts(column: str) -> None:
    """Another value, another place of a missing value, another order: another digest."""
    rows = table()
    place = rows.column_names.index(column)
    changed = [
        rows.set_column(place, column, rows[column].take(order)) for order in ([3, 1, 2, 2], [1, 0, 2, 3], [0, 1, 1, 3])
    ]

    assert len({table_digest(other) for other in (rows, *changed)}) == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["ab", "c"], ["a", "bc"]),
        (["", "a"], [None, "a"]),
        ([0.0, 1.0], [None, 1.0]),
        ([1, 2], [1.0, 2.0]),
        ([True], [1]),
        (["1"], [1]),
        ([], ["a"]),
    ],
)
def test_what_looks_alike_differs(one: list[Any], other: list[Any]) -> None:
    """Text moved over a border, missing instead of empty or zero, and other types are other rows."""
    assert table_digest(pa.table({"x": one})) != table_digest(pa.table({"x": other}))


def test_names_and_order_of_columns_count() -> None:
    """The same values under another name, or in another place, are another table."""
    rows = table()

    assert table_digest(rows.rename_columns(["other", *rows.column_names[1:]])) != table_digest(rows)
    assert table_digest(rows.select(rows.column_names[::-1])) != table_digest(rows)
