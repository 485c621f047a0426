"""The rules of the data: limits are met at the limit, the schema comes first, and words name what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from taxiway.domain.data_quality import Finding, judge, listed
from taxiway.domain.data_rules import (
    HOLDOUT,
    TRAINING,
    ColumnFigures,
    Kind,
    LabelFigures,
    Rule,
    Rules,
    WindowFigures,
)
from taxiway.spec_ci import DataChecks, Task

ROWS = 200
NUMBER = ColumnFigures(Kind.NUMBER, lowest=0.0, highest=9.0)


def rules(kind: str = "binary", classes: tuple[Any, ...] = (), **checks: Any) -> Rules:
    """Return rules about two features."""
    task = Task.model_validate({"kind": kind, "label": "late", "key": "id", "timestamp": "at", "classes": classes})
    return Rules(task, ("carrier", "temp"), DataChecks.model_validate(checks))


def window(columns: Mapping[str, ColumnFigures | None] | None = None, **figures: Any) -> WindowFigures:
    """Return a window without faults, changed as told; a column that is None is not there."""
    sound: dict[str, ColumnFigures | None] = {
        "id": ColumnFigures(Kind.TEXT),
        "at": ColumnFigures(Kind.TIME),
        "carrier": ColumnFigures(Kind.TEXT),
        "temp": NUMBER,
        "late": ColumnFigures(Kind.INTEGER, lowest=0.0, highest=1.0),
        **(columns or {}),
    }
    label = LabelFigures(2, {"0": 150, "1": 50})
    there = {name: column for name, column in sound.items() if column is not None}
    return WindowFigures(**{"rows": ROWS, "columns": there, "label": label, **figures})


def problems(rules: Rules, training: WindowFigures, holdout: WindowFigures | None = None) -> list[str]:
    """Return the reasons of what does not hold."""
    return [finding.reason for finding in judge(rules, training, holdout or window()) if finding.problem]


def test_windows_without_faults_have_no_problems() -> None:
    """Every rule is judged, and holds."""
    strict = rules(
        min_rows=ROWS,
        max_missing={"temp": 0},
        ranges={"temp": (0, 9)},
        types={"temp": "number", "carrier": "text", "at": "time", "late": "integer"},
        max_new_categories={"carrier": 0},
        max_duplicates=0,
        min_class_share=0.25,
    )

    assert problems(strict, window()) == []
    assert {finding.rule for finding in judge(strict, window(), window())} == set(Rule)


@pytest.mark.parametrize(
    ("checks", "at_limit", "beyond"),
    [
        ({"min_rows": ROWS}, {}, {"rows": ROWS - 1}),
        ({"max_duplicates": 0.01}, {"duplicates": 2}, {"duplicates": 3}),
        (
            {"max_missing": {"temp": 0.01}},
            {"columns": {"temp": ColumnFigures(Kind.NUMBER, 2)}},
            {"columns": {"temp": ColumnFigures(Kind.NUMBER, 3)}},
        ),
        (
            {"ranges": {"temp": (0, 9)}},
            {"columns": {"temp": NUMBER}},
            {"columns": {"temp": ColumnFigures(Kind.NUMBER, 0, -1, 9, outside=1)}},
        ),
        (
            {"min_class_share": 0.25},
            {"label": LabelFigures(2, {"0": 150, "1": 50})},
            {"label": LabelFigures(2, {"0": 151, "1": 49})},
        ),
    ],
    ids=["min_rows", "max_duplicates", "max_missing", "ranges", "min_class_share"],
)
def test_the_limit_itself_is_good(checks: dict[str, Any], at_limit: dict[str, Any], beyond: dict[str, Any]) -> None:
    """What reaches a limit holds; one row more does not."""
    assert problems(rules(**checks), window(**at_limit)) == []
    assert len(problems(rules(**checks), window(**beyond))) == 1


def test_new_categories_are_counted_over_all_rows_of_the_holdout() -> None:
    """Their share counts against all rows, and the values with the most rows are named."""
    new = ColumnFigures(Kind.TEXT, new={"XX": 1, "YY": 3})

    assert problems(rules(max_new_categories={"carrier": 0.02}), window(), window({"carrier": new})) == []
    assert problems(rules(max_new_categories={"carrier": 0.01}), window(), window({"carrier": new})) == [
        "holdout: carrier has values that training never showed in 4 of 200 rows (2%), more than 1%: "
        "YY (3 rows), XX (1 row)"
    ]


def test_many_values_are_cut_short() -> None:
    """A list of values names the five with the most rows."""
    assert listed({"f": 1, "a": 9, "b": 8, "c": 7, "d": 6, "e": 5}).endswith("e (5 rows), ...")


@pytest.mark.parametrize("kind", [Kind.TEXT, Kind.BOOLEAN, Kind.OTHER, Kind.NOTHING, Kind.TIME])
def test_rules_on_values_wait_for_the_right_type(kind: Kind) -> None:
    """A column of the wrong type is told once; no other rule is judged on it."""
    checks = {"max_missing": {"temp": 0}, "ranges": {"temp": (0, 9)}, "max_new_categories": {"temp": 0}}
    broken = window({"temp": ColumnFigures(kind, missing=ROWS, outside=7, new={"a": 1})})

    found = [finding for finding in judge(rules(**checks), window(), broken) if finding.window == HOLDOUT]

    assert [finding.rule for finding in found if finding.column == "temp"] == [Rule.TYPES]
    assert len([finding for finding in found if finding.problem]) == 1


@pytest.mark.parametrize(
    ("declared", "good", "bad"),
    [
        ("number", [Kind.NUMBER, Kind.INTEGER], [Kind.TEXT, Kind.BOOLEAN, Kind.TIME, Kind.OTHER]),
        ("integer", [Kind.INTEGER], [Kind.NUMBER, Kind.TEXT, Kind.BOOLEAN]),
        ("text", [Kind.TEXT], [Kind.INTEGER, Kind.OTHER, Kind.TIME]),
        ("boolean", [Kind.BOOLEAN], [Kind.INTEGER, Kind.TEXT]),
        ("time", [Kind.TIME], [Kind.TEXT, Kind.INTEGER]),
    ],
)
def test_declared_types_hold(declared: str, good: list[Kind], bad: list[Kind]) -> None:
    """A column holds what was declared: integers are numbers, and nothing else is anything else."""
    asked = rules(types={"temp": declared})
    both = {kind: window({"temp": ColumnFigures(kind)}) for kind in Kind}

    assert [kind for kind in good if problems(asked, both[kind], both[kind])] == []
    assert [kind for kind in bad if len(problems(asked, both[kind], both[kind])) != 2] == []


def test_both_windows_hold_the_same() -> None:
    """Without any declaration, what is text in training may not be numbers in the holdout."""
    numbers = window({"carrier": ColumnFigures(Kind.INTEGER)})

    assert problems(rules(), window(), numbers) == ["holdout: carrier holds integers, in training text"]
    assert problems(rules(), numbers, window({"carrier": ColumnFigures(Kind.NUMBER)})) == []


def test_a_column_without_values_needs_permission() -> None:
    """Nothing but missing values is a problem, unless the spec allows all of them to be missing."""
    nothing = window({"temp": ColumnFigures(Kind.NOTHING, missing=ROWS)})

    assert problems(rules(max_missing={"temp": 0.99}), window(), nothing) == [
        "holdout: temp has no value at all (only max_missing of 1 allows that)"
    ]
    assert problems(rules(max_missing={"temp": 1}, ranges={"temp": (0, 1)}), window(), nothing) == []


def test_a_missing_column_is_named() -> None:
    """A window without a column that the spec names says so, and judges the others."""
    assert problems(rules(), window({"temp": None, "id": None})) == [
        "training: there is no column id",
        "training: there is no column temp",
    ]


def test_everything_wrong_with_a_key_is_one_reason() -> None:
    """Missing, repeated and known keys are told together."""
    broken = window({"id": ColumnFigures(Kind.TEXT, missing=1)}, repeated_keys=2, known_keys=3)

    assert problems(rules(), window(), broken) == [
        "holdout: id is missing in 1 rows, id is not unique (2 repeated), id of 3 rows is in training too"
    ]


@pytest.mark.parametrize(
    ("kind", "classes", "holds", "told"),
    [
        ("binary", (), Kind.TEXT, "late holds text, but a binary task asks for integers"),
        ("multiclass", ("a", "b", "c"), Kind.INTEGER, "late holds integers, but a multiclass task asks for text"),
        ("multiclass", (1, 2, 3), Kind.BOOLEAN, "late holds booleans, but a multiclass task asks for integers"),
        ("regression", (), Kind.BOOLEAN, "late holds booleans, but a regression task asks for numbers"),
    ],
)
def test_labels_are_of_the_kind_of_the_task(kind: str, classes: tuple[Any, ...], holds: Kind, told: str) -> None:
    """A label of another type is told, and its values are not judged."""
    broken = window({"late": ColumnFigures(holds)}, label=None)

    assert problems(rules(kind, classes, min_class_share=0.1), broken, broken) == [
        f"training: {told}",
        f"holdout: {told}",
    ]


def test_classes_that_a_window_lacks_are_rare_too() -> None:
    """With a smallest share, every class that the task names must have rows."""
    asked = rules("multiclass", ("a", "b", "c"), min_class_share=0.1)
    figures = window({"late": ColumnFigures(Kind.TEXT)}, label=LabelFigures(2, {"a": 100, "b": 100}))

    found = [finding for finding in judge(asked, figures, figures) if finding.problem]

    assert found == [
        Finding(Rule.MIN_CLASS_SHARE, name, "late", "class c of late has 0 of 200 rows (0%), less than 10%", value="c")
        for name in (TRAINING, HOLDOUT)
    ]
