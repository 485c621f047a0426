"""The rows of a monitored window: what production answered, joined with late labels, in types that can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from taxiway.domain.values import Window
from taxiway.errors import DataError
from taxiway.ports import DataSource
from taxiway.spec import ModelSpec
from taxiway.stages.monitored_answers import predicted_classes, usable_answers

if TYPE_CHECKING:
    import pandas as pd

PREDICTION, ANSWER = "prediction", "answer"
_PRODUCTION_ROLES = ("champion", "canary")
_SEED = 2013


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a monitored frame mean (a `ports.ReportColumns`).

    `label` is None when the rows have none. `classes` are those of the task (multiclass only).
    """

    numerical: tuple[str, ...]
    categorical: tuple[str, ...]
    label: str | None
    kind: str
    drift_threshold: float
    drift_share: float
    prediction: str = PREDICTION
    classes: tuple[Any, ...] = ()


def columns_of(spec: ModelSpec, reference: pd.DataFrame, *, label: str | None) -> Columns:
    """Tell numbers from categories by the reference's types; predicted classes are categories."""
    import pandas as pd

    types, kind = reference.dtypes, spec.task.kind
    numerical = [
        name
        for name in spec.data.features
        if pd.api.types.is_numeric_dtype(types[name]) and not pd.api.types.is_bool_dtype(types[name])
    ]
    categorical = [name for name in spec.data.features if name not in numerical]
    (categorical if kind == "multiclass" else numerical).append(PREDICTION)
    drift = spec.monitoring.drift
    return Columns(
        numerical=tuple(numerical),
        categorical=tuple(categorical),
        label=label,
        kind=kind,
        drift_threshold=drift.column,
        drift_share=drift.share,
        classes=spec.task.classes,
    )


def production_answers(spec: ModelSpec, log: pd.DataFrame, window: Window) -> pd.DataFrame:
    """Return what callers got, one row per key: the newest answer of champion or canary, never the shadow's.

    Keys become text; rows without a key are all kept. Raises DataError when there is no answer.
    """
    answers = log[log["role"].isin(_PRODUCTION_ROLES)]
    if answers.empty:
        raise DataError(
            f"production answered nothing from {window}",
            where=f"{spec.model}, prediction log of {spec.environments.production}",
            next_step="choose a window with traffic (data_start, data_end), or send requests with key and timestamp.",
        )
    ordered = answers.assign(key=_as_text(answers["key"])).sort_values(["logged_at", "request_id"], kind="stable")
    replaced = ordered["key"].notna() & ordered.duplicated("key", keep="last")
    return ordered[~replaced].sort_values(["event_time", "key"], kind="stable", ignore_index=True)


def known_labels(spec: ModelSpec, data: DataSource, window: Window, as_of: datetime) -> pd.Series[Any]:
    """Return the labels that were known at `as_of`, by key (as text)."""
    import pandas as pd

    task = spec.task
    rows = data.read(window, [task.key, task.timestamp, task.label])
    due = pd.to_datetime(rows[task.timestamp], utc=True) + task.label_delay <= as_of
    known = rows[due & rows[task.label].notna() & rows[task.key].notna()].drop_duplicates(task.key, keep="last")
    return pd.Series(known[task.label].to_numpy(), index=_as_text(known[task.key]).to_numpy(), name=task.label)


def typed(frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the frame with every monitored column: numbers as float64, categories as text or None.

    A column that the caller did not send, and text in a numeric one, is missing. `answer` keeps the predictions that
    can be used (see `monitored_answers`); `prediction` holds one value of each, the most probable class of scores.
    """
    import pandas as pd

    answers = usable_answers(frame[columns.prediction], columns.kind, columns.classes)
    values: dict[str, Any] = {ANSWER: answers}
    for name in (*columns.numerical, *columns.categorical):
        found = frame[name] if name in frame else pd.Series(None, index=frame.index, dtype=object)
        if name == columns.prediction:
            found = predicted_classes(answers, columns.classes) if columns.classes else answers
        if name in columns.numerical:
            values[name] = pd.to_numeric(found, errors="coerce").astype("float64")
        else:
            values[name] = _as_text(found)
    return frame.assign(**values)


def report_rows(rows: pd.DataFrame, columns: Columns, *, limit: int) -> pd.DataFrame:
    """Return at most `limit` rows, the same ones every time, with the columns that a report needs.

    With a label, rows without label or prediction are left out; labels are int64 (binary), float64 (regression) or
    text (multiclass, as the predictions are).
    """
    kept = [*columns.numerical, *columns.categorical]
    if columns.label is not None:
        rows = rows[rows[columns.label].notna() & rows[columns.prediction].notna()]
        labels = rows[columns.label]
        known = _as_text(labels) if columns.kind == "multiclass" else plain_labels(labels, columns.kind)
        rows = rows.assign(**{columns.label: known})
        kept.append(columns.label)
    sampled = rows.sample(limit, random_state=_SEED).sort_index() if len(rows) > limit else rows
    return sampled[kept].reset_index(drop=True)


def plain_labels(labels: pd.Series[Any], kind: str) -> pd.Series[Any]:
    """Return known labels in their own type again: a join with unlabelled rows made integers floats or objects."""
    if kind == "regression":
        return labels.astype("float64")
    text = labels.dtype == object and len(labels) > 0 and isinstance(labels.iloc[0], str)
    return labels if text else labels.astype("int64")


def _as_text(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return text or None; whole numbers have no decimals, also where missing values made them floats."""
    import pandas as pd

    plain = values.convert_dtypes(convert_string=False, convert_boolean=False)
    texts = [str(value) if known else None for value, known in zip(plain, plain.notna(), strict=True)]
    return pd.Series(texts, index=values.index, dtype=object)
