"""Charts and tables as values: what is to be seen, and nothing of how it is drawn.

A page is made of them by whoever knows the numbers, and drawn by whoever knows a plotting library. Texts may hold
values of columns, which are data from outside: whoever draws them escapes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from taxiway.domain.evidence import Verdict
from taxiway.domain.gates import Check

Role: TypeAlias = Literal["candidate", "champion", "guide", "summary", "yes", "no"]
"""What a line or bar stands for; the same role has the same colour in every chart of a page."""
CellKind: TypeAlias = Literal["text", "number", "verdict"]
Numbers: TypeAlias = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (x, y), joined or not; NaN makes a gap. `lower` and `upper`, when given, are the ends of error bars."""

    label: str
    role: Role
    x: Numbers
    y: Numbers
    style: Literal["line", "dashed", "marked", "points"] = "line"
    lower: Numbers = ()
    upper: Numbers = ()


@dataclass(frozen=True, slots=True)
class Area:
    """What lies between `lower` and `upper` at each x."""

    label: str
    role: Role
    x: Numbers
    lower: Numbers
    upper: Numbers


@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram: `heights` (bins,) between `edges` (bins + 1,)."""

    label: str
    role: Role
    edges: Numbers
    heights: Numbers


@dataclass(frozen=True, slots=True)
class Chart:
    """One plot; `name` is that of its file. `below` is a small panel under it with the same x-axis.

    `days` says that x is days since 1970.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...] = ()
    areas: tuple[Area, ...] = ()
    bars: tuple[Bars, ...] = ()
    below: Bars | None = None
    days: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Counts of pairs: rows are the truth, columns the guesses, both in the order of `labels`.

    Each cell is shaded by its share of its row.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Texts in columns: `kinds` says of each column whether it holds text, numbers or verdicts."""

    title: str
    columns: tuple[str, ...]
    kinds: tuple[CellKind, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


Figure: TypeAlias = Chart | Matrix | Table


@dataclass(frozen=True, slots=True)
class PageSection:
    """A part of a page: a heading, a sentence, and what is to be seen."""

    title: str
    text: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that a person reads about one evaluation."""

    title: str
    description: str
    verdict: Verdict
    facts: tuple[tuple[str, str], ...]
    checks: tuple[Check, ...]
    sections: tuple[PageSection, ...]

    @property
    def drawings(self) -> Iterator[Chart | Matrix]:
        """Yield what has to be drawn."""
        yield from (figure for section in self.sections for figure in section.figures if not isinstance(figure, Table))
