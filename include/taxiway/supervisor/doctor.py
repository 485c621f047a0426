"""`taxiway doctor`: what is wrong or weaker in this installation, and what to do next; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from taxiway.domain.release import check_approval
from taxiway.domain.values import CHAMPION, PREVIOUS, Candidate, TargetStatus
from taxiway.errors import TaxiwayError
from taxiway.ports import Registry, ServingTarget, Verifier
from taxiway.spec import ModelSpec
from taxiway.spec_files import SpecSet
from taxiway.stages.candidates import APPROVAL, DIGEST, LOCK, release_of
from taxiway.stages.orders import Orders
from taxiway.supervisor.airflow_checks import dag_findings
from taxiway.supervisor.airflow_environment import passwords_file
from taxiway.supervisor.clients import open_airflow, open_services
from taxiway.supervisor.credentials import ADMIN, read_credentials
from taxiway.supervisor.findings import Finding, wrong
from taxiway.supervisor.installation import Installation
from taxiway.supervisor.machine_checks import key_findings, machine_findings, secret_findings
from taxiway.supervisor.model_checks import ModelFacts, disagreements
from taxiway.supervisor.state import is_supervised
from taxiway.supervisor.status import program_states

_ACTIVE = ("queued", "running")
Answer = TypeVar("Answer")


class Airflow(Protocol):
    """What the doctor asks of Airflow (`adapters.airflow_api`)."""

    def dags(self) -> list[dict[str, Any]]: ...
    def import_errors(self) -> list[dict[str, Any]]: ...
    def runs(self, dag_id: str) -> list[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that was found, in the order of looking."""

    findings: tuple[Finding, ...]

    @property
    def is_well(self) -> bool:
        """Tell whether nothing is wrong; what is only weaker does not count."""
        return all(finding.severity != "wrong" for finding in self.findings)


def examine(installation: Installation, inherited: Mapping[str, str]) -> Diagnosis:
    """Look at machine, secrets, programs and models; raises SettingsError when there is no installation."""
    credentials = read_credentials(installation.home)
    services = open_services(installation, inherited)
    secrets = (installation.home / "secrets.json", passwords_file(installation), services.settings.signing_key)
    found = [
        *machine_findings(installation.home),
        *secret_findings(*secrets),
        *key_findings(services.signer, services.verifier),
    ]
    if not is_supervised(installation.run):
        advice = "run `taxiway up`, then this again: what serves and what is registered was not compared."
        return Diagnosis((*found, wrong("programs", "Taxiway is down", advice)))
    for name, program in program_states(installation, credentials, inherited).items():
        if program.phase not in ("ready", "done"):
            what = f"{name} is {program.phase} {program.detail}".strip()
            found.append(wrong("programs", what, f"see {installation.log(name)}; the supervisor starts it again."))
    airflow = open_airflow(installation, ADMIN)
    sources = Sources(services.registry, services.target, airflow, services.orders, services.verifier)
    return Diagnosis((*found, *compare(services.specs(), sources)))


@dataclass(frozen=True, slots=True)
class Sources:
    """Whom the doctor asks."""

    registry: Registry
    target: Callable[[str], ServingTarget]
    airflow: Airflow
    orders: Orders
    verifier: Verifier


def compare(specs: SpecSet, sources: Sources) -> list[Finding]:
    """Compare specs, Airflow, MLflow and the environments; who does not answer is named once, the rest is compared."""
    asked = _Questions()
    found = [wrong("specs", str(problem), "correct it; `taxiway validate` checks it.") for problem in specs.problems]
    dags = asked.ask("Airflow", sources.airflow.dags)
    import_errors = asked.ask("Airflow", sources.airflow.import_errors)
    if dags is not None and import_errors is not None:
        found += dag_findings(dags, import_errors, list(specs.specs))
    delivering = {str(dag["dag_id"]) for dag in dags or ()}
    for spec in specs.specs.values():
        found += disagreements(_facts(spec, sources, asked, has_dag=f"{spec.model}.delivery" in delivering))
    return [*asked.silent.values(), *found]


class _Questions:
    """Asks, and remembers in `silent` who did not answer, so that each is named once and not asked again."""

    def __init__(self) -> None:
        self.silent: dict[str, Finding] = {}

    def ask(self, whom: str, question: Callable[[], Answer]) -> Answer | None:
        """Return the answer, or None when there is none."""
        if whom in self.silent:
            return None
        try:
            return question()
        except TaxiwayError as error:
            what = f"{error.what}; what it knows was not compared"
            self.silent[whom] = wrong(whom, what, error.next_step)
            return None

    def environment(self, name: str, model: str, target: Callable[[str], ServingTarget]) -> TargetStatus | None:
        """Return what an environment serves of the model; it may be unknown, or not answer."""
        return self.ask(f"environment {name}", lambda: target(name).status(model))


def _facts(spec: ModelSpec, sources: Sources, asked: _Questions, *, has_dag: bool) -> ModelFacts:
    environments = {name: asked.environment(name, spec.model, sources.target) for name in _environments(spec)}
    versions = asked.ask("MLflow", partial(_versions, sources.registry, spec.model))
    production = environments[spec.environments.production]
    return ModelFacts(
        model=spec.model,
        versions=versions,
        staging=environments[spec.environments.staging],
        production=production,
        deliveries=asked.ask("Airflow", partial(_deliveries, sources.airflow, spec.model)) if has_dag else None,
        orders=tuple(asked.ask("orders", partial(sources.orders.waiting, spec.model)) or ()),
        unapproved=_unapproved(spec, versions or (), sources.verifier) if production else {},
    )


def _unapproved(spec: ModelSpec, versions: Sequence[Candidate], verifier: Verifier) -> dict[int, str]:
    """Return the versions that serve, or are next to, with an approval that does not hold, and why."""
    found = {}
    for version in versions:
        if version.aliases & {CHAMPION, PREVIOUS} and {APPROVAL, DIGEST, LOCK} <= set(version.tags):
            try:
                statement = verifier.verify_statement(version.tags[APPROVAL])
                check_approval(statement, release_of(spec, version, ""), spec.environments.production)
            except TaxiwayError as error:
                found[version.version] = error.what
    return found


def _environments(spec: ModelSpec) -> set[str]:
    return {spec.environments.staging, spec.environments.production}


def _versions(registry: Registry, model: str) -> tuple[Candidate, ...]:
    return tuple(registry.candidates(model))


def _deliveries(airflow: Airflow, model: str) -> dict[str, int]:
    """Return the version of each delivery that runs, whoever started it and whatever its run is called."""
    running = (run for run in airflow.runs(f"{model}.delivery") if run["state"] in _ACTIVE)
    return {str(run["dag_run_id"]): int(run["conf"]["version"]) for run in running}
