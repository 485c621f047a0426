"""A second opinion is asked about what two programs must agree on, and decides nothing that nobody asked for."""

from __future__ import annotations

from typing import Any

import pytest

from taxiway.domain.data_quality import Finding
from taxiway.domain.data_rules import ColumnFigures, Kind, Rule, Rules, WindowFigures
from taxiway.domain.evidence import Verdict
from taxiway.domain.second_opinion import (
    MOST_CATEGORIES,
    DataTest,
    Question,
    TestResult,
    compare,
    questions,
)
from taxiway.spec_ci import DataChecks, Task

CHECKS = DataChecks(
    min_rows=10,
    max_missing={"temp": 0.1},
    ranges={"temp": (0, 9)},
    max_new_categories={"carrier": 0.02},
    max_duplicates=0.01,
    min_class_share=0.05,
)
RULES = Rules(Task(kind="binary", label="late", key="id", timestamp="at"), ("carrier", "temp"), CHECKS)
PASSED, FAILED, ERROR = (TestResult(verdict, 7) for verdict in (Verdict.PASSED, Verdict.FAILED, Verdict.ERROR))


def asked_about(rule: Rule, column: str | None = None, value: Any = None, **columns: Any) -> list[DataTest]:
    """Return the tests for one finding about a holdout of 200 rows."""
    kinds = {"temp": Kind.NUMBER, "carrier": Kind.TEXT, "late": Kind.INTEGER, **columns}
    figures = WindowFigures(200, {name: ColumnFigures(kind) for name, kind in kinds.items()})
    finding = Finding(rule, "holdout", column, value=value)
    known = {"carrier": ["AA", "UA"], "temp": list(range(MOST_CATEGORIES + 1))}
    return [question.test for question in questions(RULES, [finding], {"holdout": figures}, known)]


@pytest.mark.parametrize(
    ("rule", "column", "value", "limits"),
    [
        (Rule.MIN_ROWS, None, None, {"at_least": 10}),
        (Rule.MAX_DUPLICATES, None, None, {"at_most": 2.0}),
        (Rule.MAX_MISSING, "temp", None, {"at_most": 20.0}),
        (Rule.RANGES, "temp", None, {"at_most": 0, "between": (0.0, 9.0)}),
        (Rule.MAX_NEW_CATEGORIES, "carrier", None, {"at_most": 4.0, "known": ("AA", "UA")}),
        (Rule.MIN_CLASS_SHARE, "late", 1, {"at_least": 10.0, "label": 1}),
    ],
)
def test_rules_become_counts_with_limits(
    rule: Rule, column: str | None, value: int | None, limits: dict[str, Any]
) -> None:
    """Each rule about values asks for a count over all rows, and its limit is that of the spec."""
    assert asked_about(rule, column, value) == [DataTest(rule, "holdout", column, **limits)]


def test_true_is_no_one() -> None:
    """The classes of a boolean label are asked about as booleans."""
    assert asked_about(Rule.MIN_CLASS_SHARE, "late", 1, late=Kind.BOOLEAN)[0].label is True


@pytest.mark.parametrize(
    ("rule", "column", "kinds"),
    [
        (Rule.TYPES, "temp", {}),
        (Rule.KEY, "id", {}),
        (Rule.LABEL, "late", {}),
        (Rule.RANGES, "temp", {"temp": Kind.NOTHING}),
        (Rule.MAX_NEW_CATEGORIES, "carrier", {"carrier": Kind.NOTHING}),
        (Rule.MAX_NEW_CATEGORIES, "temp", {}),
        (Rule.MAX_NEW_CATEGORIES, "late", {}),
    ],
)
def test_what_another_tool_cannot_tell_is_not_asked(rule: Rule, column: str, kinds: dict[str, Kind]) -> None:
    """Types, keys, columns without values and lists that are too long (or unknown) are for our own checks."""
    assert asked_about(rule, column, **kinds) == []


@pytest.mark.parametrize(
    ("problem", "result", "verdict", "reason", "differ"),
    [
        (None, PASSED, Verdict.PASSED, None, False),
        ("temp is missing", FAILED, Verdict.FAILED, "holdout: temp is missing (the second opinion counts 7)", False),
        (
            None,
            FAILED,
            Verdict.FAILED,
            "holdout: max_missing of temp does not hold, but by our own count it does",
            True,
        ),
        ("temp is missing", PASSED, Verdict.INCONCLUSIVE, "holdout: max_missing of temp holds (the second", True),
        (None, ERROR, Verdict.INCONCLUSIVE, "holdout: max_missing of temp could not be tested", True),
        ("temp is missing", ERROR, Verdict.INCONCLUSIVE, "holdout: max_missing of temp could not be tested", True),
    ],
)
def test_every_pair_of_answers_has_a_meaning(
    problem: str | None, result: TestResult, verdict: Verdict, reason: str | None, differ: bool
) -> None:
    """A failed test stops a build, whatever we counted; what only the tool does not see or cannot tell is doubt."""
    finding = Finding(Rule.MAX_MISSING, "holdout", "temp", problem)

    opinion = compare([Question(finding, DataTest(Rule.MAX_MISSING, "holdout", "temp", at_most=1))], [result])

    assert opinion.verdict == verdict
    assert len(opinion.reasons) == (0 if reason is None else 1)
    assert all(said.startswith(reason or "") for said in opinion.reasons)
    assert opinion.figures["disagreements"] == (["holdout: max_missing of temp"] if differ else [])


def test_the_worst_answer_is_the_verdict() -> None:
    """One failed test among others fails, and every test is in the figures with both answers."""
    findings = [Finding(Rule.MIN_ROWS, "training", None), Finding(Rule.MIN_CLASS_SHARE, "training", "late", value=1)]
    asked = [Question(finding, DataTest(finding.rule, "training", finding.column, at_least=5)) for finding in findings]

    opinion = compare(asked, [ERROR, FAILED])

    assert opinion.verdict == Verdict.FAILED
    tests: Any = opinion.figures["tests"]
    assert [(test["test"], test["verdict"], test["own_check"], test["counted"]) for test in tests] == [
        ("min_rows", "error", "passed", 7),
        ("min_class_share of late (class 1)", "failed", "passed", 7),
    ]


def test_an_answer_is_missing() -> None:
    """Fewer answers than questions are a mistake of the tool's adapter, not a pass."""
    question = Question(Finding(Rule.MIN_ROWS, "training", None), DataTest(Rule.MIN_ROWS, "training", at_least=5))

    with pytest.raises(ValueError, match="zip"):
        compare([question], [])
