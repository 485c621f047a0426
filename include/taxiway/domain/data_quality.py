"""Data quality: the figures of a build's two windows against the rules of its model spec.

The schema is judged first: the columns are there, and hold what the task, `types` and `ranges` ask for, and the
holdout holds what training holds. Rules about a column's values are only judged where its schema is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from taxiway.domain.data_rules import (
    HOLDOUT,
    NUMBERS,
    TRAINING,
    Checks,
    ColumnFigures,
    Kind,
    LabelFigures,
    Rule,
    Rules,
    WindowFigures,
    alike,
)

_LISTED = 5
_PLURALS = {
    Kind.INTEGER: "integers",
    Kind.NUMBER: "numbers",
    Kind.BOOLEAN: "booleans",
    Kind.TIME: "times",
    Kind.OTHER: "values of another type or of several",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule on one window: `problem` says in words what is wrong, None that it holds.

    `value` is the class that a rule about classes means.
    """

    rule: Rule
    window: str
    column: str | None
    problem: str | None = None
    value: int | str | None = None

    @property
    def reason(self) -> str:
        """Return the problem with its window."""
        return f"{self.window}: {self.problem}"


def judge(rules: Rules, training: WindowFigures, holdout: WindowFigures) -> tuple[Finding, ...]:
    """Return what was found for every rule that could be judged, the schema first."""
    windows = {TRAINING: training, HOLDOUT: holdout}
    found = [finding for name in windows for finding in _schema(rules, windows, name)]
    wrong = {(finding.window, finding.column) for finding in found if finding.problem}
    for name, figures in windows.items():
        sound = {column: of for column, of in figures.columns.items() if (name, column) not in wrong}
        found += _of_rows(rules, name, figures)
        found += _of_key(rules, name, figures) if rules.task.key in sound else ()
        found += _of_columns(rules.checks, name, figures.rows, sound)
        if figures.label is not None and rules.task.label in sound:
            found += _of_label(rules, name, figures.rows, figures.label)
    return tuple(found)


def share(count: int, rows: int) -> float:
    """Return the share of rows; 0 when there are none."""
    return count / rows if rows else 0.0


def percent(of: float) -> str:
    """Write a share with three significant digits: `0.0125%`, `10%`."""
    return f"{100 * of:.3g}%"


