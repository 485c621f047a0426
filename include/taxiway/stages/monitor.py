"""Monitor: what production answered in a window, compared with the champion's reference and with late labels.

Three steps that can be tasks of their own: `collect` measures; then, in any order, `report` makes what people read and
`publish` judges and tells. They hand each other references (`Collected`): figures, profiles, a sample of rows and the
report are files of the champion's run below `taxiway/monitoring/<window>/`, and the evidence is beside them in
`taxiway/monitoring/<window>.json`. The same window, log and labels give the same figures at the same place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, time
from typing import TYPE_CHECKING, Any

from taxiway.domain.evidence import Evidence, Json, Verdict
from taxiway.domain.monitoring import Assessment, MonitoringPolicy, WindowFigures, assess
from taxiway.domain.values import CHAMPION, Notification, Window
from taxiway.errors import DataError, NotFoundError
from taxiway.ports import Clock, DataSource, Notifier, PredictionLog, Registry, Reports
from taxiway.spec import ModelSpec
from taxiway.stages.data import stored_frame
from taxiway.stages.evaluate import REFERENCE
from taxiway.stages.monitored_rows import (
    Columns,
    columns_of,
    known_labels,
    production_answers,
    report_rows,
    typed,
)
from taxiway.stages.window_figures import MonitoredRows, measure
from taxiway.stages.workspaces import workspace

if TYPE_CHECKING:
    import pandas as pd

MONITORING = "taxiway/monitoring"
_LABELLED_ENOUGH = 0.5
"""From this share of known labels on, the report leaves out the rows without one and shows the performance too."""


@dataclass(frozen=True, slots=True)
class Collected:
    """A window whose figures are stored with the champion's run; the times are ISO 8601 (UTC)."""

    model: str
    version: int
    run_id: str
    start: str
    end: str
    as_of: str

    @property
    def folder(self) -> str:
        """Return where the window's files are in the run."""
        return f"{MONITORING}/{window_name(datetime.fromisoformat(self.end))}"

    @property
    def evidence(self) -> str:
        """Return the path of the window's evidence in the run."""
        return f"{self.folder}.json"

    @property
    def report(self) -> str:
        """Return the path of the window's report in the run."""
        return f"{self.folder}/report.html"

    def to_json(self) -> dict[str, Any]:
        """Return the reference that one task hands to the next; `Collected(**document)` reads it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MonitoringResult:
    """What a window means; `cause` (performance or drift) is why retraining is asked for, None when it is not.

    `figures` are those of the evidence.
    """

    window: Collected
    verdict: Verdict
    cause: str | None
    reasons: tuple[str, ...]
    figures: Mapping[str, Json]

    @property
    def asks_retraining(self) -> bool:
        """Tell whether a new model should be trained."""
        return self.cause is not None

    def to_json(self) -> dict[str, Any]:
        """Return the result as a small JSON object."""
        return {
            **self.window.to_json(),
            "verdict": self.verdict.value,
            "asks_retraining": self.asks_retraining,
            "reason": self.cause or "",
            "reasons": list(self.reasons),
            "figures": dict(self.figures),
            "evidence": self.window.evidence,
            "report": self.window.report,
        }


def window_name(end: datetime) -> str:
    """Return the name of the window that ends then: the date, and the time of day unless that is midnight."""
    return f"{end:%Y-%m-%d}" if end.time() == time(0) else f"{end:%Y-%m-%dT%H%M}"


def resolve_window(
    spec: ModelSpec, data: DataSource, data_start: datetime | None = None, data_end: datetime | None = None
) -> Window:
    """Return the window to look at: unless told otherwise it ends with the newest data and has the spec's length.

    Raises DataError when it would end before it starts, or there is no data.
    """
    end = data_end or data.newest()
    start = data_start or end - spec.monitoring.window
    if start >= end:
        raise DataError(
            f"the window would start {start:%Y-%m-%d %H:%M} and end {end:%Y-%m-%d %H:%M}",
            where=spec.model,
            next_step="choose a data_start before data_end.",
        )
    return Window(start, end)


def collect(
    spec: ModelSpec,
    window: Window,
    *,
    as_of: datetime,
    registry: Registry,
    predictions: PredictionLog,
    data: DataSource,
) -> Collected | None:
    """Measure the window with the labels known at `as_of`; store figures, profiles and a sample of its rows.

    Returns None when there is no champion. Raises DataError when production answered nothing in the window.
    """
    champion = registry.by_alias(spec.model, CHAMPION)
    if champion is None:
        return None
    stored = stored_frame(registry, champion.run_id, REFERENCE)
    columns = columns_of(spec, stored, label=spec.task.label)
    reference = typed(stored, columns)
    log = predictions.read(spec.model, window, spec.data.features)
    answers = typed(production_answers(spec, log, window), columns)
    labels = known_labels(spec, data, window, as_of)
    current = answers.assign(**{spec.task.label: answers["key"].map(labels)})
    own = current[current["version"] == champion.version]

    measured = measure(spec, columns, MonitoredRows(reference, current, own), window)
    start, end = window.start.isoformat(), window.end.isoformat()
    collected = Collected(spec.model, champion.version, champion.run_id, start, end, as_of.isoformat())
    registry.put_json(champion.run_id, f"{collected.folder}/figures.json", measured.figures.to_json())
    registry.put_json(champion.run_id, f"{collected.folder}/profiles.json", measured.profiles)
    _store_sample(spec, columns, own if len(own) else current, collected, registry)
    return collected


def report(spec: ModelSpec, collected: Collected, *, registry: Registry, reports: Reports) -> str:
    """Make the report that people read about the stored sample; returns its path in the champion's run."""
    reference = stored_frame(registry, collected.run_id, REFERENCE)
    current = stored_frame(registry, collected.run_id, f"{collected.folder}/current.parquet")
    columns = columns_of(spec, reference, label=spec.task.label if spec.task.label in current else None)
    before = report_rows(typed(reference, columns), columns, limit=spec.monitoring.report_rows)
    with workspace("report") as directory:
        html, document = directory / "report.html", directory / "report.json"
        reports.write(before, current, columns=columns, html=html, document=document)
        registry.put_file(collected.run_id, f"{collected.folder}/report.json", document)
        registry.put_file(collected.run_id, collected.report, html)
    return collected.report


