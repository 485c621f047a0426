"""What a window of production means: broken data, drift, or a loss of performance, and whether to retrain.

Quality, drift and performance are separate questions with separate verdicts. Drift of the inputs alone warns: seasons
move inputs every month and harm nobody. A loss that late labels show, or predictions that moved beyond policy, asks for
retraining. Broken data never does, because a model trained on it would be worse.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from taxiway.domain.evidence import Verdict, worst
from taxiway.domain.metrics import higher_is_better

PERFORMANCE, DRIFT = "performance", "drift"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class MonitoringPolicy:
    """Limits for a window: `column_psi`, `drifted_share` and `prediction_psi` count as drift from that value on.

    A PSI within a column's own noise does not count, however low the limit. `max_missing` maps columns to the largest
    share of missing values; `max_out_of_range` is the share of a column's values that may leave its range (one odd
    row is no broken feed). `retrain_on` holds the causes (PERFORMANCE, DRIFT) that ask for retraining.
    """

    metric: str
    max_drop: float
    min_labels: int
    column_psi: float = 0.2
    drifted_share: float = 0.3
    prediction_psi: float = 0.25
    max_missing: Mapping[str, float] = field(default_factory=dict)
    max_out_of_range: float = 0.01
    retrain_on: frozenset[str] = frozenset({PERFORMANCE})


@dataclass(frozen=True, slots=True)
class ColumnFigures:
    """One column in a window: its PSI against the reference, and shares (0 to 1) of its values.

    `noise` is the PSI that windows without drift reach now and then (see `domain.drift.noise`).
    """

    psi: float
    noise: float
    missing: float
    reference_missing: float
    out_of_range: float = 0.0

    def drifted(self, limit: float) -> bool:
        """Tell whether the column moved by the limit or more, and by more than its noise."""
        return self.psi >= limit and self.psi > self.noise


@dataclass(frozen=True, slots=True)
class WindowFigures:
    """What was measured in a window of production.

    `predictions` counts the rows that production answered; the champion gave `answered` of them, and `labelled` of
    those have their label. `prediction` is None when the champion answered nothing; a metric is None where the rows
    do not define it. `unknown_labels` counts labels that are none of a multiclass task's classes.
    """

    predictions: int
    answered: int
    labelled: int
    columns: Mapping[str, ColumnFigures]
    prediction: ColumnFigures | None
    metric: float | None
    reference_metric: float | None
    unknown_labels: int = 0

    @property
    def coverage(self) -> float:
        """Return the share of the champion's answers whose label is known."""
        return self.labelled / self.answered if self.answered else 0.0

    def drifted(self, limit: float) -> list[str]:
        """Return the columns that drifted, the furthest first."""
        found = [name for name, column in self.columns.items() if column.drifted(limit)]
        return sorted(found, key=lambda name: -self.columns[name].psi)

    def to_json(self) -> dict[str, Any]:
        """Return the figures as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> WindowFigures:
        """Read what `to_json` wrote; raises TypeError when a field is missing or unknown."""
        prediction = document["prediction"]
        return cls(
            **{
                **document,
                "columns": {name: ColumnFigures(**column) for name, column in document["columns"].items()},
                "prediction": None if prediction is None else ColumnFigures(**prediction),
            }
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on one question, with its reasons."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a window means; `asks` holds the causes (PERFORMANCE, DRIFT) for which it asks for retraining."""

    quality: Finding
    drift: Finding
    performance: Finding
    asks: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Return the worst of the three verdicts."""
        return worst(finding.verdict for finding in (self.quality, self.drift, self.performance))

    @property
    def asks_retraining(self) -> bool:
        """Tell whether a new model should be trained."""
        return bool(self.asks)

    @property
    def alert(self) -> bool:
        """Tell whether the owners should hear of it; labels that are not known yet are no news."""
        failed = Verdict.FAILED in (self.quality.verdict, self.performance.verdict)
        return failed or self.drift.verdict is not Verdict.PASSED

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return all reasons: quality, performance, drift."""
        return (*self.quality.reasons, *self.performance.reasons, *self.drift.reasons)


