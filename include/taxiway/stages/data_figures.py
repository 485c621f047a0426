"""The figures of a build's two windows, measured on whatever their columns hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from taxiway.domain.data_rules import NUMBERS, ColumnFigures, Kind, LabelFigures, Rules, WindowFigures, alike

if TYPE_CHECKING:
    import pandas as pd

_OBJECTS = {
    "string": Kind.TEXT,
    "boolean": Kind.BOOLEAN,
    **dict.fromkeys(("integer", "floating", "mixed-integer-float", "decimal"), Kind.NUMBER),
    **dict.fromkeys(("datetime", "datetime64", "date"), Kind.TIME),
}
_LONGEST = 60
_QUANTILES = (0, 0.25, 0.5, 0.75, 1)


@dataclass(frozen=True, slots=True)
class Plain:
    """A window in the simplest types that hold it: every column can be compared, counted and written.

    Numbers are int64 or float64, texts and booleans objects or None, moments datetime64; anything else is text.
    """

    frame: pd.DataFrame
    kinds: Mapping[str, Kind]


def plain(frame: pd.DataFrame) -> Plain:
    """Return the frame in plain types, and what each column holds."""
    import pandas as pd

    kinds = {str(name): kind_of(frame[name]) for name in frame.columns}
    columns = {name: _plain_column(frame[name], kind) for name, kind in kinds.items()}
    return Plain(pd.DataFrame(columns, index=frame.index), kinds)


def kind_of(values: pd.Series[Any]) -> Kind:
    """Tell what the known values of a column are, whatever its type is called."""
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype if values.notna().all() else object)
    if values.isna().all():
        return Kind.NOTHING
    dtypes = pd.api.types
    if dtypes.is_bool_dtype(values.dtype):
        return Kind.BOOLEAN
    if dtypes.is_datetime64_any_dtype(values.dtype):
        return Kind.TIME
    if dtypes.is_numeric_dtype(values.dtype) and not dtypes.is_complex_dtype(values.dtype):
        return _number_kind(values)
    found = _OBJECTS.get(dtypes.infer_dtype(values, skipna=True), Kind.OTHER)
    return _number_kind(values) if found is Kind.NUMBER else found


def measure(rules: Rules, training: Plain, holdout: Plain) -> tuple[WindowFigures, WindowFigures]:
    """Return the figures of both windows; columns that are not there have none."""
    return _window(rules, training, None), _window(rules, holdout, training)


def _window(rules: Rules, window: Plain, before: Plain | None) -> WindowFigures:
    """Measure one window; `before` is the one that should have shown all categories and no key of it."""
    import pandas as pd

    key, label, frame = rules.task.key, rules.task.label, window.frame
    keys = frame[key].dropna() if key in frame else pd.Series(dtype=object)
    readable = label in frame and window.kinds[label] in rules.label_kinds
    return WindowFigures(
        rows=len(frame),
        columns={name: _column(rules, name, window, before) for name in rules.columns if name in frame},
        label=_label(rules, frame[label], window.kinds[label]) if readable else None,
        repeated_keys=int(keys.duplicated().sum()),
        known_keys=int(_known(key, keys, window, before).sum()),
        duplicates=int(frame.drop(columns=key, errors="ignore").duplicated().sum()),
    )


def _column(rules: Rules, name: str, window: Plain, before: Plain | None) -> ColumnFigures:
    values, kind = window.frame[name], window.kinds[name]
    missing = int(values.isna().sum())
    new: Mapping[str, int] = {}
    if name in rules.checks.max_new_categories and before and name in before.frame:
        new = _rows_of(values[~_known(name, values, window, before) & values.notna()])
    if kind not in NUMBERS:
        return ColumnFigures(kind, missing, new=new)
    low, high = rules.checks.ranges.get(name, (-np.inf, np.inf))
    outside = int((~values.dropna().between(low, high)).sum())
    return ColumnFigures(kind, missing, float(values.min()), float(values.max()), outside, new)


def _known(name: str, values: pd.Series[Any], window: Plain, before: Plain | None) -> pd.Series[bool]:
    """Tell which values the window before had; none when it held something else, which cannot be compared."""
    kind = before.kinds.get(name) if before else None
    if before and kind and name in window.kinds and alike(window.kinds[name], kind):
        return values.isin(before.frame[name])
    return values.isna() & False


def _label(rules: Rules, values: pd.Series[Any], kind: Kind) -> LabelFigures:
    numbers = kind is not Kind.TEXT
    values = values.astype("float64") if numbers else values
    if rules.labels:
        known = values.isin(list(rules.labels))
        return LabelFigures(int(values.nunique()), _rows_of(values[known]), _rows_of(values[~known]))
    finite = values[np.isfinite(values)]
    if finite.empty:
        return LabelFigures(0, strange=_rows_of(values))
    quantiles = {f"{point:g}": float(value) for point, value in finite.quantile(list(_QUANTILES)).items()}
    strange = _rows_of(values[~np.isfinite(values)])
    return LabelFigures(int(finite.nunique()), strange=strange, mean=float(finite.mean()), quantiles=quantiles)


def _rows_of(values: pd.Series[Any]) -> Mapping[str, int]:
    """Count the rows of each value."""
    rows: Counter[str] = Counter()
    for value, count in values.value_counts(dropna=False).items():
        rows[_words(value)] += int(count)
    return rows


def _words(value: Any) -> str:
    """Write a value as people can read it: numbers without needless decimals, text in one short line."""
    text = f"{value:.15g}" if isinstance(value, float) else str(value)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _number_kind(values: pd.Series[Any]) -> Kind:
    import pandas as pd

    if pd.api.types.is_integer_dtype(values.dtype):
        return Kind.INTEGER
    known = _numbers(values).dropna()
    return Kind.INTEGER if bool((known % 1 == 0).all()) else Kind.NUMBER  # infinity % 1 is NaN: not an integer


def _numbers(values: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    return pd.to_numeric(values, errors="coerce").astype("float64")


def _plain_column(values: pd.Series[Any], kind: Kind) -> pd.Series[Any]:
    import pandas as pd

    if kind in NUMBERS:
        whole = pd.api.types.is_signed_integer_dtype(values.dtype) and not values.hasnans
        return values.astype("int64") if whole else _numbers(values)
    if kind is Kind.TIME and pd.api.types.is_datetime64_any_dtype(values.dtype):
        return values
    objects = values.astype(object)
    if kind not in (Kind.TEXT, Kind.BOOLEAN, Kind.NOTHING):
        objects = objects.map(str)
    content = objects.to_numpy(dtype=object, copy=True)
    content[values.isna().to_numpy(dtype=bool)] = None
    return pd.Series(content, index=values.index, dtype=object)