def publish(
    spec: ModelSpec, collected: Collected, *, registry: Registry, notifier: Notifier, clock: Clock
) -> MonitoringResult:
    """Judge the stored figures, keep the evidence, show the figures in MLflow and tell the owners of an alert.

    A repeat that finds what was found before tells nobody again.
    """
    figures = WindowFigures.from_json(registry.get_json(collected.run_id, f"{collected.folder}/figures.json"))
    policy = policy_of(spec)
    assessment = assess(figures, policy)
    summary = _summary(figures, assessment, policy)
    subject = {name: str(value) for name, value in collected.to_json().items()}
    evidence = Evidence("monitoring", assessment.verdict, clock.now(), assessment.reasons, subject, summary)
    if assessment.alert and _said_before(registry, collected) != assessment.reasons:
        notifier.notify(_alert(collected, assessment))
    registry.log_metrics(collected.run_id, _metrics(summary))
    registry.put_json(collected.run_id, collected.evidence, evidence.to_json())
    cause = assessment.asks[0] if assessment.asks else None
    return MonitoringResult(collected, assessment.verdict, cause, assessment.reasons, summary)


def policy_of(spec: ModelSpec) -> MonitoringPolicy:
    """Return the spec's rules for a window."""
    drift, performance = spec.monitoring.drift, spec.monitoring.performance
    return MonitoringPolicy(
        metric=performance.metric,
        max_drop=performance.max_drop,
        min_labels=performance.min_labels,
        column_psi=drift.column,
        drifted_share=drift.share,
        prediction_psi=drift.prediction,
        max_missing=spec.data.checks.max_missing,
        retrain_on=frozenset(spec.retraining.on),
    )


def _store_sample(
    spec: ModelSpec, columns: Columns, rows: pd.DataFrame, collected: Collected, registry: Registry
) -> None:
    """Store the rows of the report; with labels when enough of them are known and they differ."""
    labels = rows[spec.task.label]
    usable = labels.notna().mean() >= _LABELLED_ENOUGH and labels.nunique() > 1
    columns = replace(columns, label=columns.label if usable else None)
    with workspace("sample") as directory:
        path = directory / "current.parquet"
        report_rows(rows, columns, limit=spec.monitoring.report_rows).to_parquet(path, index=False)
        registry.put_file(collected.run_id, f"{collected.folder}/current.parquet", path)


def _summary(figures: WindowFigures, assessment: Assessment, policy: MonitoringPolicy) -> dict[str, Json]:
    drifted = figures.drifted(policy.column_psi)
    return {
        "predictions": figures.predictions,
        "answered": figures.answered,
        "labelled": figures.labelled,
        "coverage": round(figures.coverage, 4),
        "psi": {name: column.psi for name, column in figures.columns.items()},
        "drifted": list(drifted),
        "drifted_share": round(len(drifted) / max(len(figures.columns), 1), 4),
        "prediction_psi": figures.prediction.psi if figures.prediction else None,
        "metric": policy.metric,
        "value": figures.metric,
        "reference": figures.reference_metric,
        "quality": assessment.quality.verdict.value,
        "drift": assessment.drift.verdict.value,
        "performance": assessment.performance.verdict.value,
        "asks_retraining": assessment.asks_retraining,
        "asks": list(assessment.asks),
    }


def _metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    shown = ("predictions", "labelled", "coverage", "drifted_share", "prediction_psi")
    figures = {**{name: summary[name] for name in shown}, summary["metric"]: summary["value"]}
    return {f"monitoring_{name}": float(value) for name, value in figures.items() if value is not None}


def _said_before(registry: Registry, collected: Collected) -> tuple[str, ...] | None:
    try:
        return Evidence.from_json(registry.get_json(collected.run_id, collected.evidence)).reasons
    except NotFoundError:
        return None


def _alert(collected: Collected, assessment: Assessment) -> Notification:
    request = f" Asks for retraining ({', '.join(assessment.asks)})." if assessment.asks else ""
    title = f"{collected.model} version {collected.version}: {assessment.verdict.value} until {collected.end[:10]}"
    text = f"{'; '.join(assessment.reasons)}.{request} Report: {collected.report}"
    return Notification(collected.model, "monitoring_alert", title, text)
