"""Evidence figures as tables: any JSON becomes a few flat tables that a person can read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taxiway.domain.evidence import Json

MAX_ROWS = 200
_MAX_TEXT = 400
_WHOLE = 1e15
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::[\d.]+)?(?:Z|\+00:00)?")


@dataclass(frozen=True, slots=True)
class Table:
    """One table of text and figures; without columns it lists names and values. `hidden` rows were left out."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Json, ...], ...]
    hidden: int = 0


def tables(figures: Mapping[str, Json]) -> list[Table]:
    """Return the figures as tables, in their order; single values come first."""
    return list(_tables("", figures))


def shown(value: Any) -> str:
    """Return a figure as text: 4 significant digits, times to the minute, a dash for nothing, the rest in short."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _WHOLE else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{label(name)} {shown(item)}" for name, item in value.items() if not _is_table(item))
    if isinstance(value, list):
        return f"{len(value)} rows" if _is_table(value) else _short(", ".join(map(shown, value)))
    text = str(value)
    return f"{time[1]} {time[2]}" if (time := _TIME.fullmatch(text)) else _short(text)


def answer(prediction: Any, classes: Sequence[str]) -> str:
    """Return a prediction as text; of scores for each of the classes, the most probable class with its score."""
    if isinstance(prediction, list) and len(prediction) == len(classes) > 0:
        best = max(range(len(classes)), key=prediction.__getitem__)
        return f"{classes[best]} ({prediction[best]:.2f})"
    return shown(prediction)


def label(name: str) -> str:
    """Return the name of a figure as people read it."""
    return name.replace("_", " ")


def _tables(title: str, figures: Mapping[str, Json]) -> Iterator[Table]:
    single = {name: value for name, value in figures.items() if not _is_nested(value)}
    if single:
        yield _table(title, (), [(label(name), value) for name, value in single.items()])
    for name, value in figures.items():
        below = f"{title}, {label(name)}" if title else label(name)
        if isinstance(value, Mapping) and _are_records(value.values()):
            yield _grid(below, [{"": key, **row} for key, row in value.items() if isinstance(row, Mapping)])
        elif isinstance(value, Mapping):
            yield from _tables(below, value)
        elif isinstance(value, list) and _is_table(value):
            yield _grid(below, [row for row in value if isinstance(row, Mapping)])


def _grid(title: str, rows: Sequence[Mapping[str, Json]]) -> Table:
    spread = [name for name in rows[0] if _has_same_keys([row.get(name) for row in rows])]
    flat = [_spread(row, spread) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    return _table(title, tuple(map(label, columns)), [tuple(row.get(name) for name in columns) for row in flat])


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[Json, ...]]) -> Table:
    return Table(title, columns, tuple(rows[:MAX_ROWS]), max(0, len(rows) - MAX_ROWS))


def _spread(row: Mapping[str, Json], names: Sequence[str]) -> dict[str, Json]:
    """Give each value of the named nested objects a column of its own."""
    flat: dict[str, Json] = {}
    for name, value in row.items():
        if name in names and isinstance(value, Mapping):
            flat |= {f"{name} {key}": item for key, item in value.items()}
        else:
            flat[name] = value
    return flat


def _has_same_keys(values: Sequence[Json]) -> bool:
    first = values[0]
    return isinstance(first, Mapping) and all(
        isinstance(value, Mapping) and value.keys() == first.keys() for value in values
    )


def _is_nested(value: Json) -> bool:
    return bool(value) and (isinstance(value, Mapping) or _is_table(value))


def _is_table(value: Json) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _are_records(values: Iterable[Json]) -> bool:
    """Tell whether the objects are rows of one table: all of them objects that share a key."""
    found = list(values)
    keys = [set(value) for value in found if isinstance(value, Mapping)]
    return bool(found) and len(keys) == len(found) and bool(set.intersection(*keys))


def _short(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + " …"
