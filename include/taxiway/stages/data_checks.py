"""Data checks: both windows against the spec's rules, before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from taxiway.domain.data_quality import Finding, judge, share
from taxiway.domain.data_rules import HOLDOUT, TRAINING, LabelFigures, Rules, WindowFigures
from taxiway.domain.evidence import Evidence, Json, Verdict
from taxiway.domain.statistics import finite
from taxiway.errors import DataError
from taxiway.ports import Clock, Registry
from taxiway.spec import ModelSpec
from taxiway.stages import data
from taxiway.stages.build import Build
from taxiway.stages.evidence_store import evidence_of, record

_LISTED = 20


def check_data(spec: ModelSpec, build: Build, *, registry: Registry, clock: Clock) -> Evidence:
    """Check both windows against the spec's rules before anything is trained; raises DataError with every reason.

    The evidence has the figures of both windows, whatever they are, and how many rules hold.
    """
    from taxiway.stages.data_figures import measure, plain

    snapshot = evidence_of(registry, build.run_id, "snapshot")
    rules = rules_of(spec)
    windows = [plain(data.stored_frame(registry, build.run_id, path)) for path in (data.TRAINING, data.HOLDOUT)]
    measured = measure(rules, *windows)
    findings = judge(rules, *measured)
    figures = {**snapshot.figures, "rules": _tally(findings)}
    for name, of in zip((TRAINING, HOLDOUT), measured, strict=True):
        described: Any = snapshot.figures[name]
        figures[name] = {**described, **_figures(rules, name, of)}
    reasons = tuple(finding.reason for finding in findings if finding.problem)
    verdict = Verdict.FAILED if reasons else Verdict.PASSED
    evidence = Evidence("check_data", verdict, clock.now(), reasons, snapshot.subject, figures)
    record(registry, build.run_id, evidence)
    if reasons:
        advice = "correct the data, or the rules under data.checks in the model spec."
        raise DataError("; ".join(reasons), where=f"{build.where}, {spec.data.uri}", next_step=advice)
    return evidence


def rules_of(spec: ModelSpec) -> Rules:
    """Return what the spec asks of the data."""
    return Rules(spec.task, spec.data.features, spec.data.checks)


def _figures(rules: Rules, name: str, figures: WindowFigures) -> dict[str, Json]:
    """Return what people want to know of a window, judged or not."""
    rows, columns = figures.rows, figures.columns
    document: dict[str, Json] = {
        "rows": rows,
        "kinds": {column: of.kind.value for column, of in columns.items()},
        "missing": {column: round(share(of.missing, rows), 6) for column, of in columns.items() if of.missing},
        "ranges": {
            column: [finite(of.lowest), finite(of.highest)]
            for column, of in columns.items()
            if of.lowest is not None and of.highest is not None
        },
        "label": _label(figures.label) if figures.label else None,
        "repeated_keys": figures.repeated_keys,
        "duplicates": figures.duplicates,
    }
    if name == HOLDOUT:
        document["keys_of_training"] = figures.known_keys
        document["new_categories"] = {
            column: dict(Counter(columns[column].new).most_common(_LISTED))
            for column in rules.checks.max_new_categories
            if column in columns
        }
    return document


def _label(figures: LabelFigures) -> dict[str, Json]:
    if figures.mean is not None:
        return {"mean": finite(figures.mean), "quantiles": dict(figures.quantiles)}
    return {"classes": dict(figures.classes), "strange": dict(Counter(figures.strange).most_common(_LISTED))}


def _tally(findings: Sequence[Finding]) -> dict[str, Json]:
    """Count for each rule how often it was judged and how often it was broken."""
    judged = Counter(finding.rule.value for finding in findings)
    broken = Counter(finding.rule.value for finding in findings if finding.problem)
    return {rule: {"judged": count, "broken": broken[rule]} for rule, count in judged.items()}