def assess(figures: WindowFigures, policy: MonitoringPolicy) -> Assessment:
    """Judge a window; raises SpecError when the policy's metric is unknown."""
    quality, drift, performance = _quality(figures, policy), _drift(figures, policy), _performance(figures, policy)
    causes = [cause for cause, found in ((PERFORMANCE, performance), (DRIFT, drift)) if found.verdict is Verdict.FAILED]
    asks = tuple(cause for cause in causes if cause in policy.retrain_on)
    if asks and quality.verdict is Verdict.FAILED:
        reason = f"no retraining for {' and '.join(asks)}: the data is broken"
        return Assessment(Finding(Verdict.FAILED, (*quality.reasons, reason)), drift, performance)
    return Assessment(quality, drift, performance, asks)


def _quality(figures: WindowFigures, policy: MonitoringPolicy) -> Finding:
    reasons = tuple(
        f"{name}: {problem}" for name, column in figures.columns.items() for problem in _problems(name, column, policy)
    )
    if figures.prediction is not None and figures.prediction.missing > 0:
        reasons += (f"{figures.prediction.missing:.1%} of the predictions are missing or not what the task asks for",)
    if figures.unknown_labels:
        reasons += (f"{figures.unknown_labels} labels are none of the task's classes",)
    return Finding(Verdict.FAILED if reasons else Verdict.PASSED, reasons)


def _problems(name: str, column: ColumnFigures, policy: MonitoringPolicy) -> Iterator[str]:
    allowed = policy.max_missing.get(name, 1.0)
    if column.missing > allowed:
        yield f"{column.missing:.1%} missing is more than {allowed:.1%}"
    elif column.missing == 1 and column.reference_missing < 1:
        yield "every value is missing"
    if column.out_of_range > policy.max_out_of_range:
        yield f"{column.out_of_range:.1%} of the values are out of range"


def _drift(figures: WindowFigures, policy: MonitoringPolicy) -> Finding:
    reasons: list[str] = []
    verdict = Verdict.PASSED
    drifted = figures.drifted(policy.column_psi)
    share = len(drifted) / len(figures.columns) if figures.columns else 0.0
    if drifted and share >= policy.drifted_share:
        verdict = Verdict.INCONCLUSIVE
        shown = ", ".join(f"{name} {figures.columns[name].psi:.2f}" for name in drifted[:_SHOWN])
        more = f" and {len(drifted) - _SHOWN} more" if len(drifted) > _SHOWN else ""
        reasons.append(f"{len(drifted)} of {len(figures.columns)} inputs drifted (PSI): {shown}{more}")
    if figures.prediction is not None and figures.prediction.drifted(policy.prediction_psi):
        verdict = Verdict.FAILED
        reasons.append(f"the predictions moved: PSI {figures.prediction.psi:.3f}, policy {policy.prediction_psi:g}")
    return Finding(verdict, tuple(reasons))


def _performance(figures: WindowFigures, policy: MonitoringPolicy) -> Finding:
    if figures.labelled < policy.min_labels:
        reason = f"{figures.labelled} labels are known; {policy.min_labels} are needed to judge {policy.metric}"
        return Finding(Verdict.INCONCLUSIVE, (reason,))
    if not _is_number(figures.metric) or not _is_number(figures.reference_metric):
        return Finding(Verdict.INCONCLUSIVE, (f"the labels of window and reference do not define {policy.metric}",))
    now, before = float(figures.metric or 0.0), float(figures.reference_metric or 0.0)
    drop = before - now if higher_is_better(policy.metric) else now - before
    if drop > policy.max_drop:
        text = f"{policy.metric} is {now:.4f}, worse than the reference's {before:.4f} by {drop:.4f}"
        return Finding(Verdict.FAILED, (f"{text}; policy {policy.max_drop:g}",))
    return Finding(Verdict.PASSED)


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
