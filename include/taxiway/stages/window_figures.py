"""What a monitored window shows: profiles against the reference, and the metric that late labels give."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from taxiway.domain.drift import Profile, bins_of, noise, profile, psi
from taxiway.domain.metrics import compute
from taxiway.domain.monitoring import ColumnFigures, WindowFigures
from taxiway.domain.statistics import finite
from taxiway.domain.values import Window
from taxiway.spec import ModelSpec
from taxiway.stages.monitored_answers import known_classes
from taxiway.stages.monitored_rows import ANSWER, PREDICTION, Columns, plain_labels

if TYPE_CHECKING:
    import pandas as pd

_SEED = 2013
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class MonitoredRows:
    """Typed rows (see `monitored_rows.typed`): the reference, the window's answers, and the champion's own of those."""

    reference: pd.DataFrame
    current: pd.DataFrame
    own: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of a window, and by column the counts behind them (`bins`, `reference`, `current`) as JSON."""

    figures: WindowFigures
    profiles: dict[str, Any]


def measure(spec: ModelSpec, columns: Columns, rows: MonitoredRows, window: Window) -> Measured:
    """Measure a window that has at least one answer; predictions are compared for the champion's own answers only."""
    compared: dict[str, ColumnFigures] = {}
    profiles: dict[str, Any] = {}
    days = _days(spec, rows.reference)
    for name in (*columns.numerical, *columns.categorical):
        frame = rows.own if name == PREDICTION else rows.current
        if frame.empty:
            continue
        values = rows.reference[name].to_numpy()
        bins = bins_of(values)
        daily = [profile(values[positions], bins) for positions in days]
        before, now = sum(daily[1:], daily[0]), profile(frame[name].to_numpy(), bins)
        compared[name] = _figures(before, now, noise=_noise(daily, window), outside=_out_of_range(spec, name, frame))
        profiles[name] = {"bins": list(bins.labels), "reference": before.to_json(), "current": now.to_json()}
    known, unknown_labels = _known(rows.own, spec.task.label, columns)
    reference, _ = _known(rows.reference, spec.task.label, columns)
    figures = WindowFigures(
        predictions=len(rows.current),
        answered=len(rows.own),
        labelled=len(known),
        prediction=compared.pop(PREDICTION, None),
        columns=compared,
        metric=_score(spec, columns, known),
        reference_metric=_score(spec, columns, reference),
        unknown_labels=unknown_labels,
    )
    return Measured(figures, profiles)


def _figures(before: Profile, now: Profile, *, noise: float, outside: float) -> ColumnFigures:
    index = psi(before.counts, now.counts)
    return ColumnFigures(*(round(value, 6) for value in (index, noise, now.missing, before.missing, outside)))


def _days(spec: ModelSpec, reference: pd.DataFrame) -> list[np.ndarray[Any, Any]]:
    """Return the row positions of each day of the reference."""
    days = reference[spec.task.timestamp].dt.floor("D").to_numpy()
    return [np.flatnonzero(days == day) for day in np.unique(days)]


def _noise(daily: list[Profile], window: Window) -> float:
    blocks = np.array([day.counts for day in daily])
    length = max(round((window.end - window.start) / _DAY), 1)
    return noise(blocks, window_blocks=length, rng=np.random.default_rng(_SEED))


def _out_of_range(spec: ModelSpec, name: str, rows: pd.DataFrame) -> float:
    if name not in spec.data.checks.ranges:
        return 0.0
    values = rows[name].dropna()
    return float((~values.between(*spec.data.checks.ranges[name])).mean()) if len(values) else 0.0


def _known(rows: pd.DataFrame, label: str, columns: Columns) -> tuple[pd.DataFrame, int]:
    """Return the rows with a usable answer and a label, in its own type again; count labels that are no class."""
    found = rows[rows[label].notna() & rows[PREDICTION].notna()]
    if not columns.classes:
        return found.assign(**{label: plain_labels(found[label], columns.kind)}), 0
    labels = known_classes(found[label], columns.classes)
    return found.assign(**{label: labels})[labels.notna()], int(labels.isna().sum())


def _score(spec: ModelSpec, columns: Columns, rows: pd.DataFrame) -> float | None:
    """Return the monitored metric of labelled rows, None where they do not define it."""
    if rows.empty:
        return None
    labels, predictions = rows[spec.task.label].tolist(), rows[ANSWER].tolist()
    return finite(
        compute(columns.kind, spec.monitoring.performance.metric, labels, predictions, classes=columns.classes)
    )
