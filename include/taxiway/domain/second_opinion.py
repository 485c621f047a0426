"""A second opinion on the data: which findings another tool is asked about, and what follows from its answers.

Every test is a rule of the spec on all rows of a window, as a count with a limit, so that two correct programs agree.
Nothing is asked of a sample (a share near its limit would differ by luck), and no limit that nobody wrote.

A failed test stops the build like a broken rule, also where our own check holds: then one of two programs that count
the same rows is wrong, and nothing is trained on data whose state nobody knows. Where the tool could not tell, or sees
nothing wrong with what our own check refuses, the opinion is inconclusive: our check stands, and people can see why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from taxiway.domain.data_quality import Finding
from taxiway.domain.data_rules import Kind, Rule, Rules, WindowFigures
from taxiway.domain.evidence import Json, Verdict, worst

MOST_CATEGORIES = 500
"""A column with more known values is not asked about: the page would list every one of them."""


@dataclass(frozen=True, slots=True)
class DataTest:
    """One rule on one window: a count, of rows or of those that break the rule, and its limit.

    `known` are all categories of the column, `between` its range, `label` the class whose rows are counted.
    """

    rule: Rule
    window: str
    column: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    between: tuple[float, float] | None = None
    known: tuple[int | str, ...] = ()
    label: bool | int | str | None = None


@dataclass(frozen=True, slots=True)
class TestResult:
    """What the tool says of a test (passed, failed, or error: it could not tell), and what it counted."""

    __test__ = False

    verdict: Verdict
    counted: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A finding of our own, and the test that asks for a second opinion on it."""

    finding: Finding
    test: DataTest


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """What follows from all answers; `figures` has every test with both answers."""

    verdict: Verdict
    reasons: tuple[str, ...]
    figures: Mapping[str, Json]


def questions(
    rules: Rules,
    findings: Iterable[Finding],
    windows: Mapping[str, WindowFigures],
    known: Mapping[str, Sequence[int | str]],
) -> list[Question]:
    """Return what to ask about the findings; `known` has the categories that training showed."""
    asked = ((finding, _test(rules, finding, windows[finding.window], known)) for finding in findings)
    return [Question(finding, test) for finding, test in asked if test is not None]


def compare(asked: Sequence[Question], results: Sequence[TestResult]) -> SecondOpinion:
    """Set the answers beside our own findings; raises ValueError when there is not one for each question."""
    answered = list(zip(asked, results, strict=True))
    meanings = [_meaning(question.finding, result) for question, result in answered]
    documents: list[Json] = [_document(question, result) for question, result in answered]
    differing = [question.finding for question, result in answered if _differ(question.finding, result)]
    return SecondOpinion(
        verdict=worst(verdict for verdict, _ in meanings),
        reasons=tuple(reason for _, reason in meanings if reason),
        figures={"tests": documents, "disagreements": [f"{of.window}: {_name(of)}" for of in differing]},
    )


def _test(
    rules: Rules, finding: Finding, figures: WindowFigures, known: Mapping[str, Sequence[int | str]]
) -> DataTest | None:
    """Return the test for one finding; None when another tool cannot judge it soundly."""
    checks, rows, column = rules.checks, figures.rows, finding.column or ""
    test = DataTest(finding.rule, finding.window, finding.column)
    has_values = column in figures.columns and figures.columns[column].kind is not Kind.NOTHING
    match finding.rule:
        case Rule.MIN_ROWS:
            return replace(test, at_least=checks.min_rows)
        case Rule.MAX_DUPLICATES:
            return replace(test, at_most=checks.max_duplicates * rows)
        case Rule.MAX_MISSING:
            return replace(test, at_most=checks.max_missing[column] * rows)
        case Rule.RANGES if has_values:
            return replace(test, at_most=0, between=checks.ranges[column])
        case Rule.MAX_NEW_CATEGORIES if has_values and 0 < len(known.get(column, ())) <= MOST_CATEGORIES:
            return replace(test, at_most=checks.max_new_categories[column] * rows, known=tuple(known[column]))
        case Rule.MIN_CLASS_SHARE:
            truth = figures.columns[column].kind is Kind.BOOLEAN
            label = bool(finding.value) if truth else finding.value
            return replace(test, at_least=checks.min_class_share * rows, label=label)
        case _:
            return None


def _meaning(finding: Finding, result: TestResult) -> tuple[Verdict, str | None]:
    """Return what an answer means, with the reason when it is not simply yes."""
    if result.verdict is Verdict.FAILED:
        ours = finding.problem or f"{_name(finding)} does not hold, but by our own count it does"
        return Verdict.FAILED, f"{finding.window}: {ours}{_counted(result)}"
    if result.verdict is not Verdict.PASSED:
        return Verdict.INCONCLUSIVE, f"{finding.window}: {_name(finding)} could not be tested"
    if finding.problem:
        theirs = f"{_name(finding)} holds{_counted(result)}, but by our own count it does not"
        return Verdict.INCONCLUSIVE, f"{finding.window}: {theirs}"
    return Verdict.PASSED, None


def _differ(finding: Finding, result: TestResult) -> bool:
    return result.verdict is not (Verdict.FAILED if finding.problem else Verdict.PASSED)


def _counted(result: TestResult) -> str:
    return "" if result.counted is None else f" (the second opinion counts {result.counted:.15g})"


def _name(finding: Finding) -> str:
    of = f" of {finding.column}" if finding.column else ""
    return f"{finding.rule.value}{of}" + (f" (class {finding.value})" if finding.value is not None else "")


def _document(question: Question, result: TestResult) -> Json:
    test = question.test
    return {
        "window": test.window,
        "test": _name(question.finding),
        "at_least": test.at_least,
        "at_most": test.at_most,
        "counted": result.counted,
        "verdict": result.verdict.value,
        "own_check": (Verdict.FAILED if question.finding.problem else Verdict.PASSED).value,
    }
