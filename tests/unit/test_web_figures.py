"""Evidence figures of any shape become tables."""

from __future__ import annotations

import math

from taxiway.web.figures import MAX_ROWS, Table, shown, tables


def test_single_values_come_first_as_names_and_values() -> None:
    """Values of their own are one table, whatever comes between them."""
    assert tables({"size_mb": 1.25, "rows": {"seen": 3}, "champion": None}) == [
        Table("", (), (("size mb", 1.25), ("champion", None))),
        Table("rows", (), (("seen", 3),)),
    ]


def test_records_become_one_grid() -> None:
    """Objects that share keys are rows; what is nested alike in all of them gets columns of its own."""
    metrics = {
        "roc_auc": {"candidate": 0.71, "interval": {"lower": -0.1, "upper": 0.2}},
        "brier": {"candidate": 0.15, "interval": {"lower": 0.0, "upper": 0.1}},
    }

    assert tables({"metrics": metrics}) == [
        Table(
            "metrics",
            ("", "candidate", "interval lower", "interval upper"),
            (("roc_auc", 0.71, -0.1, 0.2), ("brier", 0.15, 0.0, 0.1)),
        )
    ]


def test_lists_of_unequal_objects_keep_every_column() -> None:
    """A value that only some rows have leaves the other cells empty; unlike objects stay in one cell."""
    rows = [{"name": "size", "figures": {"value": 1.5}}, {"name": "slices", "figures": {"min": 0.6}, "note": "x"}]

    (table,) = tables({"checks": rows})

    assert table.columns == ("name", "figures", "note")
    assert table.rows == (("size", {"value": 1.5}, None), ("slices", {"min": 0.6}, "x"))


def test_objects_below_objects_are_named_by_their_path() -> None:
    """Nothing that is nested deeper is lost."""
    found = tables({"training": {"rows": 5, "schema": {"plan": "object"}}, "empty": {}, "none": []})

    assert [(table.title, table.rows) for table in found] == [
        ("", (("empty", {}), ("none", []))),
        ("training", (("rows", 5),)),
        ("training, schema", (("plan", "object"),)),
    ]


def test_long_tables_say_how_much_they_hide() -> None:
    """A table has a bounded number of rows and counts the rest."""
    (table,) = tables({"days": [{"day": day} for day in range(MAX_ROWS + 7)]})

    assert (len(table.rows), table.hidden) == (MAX_ROWS, 7)


def test_values_are_short_and_readable() -> None:
    """Floats have four significant digits, times minutes, and long texts an end."""
    cases = {
        0.712345: "0.7123",
        13120.0: "13120",
        1.5e300: "1.5e+300",
        12: "12",
        True: "yes",
        None: "-",
        "2013-06-30T06:05:00.000Z": "2013-06-30 06:05",
        "2013-06-30T06:05:00+02:00": "2013-06-30T06:05:00+02:00",
    }

    assert {value: shown(value) for value in cases} == cases
    assert shown(math.nan) == "nan"
    assert shown({"min_rows": 3, "groups": [{"a": 1}]}) == "min rows 3"
    assert shown([1, 2.5]) == "1, 2.5"
    assert len(shown("x" * 10_000)) < 500
