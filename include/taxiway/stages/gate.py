"""Gate: the figures of the evaluation and of the served package against the policy of the model spec."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.domain.gates import GatePolicy, Measured, MetricPolicy, SliceFigure, SlicePolicy
from taxiway.domain.gates import judge as judge_measured
from taxiway.domain.statistics import Interval
from taxiway.errors import GateFailed
from taxiway.ports import Clock, Registry
from taxiway.spec import ModelSpec
from taxiway.spec_ci import Gates
from taxiway.stages.build import Build
from taxiway.stages.evidence_store import evidence_of, record
from taxiway.stages.package_checks import PACKAGE_CHECKS


def judge(spec: ModelSpec, build: Build, *, registry: Registry, clock: Clock) -> Evidence:
    """Judge the build and record why; raises GateFailed with every reason when it is not good enough.

    An inconclusive comparison goes on: the release manager decides, with the figures.
    """
    evaluation = evidence_of(registry, build.run_id, "evaluation")
    package = evidence_of(registry, build.run_id, PACKAGE_CHECKS)
    decision = judge_measured(policy(spec.gates), measured(evaluation.figures, package.figures))
    evidence = Evidence("gate", decision.verdict, clock.now(), decision.reasons, evaluation.subject, decision.figures())
    record(registry, build.run_id, evidence)
    for check in decision.checks:
        print(f"{check.verdict.value:>12}  {check.reason}")  # noqa: T201 (the log shows every check)
    if decision.verdict in (Verdict.FAILED, Verdict.ERROR):
        raise GateFailed(
            "; ".join(decision.reasons),
            where=build.where,
            next_step="production stays as it is; improve the model and push again.",
        )
    return evidence


def policy(gates: Gates) -> GatePolicy:
    """Return the domain's policy for the spec's gates."""
    slices = gates.slices
    return GatePolicy(
        metrics={name: MetricPolicy(gate.min, gate.max, gate.margin) for name, gate in gates.metrics.items()},
        confidence=gates.confidence,
        latency_p99_ms=gates.latency_p99_ms,
        size_mb=gates.size_mb,
        slices=SlicePolicy(slices.by, slices.metric, slices.min_rows, slices.min, slices.max) if slices else None,
    )


def measured(figures: Mapping[str, Any], package: Mapping[str, Any] | None = None) -> Measured:
    """Read the figures that the evaluation and, once they are there, the checks of the package recorded."""
    package = package or {}
    metrics = figures["metrics"]
    compared = {name: figure for name, figure in metrics.items() if "interval" in figure}
    return Measured(
        metrics={name: _number(figure["candidate"]) for name, figure in metrics.items()},
        champion={name: _number(figure["champion"]) for name, figure in compared.items()}
        if figures["champion"] is not None
        else None,
        differences={name: _interval(figure["interval"]) for name, figure in compared.items()},
        slices=[SliceFigure(row["group"], row["rows"], _number(row["value"])) for row in figures["slices"]],
        latency_p99_ms=package.get("latency_p99_ms"),
        size_mb=package.get("size_mb"),
        champion_problem=figures.get("champion_problem", ""),
    )


def _interval(figure: Mapping[str, Any]) -> Interval:
    """Read an interval; a bound that is null in JSON was infinite: nothing bounds the difference."""
    lower, upper, deviation = figure["lower"], figure["upper"], figure["standard_deviation"]
    return Interval(
        difference=_number(figure["difference"]),
        lower=-math.inf if lower is None else lower,
        upper=math.inf if upper is None else upper,
        standard_deviation=math.inf if deviation is None else deviation,
        blocks=figure["blocks"],
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value
