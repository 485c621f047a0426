"""What runs now, asked live: every program, and per model what the registry, the gateways and Airflow say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from taxiway.adapters.airflow_api import AirflowApi
from taxiway.bootstrap import Services
from taxiway.domain.values import CHALLENGER, CHAMPION, PREVIOUS, STAGING, TrafficPlan
from taxiway.errors import TaxiwayError
from taxiway.spec import ModelSpec
from taxiway.stages.candidates import state_of
from taxiway.stages.sandbox import weaknesses
from taxiway.supervisor.clients import open_airflow, open_services
from taxiway.supervisor.credentials import Credentials, read_credentials
from taxiway.supervisor.installation import Installation
from taxiway.supervisor.probing import Prober
from taxiway.supervisor.programs import Program, programs
from taxiway.supervisor.state import ProgramState, is_supervised, read_state

ALIASES = (CHAMPION, PREVIOUS, CHALLENGER, STAGING)
_NEWEST = 5


@dataclass(frozen=True, slots=True)
class Run:
    """The last run of one of the model's DAGs."""

    dag: str
    run_id: str
    state: str
    started_at: str | None


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model: versions by alias, states of the newest versions, what environments serve, last runs.

    What could not be asked is in `problems`.
    """

    aliases: Mapping[str, int] = field(default_factory=dict)
    states: Mapping[int, str] = field(default_factory=dict)
    serving: Mapping[str, str] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """The whole installation; `weaknesses` says what its sandbox does not hold against hostile model code."""

    supervised: bool
    programs: Mapping[str, ProgramState]
    urls: Mapping[str, str]
    models: Mapping[str, ModelStatus]
    weaknesses: tuple[str, ...] = ()

    @property
    def is_up(self) -> bool:
        """Tell whether a supervisor runs and every program answers."""
        return self.supervised and all(program.phase in ("ready", "done") for program in self.programs.values())


def collect(installation: Installation, inherited: Mapping[str, str]) -> Status:
    """Ask everything; raises SettingsError when there is no installation, SpecError without specs."""
    credentials = read_credentials(installation.home)
    services = open_services(installation, inherited)
    supervised = is_supervised(installation.run)
    found = program_states(installation, credentials, inherited) if supervised else {}
    airflow = open_airflow(installation)
    return Status(
        supervised,
        programs=found,
        urls={name: installation.url(name) for name in ("airflow", "mlflow", "staging", "production")},
        models={
            name: _model(spec, services, airflow) if supervised else ModelStatus()
            for name, spec in services.specs().specs.items()
        },
        weaknesses=weaknesses(),
    )


def program_states(
    installation: Installation, credentials: Credentials, inherited: Mapping[str, str]
) -> dict[str, ProgramState]:
    """Ask every program now; what does not answer is `down`."""
    return asyncio.run(_programs(installation, credentials, inherited))


async def _programs(
    installation: Installation, credentials: Credentials, inherited: Mapping[str, str]
) -> dict[str, ProgramState]:
    """Return what the supervisor says about each program, with `down` for what does not answer now."""
    state = read_state(installation.run)
    said = state.programs if state is not None else {}
    prober = Prober()
    try:
        wanted = [program for program in programs(installation, credentials, inherited) if program.probe]
        return dict(await asyncio.gather(*(_program(program, said, prober) for program in wanted)))
    finally:
        await prober.close()


async def _program(program: Program, said: Mapping[str, ProgramState], prober: Prober) -> tuple[str, ProgramState]:
    state = said.get(program.name, ProgramState("down"))
    if state.phase == "ready" and program.probe and not await prober.is_ready(program.probe):
        state = replace(state, phase="down", detail="does not answer")
    return program.name, state


def _model(spec: ModelSpec, services: Services, airflow: AirflowApi) -> ModelStatus:
    questions: dict[str, Callable[[], Any]] = {
        "aliases": lambda: _aliases(spec.model, services),
        "states": lambda: _states(spec.model, services),
        "serving": lambda: _serving(spec, services),
        "runs": lambda: _runs(spec.model, airflow),
    }
    answers: dict[str, Any] = {}
    problems: dict[str, None] = {}
    for name, ask in questions.items():
        try:
            answers[name] = ask()
        except TaxiwayError as error:
            problems[str(error)] = None
    return ModelStatus(**answers, problems=tuple(problems))


def _aliases(model: str, services: Services) -> dict[str, int]:
    found = {alias: services.registry.by_alias(model, alias) for alias in ALIASES}
    return {alias: candidate.version for alias, candidate in found.items() if candidate is not None}


def _states(model: str, services: Services) -> dict[int, str]:
    newest = services.registry.candidates(model)[:_NEWEST]
    return {candidate.version: str(state_of(candidate)) for candidate in newest}


def _serving(spec: ModelSpec, services: Services) -> dict[str, str]:
    serving = {}
    for environment in (spec.environments.staging, spec.environments.production):
        status = services.target(environment).status(spec.model)
        failed = [f"version {item.version} is {item.state}" for item in status.versions if item.state != "ready"]
        serving[environment] = "; ".join([describe(status.plan), *failed])
    return serving


def describe(plan: TrafficPlan | None) -> str:
    """Say who answers, such as `version 3, version 4 for 5 % of the requests, version 5 as shadow`."""
    if plan is None:
        return "nothing"
    parts = [f"version {plan.stable}"]
    if plan.challenger is not None:
        parts.append(f"version {plan.challenger} for {plan.challenger_percent:g} % of the requests")
    if plan.shadow is not None:
        parts.append(f"version {plan.shadow} as shadow")
    return ", ".join(parts)


def _runs(model: str, airflow: AirflowApi) -> tuple[Run, ...]:
    """Return the newest run of each of the model's DAGs that ever ran."""
    dags = sorted(dag["dag_id"] for dag in airflow.dags() if dag["dag_id"].startswith(f"{model}."))
    found = (airflow.get(f"/api/v2/dags/{dag}/dagRuns", limit=1, order_by="-run_after")["dag_runs"] for dag in dags)
    return tuple(
        Run(run["dag_id"], run["dag_run_id"], run["state"], run["start_date"]) for runs in found for run in runs
    )
