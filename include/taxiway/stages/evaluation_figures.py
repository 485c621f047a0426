"""The evaluation as people read it: one page about candidate and champion, drawn from what is stored with the build.

Nothing waits for it: it runs beside the gate, needs no model, and decides nothing. What the gate asks of the figures is
asked here again, by the same pure rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from taxiway.domain.charts import Area, Chart, Curve, Figure, Page, PageSection, Table
from taxiway.domain.evidence import Evidence, worst
from taxiway.domain.gates import Check, SlicePolicy
from taxiway.domain.gates import judge as judge_measured
from taxiway.domain.metrics import compute_by_block, higher_is_better
from taxiway.ports import EvaluationPages, Registry
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build
from taxiway.stages.candidates import EVALUATION_PAGE
from taxiway.stages.evaluation_charts import kind_figures, numbers, shown
from taxiway.stages.evidence_store import evidence_of
from taxiway.stages.gate import measured, policy
from taxiway.stages.stored_predictions import HoldoutPredictions, stored_predictions
from taxiway.stages.workspaces import workspace

FIGURES = "taxiway/figures"
_MOST_DAYS, _MOST_GROUPS = 500, 200


def draw_evaluation(spec: ModelSpec, build: Build, *, registry: Registry, pages: EvaluationPages) -> str:
    """Store the page and its charts with the build; returns the page's path in the run. A repeat stores the same."""
    evaluation = evidence_of(registry, build.run_id, "evaluation")
    page = evaluation_page(spec, build, evaluation, stored_predictions(registry, build.run_id))
    with workspace("figures") as directory:
        pages.write(page, directory)
        registry.put_directory(build.run_id, FIGURES, directory / "figures")
        registry.put_file(build.run_id, EVALUATION_PAGE, directory / "evaluation.html")
    return EVALUATION_PAGE


def evaluation_page(spec: ModelSpec, build: Build, evaluation: Evidence, predictions: HoldoutPredictions) -> Page:
    """Return what the page shows."""
    figures: Mapping[str, Any] = evaluation.figures
    checks = _checks(spec, figures)
    sections = [
        PageSection("Metrics", "", (_metrics(spec, figures),)),
        PageSection("The answers", "", kind_figures(spec.task, predictions)),
        PageSection("Day by day", "", tuple(_daily(spec, figures, predictions))),
    ]
    if (limits := policy(spec.gates).slices) is not None:
        sections.append(PageSection("Groups of rows", _limits(limits), (_groups(limits, figures["slices"]),)))
    return Page(
        title=f"{spec.model}: evaluation of {build.sha[:12]}",
        description=spec.description,
        verdict=worst(check.verdict for check in checks),
        facts=_facts(build, evaluation, predictions),
        checks=checks,
        sections=tuple(sections),
    )


def _checks(spec: ModelSpec, figures: Mapping[str, Any]) -> tuple[Check, ...]:
    """Return the checks that the gate makes of metrics and slices."""
    decision = judge_measured(policy(spec.gates), measured(figures))
    metrics = {*spec.gates.metrics, *((spec.gates.slices.metric,) if spec.gates.slices else ())}
    return tuple(check for check in decision.checks if check.name.partition(" ")[0] in metrics)


def _facts(build: Build, evaluation: Evidence, predictions: HoldoutPredictions) -> tuple[tuple[str, str], ...]:
    champion, problem = evaluation.figures["champion"], evaluation.figures.get("champion_problem")
    days = np.unique(predictions.days)
    champion_text = "none: nothing serves yet" if champion is None else f"version {champion}"
    return (
        (
            "Candidate",
            f"commit {build.sha[:12]} by {build.author}; {build.build_id}, asked for by {build.requested_by}",
        ),
        ("Champion", f"{champion_text}, which could not be measured" if problem else champion_text),
        ("Holdout", f"{len(predictions.labels):,} rows of {_days(len(days))}, {_date(days[0])} to {_date(days[-1])}"),
        ("Measured", f"{evaluation.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"),
    )


