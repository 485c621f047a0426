"""What the data of a build is asked (the rules of its model spec), and what was measured of it (figures)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

TRAINING, HOLDOUT = "training", "holdout"


class Kind(StrEnum):
    """What the values of a column are, whatever they are stored as."""

    INTEGER = "integer"
    """Numbers without fractions, also where missing values made them floats."""
    NUMBER = "number"
    TEXT = "text"
    BOOLEAN = "boolean"
    TIME = "time"
    NOTHING = "nothing"
    """Every value is missing."""
    OTHER = "other"
    """Lists, bytes, durations, or values of several kinds."""


NUMBERS = (Kind.NUMBER, Kind.INTEGER)


def alike(one: Kind, other: Kind) -> bool:
    """Tell whether two windows of one column can hold these: numbers are numbers, and nothing says nothing."""
    return one == other or Kind.NOTHING in (one, other) or (one in NUMBERS and other in NUMBERS)


class Rule(StrEnum):
    """What is judged; most are keys of the model spec's `data.checks`."""

    TYPES = "types"
    MIN_ROWS = "min_rows"
    KEY = "key"
    LABEL = "label"
    MAX_MISSING = "max_missing"
    RANGES = "ranges"
    MAX_NEW_CATEGORIES = "max_new_categories"
    MAX_DUPLICATES = "max_duplicates"
    MIN_CLASS_SHARE = "min_class_share"


class Task(Protocol):
    """What is predicted, and which columns say what (`spec_ci.Task`)."""

    @property
    def kind(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def timestamp(self) -> str: ...
    @property
    def classes(self) -> Sequence[int] | Sequence[str]: ...


class Checks(Protocol):
    """The limits (`spec_ci.DataChecks`)."""

    @property
    def min_rows(self) -> int: ...
    @property
    def max_missing(self) -> Mapping[str, float]: ...
    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]: ...
    @property
    def types(self) -> Mapping[str, str]: ...
    @property
    def max_new_categories(self) -> Mapping[str, float]: ...
    @property
    def max_duplicates(self) -> float: ...
    @property
    def min_class_share(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything that two windows are judged by."""

    task: Task
    features: Sequence[str]
    checks: Checks

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that a window has: key, timestamp, features, label."""
        return tuple(dict.fromkeys((self.task.key, self.task.timestamp, *self.features, self.task.label)))

    @property
    def labels(self) -> Sequence[int] | Sequence[str]:
        """Return every value that a label may have; empty for a regression."""
        return (0, 1) if self.task.kind == "binary" else self.task.classes

    @property
    def label_kinds(self) -> tuple[Kind, ...]:
        """Return what the labels may be, the most usual first."""
        if self.task.kind == "regression":
            return NUMBERS
        if self.task.kind == "binary":
            return (Kind.INTEGER, Kind.NUMBER, Kind.BOOLEAN)
        return (Kind.TEXT,) if isinstance(self.task.classes[0], str) else (Kind.INTEGER, Kind.NUMBER)


@dataclass(frozen=True, slots=True)
class ColumnFigures:
    """One column of a window: `outside` counts values outside of its range, `new` the rows of unknown categories."""

    kind: Kind
    missing: int = 0
    lowest: float | None = None
    highest: float | None = None
    outside: int = 0
    new: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """The labels of a window: how many different ones, the rows of each class, the rows of what is no label."""

    different: int
    classes: Mapping[str, int] = field(default_factory=dict)
    strange: Mapping[str, int] = field(default_factory=dict)
    mean: float | None = None
    quantiles: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WindowFigures:
    """One window: `repeated_keys` and `duplicates` count rows that repeat an earlier one of the window.

    `known_keys` counts the rows of a holdout whose key training has; `label` is None where it cannot be read.
    """

    rows: int
    columns: Mapping[str, ColumnFigures]
    label: LabelFigures | None = None
    repeated_keys: int = 0
    known_keys: int = 0
    duplicates: int = 0
