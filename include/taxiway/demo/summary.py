"""How the demo ends: versions, verdicts with their figures, the year month by month, seconds, and addresses."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taxiway.bootstrap import Services
from taxiway.demo.journal import Journal
from taxiway.demo.months import MODEL, MONTHS, month_name, month_window
from taxiway.domain.metrics import compute
from taxiway.domain.rollout import Phase
from taxiway.spec import ModelSpec
from taxiway.stages.build import stored_environment
from taxiway.stages.candidates import REASON, fetch_verified, state_of
from taxiway.stages.predict import predict

_WATCHED = (Phase.SHADOW, Phase.CANARY, Phase.WAITING)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything can be looked at; `request` is a file with rows to ask production about."""

    airflow: str
    mlflow: str
    production: str
    report: str
    request: Path


def frozen_scores(services: Services, spec: ModelSpec, version: int) -> dict[str, float]:
    """Return the metric that the first version would have had in each month, had nobody replaced it."""
    import pandas as pd

    candidate = services.registry.candidate(spec.model, version)
    data, metric = services.data(spec), spec.monitoring.performance.metric
    months = {month: data.read(month_window(month)).dropna(subset=[spec.task.label]) for month in MONTHS}
    with tempfile.TemporaryDirectory(prefix="taxiway-frozen-") as directory:
        workspace, cache = Path(directory), services.settings.cache
        model = fetch_verified(candidate, workspace, registry=services.registry, verifier=services.verifier)
        environment = stored_environment(
            spec, candidate.run_id, registry=services.registry, cache=cache, workspace=workspace
        )
        scores = predict(spec, model, environment, pd.concat(months.values()), where=f"version {version}").values
    found, start = {}, 0
    for month, frame in months.items():
        part = scores[start : start + len(frame)]
        found[str(month)] = compute(spec.task.kind, metric, frame[spec.task.label].to_numpy(), part)
        start += len(frame)
    return found


def show(console: Console, services: Services, spec: ModelSpec, journal: Journal, addresses: Addresses) -> None:
    """Print the whole summary."""
    console.rule("The year of flight_delays")
    console.print(_versions(services, spec))
    console.print(_verdicts(journal))
    console.print(_rollouts(journal))
    console.print(_months(journal))
    console.print(_seconds(journal))
    console.print(_where(addresses))
    console.print("Ask production yourself:")
    console.print(_question(addresses), soft_wrap=True, highlight=False)


def _versions(services: Services, spec: ModelSpec) -> Table:
    table = _table("Versions", "version", "aliases", "state", "commit", "data until", "why")
    for candidate in sorted(services.registry.candidates(spec.model), key=lambda item: item.version):
        tags = candidate.tags
        table.add_row(
            str(candidate.version),
            ", ".join(sorted(candidate.aliases)) or "-",
            state_of(candidate).value,
            tags["taxiway.commit"][:10],
            tags["taxiway.trained_until"][:10],
            tags.get(REASON) or tags["taxiway.build_reason"],
        )
    return table


def _verdicts(journal: Journal) -> Table:
    table = _table("Verdicts", "build", "gate", "reasons")
    for chapter, result in journal.items():
        if "verdict" in result and "version" in result and chapter.startswith("ci_"):
            table.add_row(f"version {result['version']}", result["verdict"], "\n".join(result["reasons"]))
    table.add_row("the worse commit", "failed", "\n".join(journal["ci_worse"]["reasons"]))
    return table


def _rollouts(journal: Journal) -> Table:
    table = _table("Rollouts", "version", "phase", "traffic", "what it did there")
    for chapter, result in journal.items():
        history = result.get("rollout", []) if chapter.startswith("delivery_") else []
        version = f"version {result['version']}" if history else ""
        for entry, following in pairwise(history):
            if Phase(entry["phase"]) in _WATCHED:
                traffic = f"{entry['traffic']:g} %" if entry["traffic"] else "copies"
                table.add_row(version, entry["phase"], traffic, following["reason"])
        if history:
            callers = f"{result['requests']:,} requests meanwhile, all answered"
            table.add_row(version, Text(history[-1]["phase"], style="bold"), "", callers)
    return table


def _months(journal: Journal) -> Table:
    title = "Month by month"
    table = _table(
        title, "month", "flights", "served by", "PSI of predictions", "AUC, first model frozen", "AUC served"
    )
    for month in MONTHS:
        figures = journal[f"watch_{month}"]["figures"]
        served_by = ", ".join(f"version {version}" for version in journal[f"replay_{month}"]["served_by"])
        table.add_row(
            month_name(month),
            f"{figures['predictions']:,}",
            served_by,
            _shown(figures["prediction_psi"]),
            _shown(journal["frozen"][str(month)]),
            _shown(figures["value"]),
        )
    table.caption = "AUC served: of the labels known at the end of the month; frozen: of all labels."
    return table


def _seconds(journal: Journal) -> Table:
    table = _table("Seconds per stage", "run", "in all", "stages")
    for chapter, result in journal.items():
        seconds: dict[str, float] = result.get("seconds", {}) if isinstance(result, dict) else {}
        if seconds:
            stages = ", ".join(f"{task} {value:.0f}" for task, value in seconds.items() if value >= 1)
            table.add_row(chapter, f"{sum(seconds.values()):.0f}", stages or "-")
    return table


def _where(addresses: Addresses) -> Table:
    table = _table("Look at it", "what", "where")
    table.add_row("Airflow: runs, sign-offs, approvals", addresses.airflow)
    table.add_row("log in with", "`taxiway status --secrets` shows the users and their passwords")
    table.add_row("MLflow: versions, evidence", f"{addresses.mlflow}/#/models/{MODEL}")
    table.add_row("Evidently report of the last month", addresses.report)
    table.add_row("stop everything", "make down")
    return table


def _question(addresses: Addresses) -> str:
    """Return the command that asks production, on one line to be copied."""
    address = f"{addresses.production}/models/{MODEL}/invocations"
    return f"curl -s {address} -H 'Content-Type: application/json' -d @{addresses.request}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_lines=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}"