def _metrics(spec: ModelSpec, figures: Mapping[str, Any]) -> Table:
    rows = []
    for name, figure in figures["metrics"].items():
        interval = figure.get("interval", {})
        bounds = (shown(interval.get(bound), signed=True) for bound in ("difference", "lower", "upper"))
        better = "higher" if higher_is_better(name) else "lower"
        rows.append((name, better, shown(figure["candidate"]), shown(figure.get("champion")), *bounds))
    return Table(
        "",
        ("metric", "better", "candidate", "champion", "difference", "at least", "at most"),
        ("text", "text", "number", "number", "number", "number", "number"),
        tuple(rows),
        note="The difference is candidate - champion; each bound holds with a confidence of "
        f"{spec.gates.confidence * 100:g} %. They come from resampling whole days.",
    )


def _daily(spec: ModelSpec, figures: Mapping[str, Any], predictions: HoldoutPredictions) -> Iterator[Figure]:
    days = np.unique(predictions.days)[-_MOST_DAYS:]
    newest = np.isin(predictions.days, days)
    models = {"candidate": predictions.candidate, "champion": predictions.champion}
    for name, gate in spec.gates.metrics.items():
        values = {
            role: compute_by_block(
                spec.task.kind,
                name,
                predictions.labels[newest],
                answers[newest],
                blocks=predictions.days[newest],
                classes=spec.task.classes,
            )
            for role, answers in models.items()
            if answers is not None
        }
        x = numbers(days)
        curves = tuple(Curve(role, role, x, numbers(found), "marked") for role, found in values.items())  # type: ignore[arg-type]
        yield Chart(f"{name}_by_day", f"{name} of each day", "", name, curves, days=True)
        if "champion" in values:
            difference = values["candidate"] - values["champion"]
            yield _difference(name, gate.margin, figures["metrics"][name]["interval"], x, numbers(difference))


def _difference(
    name: str, margin: float | None, interval: Mapping[str, Any], x: tuple[float, ...], y: tuple[float, ...]
) -> Chart:
    ends = x[0], x[-1]
    curves = [Curve("one day", "candidate", x, y, "marked"), Curve("", "guide", ends, (0.0, 0.0))]
    if margin is not None:
        limit = -margin if higher_is_better(name) else margin
        curves.append(Curve(f"accepted loss: {margin:g}", "champion", ends, (limit, limit), "dashed"))
    lower, upper = interval["lower"], interval["upper"]
    bounded = lower is not None and upper is not None
    areas = (Area("bounds of all days", "candidate", ends, (lower, lower), (upper, upper)),) if bounded else ()
    sentence = f"at least {lower:+.4f} and at most {upper:+.4f}" if bounded else "without bounds"
    return Chart(
        f"{name}_difference",
        f"{name}: candidate - champion",
        "",
        "difference",
        tuple(curves),
        areas,
        days=True,
        note=f"Over all days the difference is {shown(interval['difference'], signed=True)}, {sentence}.",
    )


def _groups(limits: SlicePolicy, slices: list[Mapping[str, Any]]) -> Table:
    rows = []
    for figure in slices:
        value, champion = figure["value"], figure.get("champion")
        difference = None if value is None or champion is None else value - champion
        (column, group) = next(iter(figure["group"].items()))
        verdict = _group_verdict(limits, figure["rows"], value)
        figures = (f"{figure['rows']:,}", shown(value), shown(champion), shown(difference, signed=True))
        rows.append((column, group, *figures, verdict))
    rows.sort(key=lambda row: row[-1] != "failed")
    hidden = len(rows) - _MOST_GROUPS
    return Table(
        "",
        ("column", "group", "rows", "candidate", "champion", "difference", "verdict"),
        ("text", "text", "number", "number", "number", "number", "verdict"),
        tuple(rows[:_MOST_GROUPS]),
        note=f"{hidden} more groups are in the evidence." if hidden > 0 else "",
    )


def _group_verdict(limits: SlicePolicy, rows: int, value: float | None) -> str:
    if rows < limits.min_rows:
        return "too few rows"
    if value is None:
        return "inconclusive"
    return "failed" if limits.is_missed_by(value) else "passed"


def _limits(limits: SlicePolicy) -> str:
    sides = (("below", limits.min), ("above", limits.max))
    text = " or ".join(f"{side} {limit:g}" for side, limit in sides if limit is not None)
    return f"In each group of at least {limits.min_rows:,} rows {limits.metric} may not be {text}."


def _date(day: int) -> date:
    return datetime.fromtimestamp(int(day) * 86400, tz=UTC).date()


def _days(count: int) -> str:
    return f"{count} day" + ("" if count == 1 else "s")