def listed(rows: Mapping[str, int]) -> str:
    """Name the values with the most rows: `XX (12 rows), YY (1 row), ...`."""
    worst = sorted(rows.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{value} ({count} row{'s' if count > 1 else ''})" for value, count in worst[:_LISTED]]
    return ", ".join([*words, "..."] if len(worst) > _LISTED else words)


def _schema(rules: Rules, windows: Mapping[str, WindowFigures], name: str) -> Iterator[Finding]:
    figures, training = windows[name].columns, windows[TRAINING].columns
    for column in rules.columns:
        if column not in figures:
            yield Finding(Rule.TYPES, name, column, f"there is no column {column}")
            continue
        kind = figures[column].kind
        problem = _wrong_kind(rules, column, kind)
        if problem is None and column in training and not alike(kind, training[column].kind):
            problem = f"{column} holds {_plural(kind)}, in training {_plural(training[column].kind)}"
        yield Finding(Rule.TYPES, name, column, problem)


def _wrong_kind(rules: Rules, column: str, kind: Kind) -> str | None:
    """Say why a column may not hold what it holds; None when it may."""
    if kind is Kind.NOTHING:
        allowed = rules.checks.max_missing.get(column) == 1
        return None if allowed else f"{column} has no value at all (only max_missing of 1 allows that)"
    for kinds, source in _wanted(rules, column):
        if kind not in kinds:
            return f"{column} holds {_plural(kind)}, but {source} asks for {_plural(kinds[0])}"
    return None


def _wanted(rules: Rules, column: str) -> Iterator[tuple[tuple[Kind, ...], str]]:
    """Yield what the column may hold, and who says so."""
    if column in rules.checks.types:
        declared = Kind(rules.checks.types[column])
        yield NUMBERS if declared is Kind.NUMBER else (declared,), "data.checks.types"
    if column in rules.checks.ranges:
        yield NUMBERS, "data.checks.ranges"
    if column == rules.task.timestamp:
        yield (Kind.TIME,), "task.timestamp"
    if column == rules.task.label:
        yield rules.label_kinds, f"a {rules.task.kind} task"


def _plural(kind: Kind) -> str:
    return _PLURALS.get(kind, kind.value)


def _of_rows(rules: Rules, name: str, figures: WindowFigures) -> Iterator[Finding]:
    rows, checks = figures.rows, rules.checks
    if name == TRAINING:
        few = f"{rows} rows are fewer than min_rows {checks.min_rows}"
        yield Finding(Rule.MIN_ROWS, name, None, few if rows < checks.min_rows else None)
    if checks.max_duplicates < 1:
        many = f"{_part(figures.duplicates, rows)} repeat an earlier one in everything but {rules.task.key}"
        problem = _above(figures.duplicates, checks.max_duplicates, rows, many)
        yield Finding(Rule.MAX_DUPLICATES, name, None, problem)


def _of_key(rules: Rules, name: str, figures: WindowFigures) -> Iterator[Finding]:
    key, missing = rules.task.key, figures.columns[rules.task.key].missing
    problems = [f"{key} is missing in {missing} rows"] if missing else []
    problems += [f"{key} is not unique ({figures.repeated_keys} repeated)"] if figures.repeated_keys else []
    problems += [f"{key} of {figures.known_keys} rows is in training too"] if figures.known_keys else []
    yield Finding(Rule.KEY, name, key, ", ".join(problems) or None)


def _of_columns(checks: Checks, name: str, rows: int, columns: Mapping[str, ColumnFigures]) -> Iterator[Finding]:
    for column, limit in checks.max_missing.items():
        if column in columns:
            missing = columns[column].missing
            many = f"{column} is missing in {_part(missing, rows)}"
            yield Finding(Rule.MAX_MISSING, name, column, _above(missing, limit, rows, many))
    for column in checks.ranges:
        if column in columns:
            yield Finding(Rule.RANGES, name, column, _outside(column, checks.ranges[column], rows, columns[column]))
    for column, limit in checks.max_new_categories.items():
        if column in columns and name == HOLDOUT:
            new = columns[column].new
            many = f"{column} has values that training never showed in {_part(sum(new.values()), rows)}"
            problem = _above(sum(new.values()), limit, rows, many)
            problem = f"{problem}: {listed(new)}" if problem else None
            yield Finding(Rule.MAX_NEW_CATEGORIES, name, column, problem)


def _outside(column: str, bounds: tuple[float, float], rows: int, figures: ColumnFigures) -> str | None:
    if not figures.outside:
        return None
    found = f"{column} is outside {bounds[0]:g} to {bounds[1]:g} in {_part(figures.outside, rows)}"
    return f"{found}: it goes from {figures.lowest:g} to {figures.highest:g}"


def _of_label(rules: Rules, name: str, rows: int, figures: LabelFigures) -> Iterator[Finding]:
    task, problems = rules.task, []
    if figures.strange:
        known = f"other than {', '.join(map(str, rules.labels))}" if rules.labels else "that are no finite number"
        problems.append(f"the label {task.label} has values {known}: {listed(figures.strange)}")
    if figures.different < 2:
        problems.append(f"the label {task.label} has only one value")
    yield Finding(Rule.LABEL, name, task.label, ", and ".join(problems) or None)
    smallest = rules.checks.min_class_share
    for value in rules.labels if smallest > 0 else ():
        count = figures.classes.get(str(value), 0)
        few = f"class {value} of {task.label} has {_part(count, rows)}, less than {percent(smallest)}"
        yield Finding(Rule.MIN_CLASS_SHARE, name, task.label, few if count < smallest * rows else None, value)


def _part(count: int, rows: int) -> str:
    return f"{count} of {rows} rows ({percent(share(count, rows))})"


def _above(count: int, limit: float, rows: int, words: str) -> str | None:
    return f"{words}, more than {percent(limit)}" if count > limit * rows else None
