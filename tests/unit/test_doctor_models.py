"""Every way in which Airflow, MLflow and the gateways can disagree about a model is named, with what to do next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway.domain.values import CHAMPION, STAGING, TrafficPlan
from taxiway.errors import NotFoundError, OrchestratorUnavailable, RegistryUnavailable
from taxiway.ports import ServingTarget
from taxiway.spec_files import Problem, SpecSet
from taxiway.stages.candidates import APPROVAL, DIGEST, STATE, release_of
from taxiway.stages.deliver import Approved
from taxiway.supervisor.airflow_checks import KINDS, SHARED
from taxiway.supervisor.doctor import Sources, compare
from taxiway.supervisor.findings import Finding
from tests.fakes import FakeRegistry
from tests.unit.model_versions import MODEL, Field
from tests.unit.rolled_back import without_mlflow

DELIVERY = f"{MODEL}.delivery"


class FakeAirflow:
    """What the doctor asks of Airflow, as lists to change."""

    def __init__(self) -> None:
        self.is_up = True
        self.paused: set[str] = set()
        self.ids = {f"{MODEL}.{kind}" for kind in KINDS} | set(SHARED)
        self.errors: list[dict[str, Any]] = []
        self.deliveries: dict[str, str] = {}

    def dags(self) -> list[dict[str, Any]]:
        """Return the DAGs."""
        if not self.is_up:
            raise OrchestratorUnavailable("Airflow did not answer", next_step="look at it.")
        return [{"dag_id": name, "is_paused": name in self.paused} for name in self.ids]

    def import_errors(self) -> list[dict[str, Any]]:
        """Return the files that cannot be read."""
        return self.errors

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of the delivery."""
        assert dag_id == DELIVERY
        return [
            {"dag_run_id": name, "state": state, "conf": {"version": int(name.rpartition("-")[2])}}
            for name, state in self.deliveries.items()
        ]


class SilentRegistry(FakeRegistry):
    """A registry that is down."""

    def candidates(self, model: str) -> Any:
        """Answer nothing."""
        raise RegistryUnavailable("MLflow did not answer", next_step="look at it.")


class Installation(Field):
    """Three versions in agreement: 1 retired and previous, 2 champion, and 3 in staging with its delivery running."""

    def __post_init__(self) -> None:
        """Deliver two versions and bring a third into staging."""
        super().__post_init__()
        self.airflow = FakeAirflow()
        for name in ("first", "second"):
            self.deliver(name)
        third = self.delivery(self.candidate("third").version)
        third.admit(self.verifier)
        third.deploy_staging(self.staging, self.signer)
        self.airflow.deliveries = {"candidate-1": "success", "candidate-2": "success", "candidate-3": "running"}

    def target(self, environment: str) -> ServingTarget:
        """Return an environment."""
        targets = {"staging": self.staging, "production": self.production}
        if environment not in targets:
            raise NotFoundError(f"there is no environment {environment!r}")
        return targets[environment]

    def tag(self, version: int, name: str, value: str) -> None:
        """Change a tag, as anybody can who reaches MLflow."""
        self.registry.set_tags(MODEL, version, {name: value})

    def forget(self, version: int, name: str) -> None:
        """Delete a tag."""
        kept = self.registry.versions[MODEL][version - 1]
        tags = {key: value for key, value in kept.tags.items() if key != name}
        self.registry.versions[MODEL][version - 1] = replace(kept, tags=tags)

    def findings(self, specs: SpecSet | None = None) -> list[Finding]:
        """Compare everything."""
        sources = Sources(self.registry, self.target, self.airflow, self.orders, self.verifier)
        return compare(specs or SpecSet({MODEL: self.spec}, ()), sources)


@pytest.fixture
def installed(keys: tuple[Path, Path]) -> Installation:
    return Installation(keys)


def test_agreement_is_silence(installed: Installation) -> None:
    """A champion, a warm previous version and a delivery under way: nothing to say."""
    assert installed.findings() == []


def test_a_rollout_under_way_is_silence(installed: Installation) -> None:
    """While its delivery watches it, a version may get part of the traffic."""
    delivery = installed.delivery(3)
    delivery.approve(Approved("dana", installed.clock.now()), installed.signer)
    candidate = delivery.candidate()
    installed.production.deploy(release_of(installed.spec, candidate, candidate.tags[APPROVAL]))
    installed.production.set_traffic(MODEL, TrafficPlan(stable=2, challenger=3, challenger_percent=5))
    installed.tag(3, STATE, "rolling_out")

    assert installed.findings() == []


def test_a_new_model_is_silence(keys: tuple[Path, Path]) -> None:
    """Without any version there is nothing to disagree about."""
    field = Field(keys)

    sources = Sources(field.registry, lambda _: field.staging, FakeAirflow(), field.orders, field.verifier)
    assert compare(SpecSet({MODEL: field.spec}, ()), sources) == []


Break = Callable[[Installation], object]
DISAGREEMENTS: dict[str, tuple[Break, str, str]] = {
    "production serves another version": (
        lambda it: it.production.set_traffic(MODEL, TrafficPlan(stable=1)),
        "wrong",
        "production serves version 1, but the alias champion is version 2",
    ),
    "the champion alias was deleted": (
        lambda it: it.registry.delete_alias(MODEL, CHAMPION),
        "wrong",
        "production serves version 2, but the alias champion is nobody's",
    ),
    "the champion is being promoted": (
        lambda it: (it.production.set_traffic(MODEL, TrafficPlan(stable=1)), running(it, "candidate-1")),
        "weaker",
        "production serves version 1, but the alias champion is version 2: its delivery is just promoting it",
    ),
    "a challenger that nobody rolls out": (
        lambda it: it.production.set_traffic(MODEL, TrafficPlan(stable=2, challenger=1, challenger_percent=5)),
        "wrong",
        "version 1 gets part of the traffic in production, but its state is retired",
    ),
    "a shadow that nobody rolls out": (
        lambda it: it.production.set_traffic(MODEL, TrafficPlan(stable=2, shadow=1)),
        "wrong",
        "version 1 gets copies of the traffic in production, but its state is retired",
    ),
    "a rollout without its delivery": (
        lambda it: (it.tag(3, STATE, "rolling_out"), it.airflow.deliveries.clear()),
        "wrong",
        "version 3 is rolling out, but no delivery of it runs",
    ),
    "a lost rollout older than the champion": (
        lambda it: it.tag(1, STATE, "rolling_out"),
        "wrong",
        "version 1 is rolling out, but no delivery of it runs: newer versions wait",
    ),
    "two rollouts": (
        lambda it: (it.tag(1, STATE, "rolling_out"), it.tag(3, STATE, "rolling_out")),
        "wrong",
        "versions 1 and 3 are rolling out at once",
    ),
    "a previous version that is not warm": (
        lambda it: it.production.undeploy(MODEL, 1),
        "weaker",
        "version 1 is what a rollback would serve, but production has not loaded it",
    ),
    "an approval of something else": (
        lambda it: it.tag(2, APPROVAL, it.registry.candidate(MODEL, 1).tags[APPROVAL]),
        "wrong",
        "the approval of version 2 for production does not hold: the approval is for version 1",
    ),
    "an approval that nobody signed": (
        lambda it: it.tag(2, APPROVAL, "{}"),
        "wrong",
        "the approval of version 2 for production does not hold",
    ),
    "a rollback that MLflow does not know": (
        without_mlflow,
        "wrong",
        "the rollback to version 1 by dana (wrong answers) is not recorded in MLflow yet",
    ),
    "a superseded version that waits for an answer": (
        lambda it: it.tag(3, STATE, "superseded"),
        "weaker",
        "the delivery candidate-3 runs, but version 3 is superseded",
    ),
    "staging serves another version": (
        lambda it: it.registry.set_alias(MODEL, STAGING, 1),
        "wrong",
        "staging serves version 3, but the alias staging is version 1",
    ),
    "production without being champion": (
        lambda it: it.tag(1, STATE, "production"),
        "wrong",
        "version 1 is in state production, but the alias champion is version 2",
    ),
    "champion without being production": (
        lambda it: it.tag(2, STATE, "retired"),
        "wrong",
        "version 2 is champion, but its state is retired",
    ),
    "champion without approval": (
        lambda it: it.forget(2, APPROVAL),
        "wrong",
        "version 2 is champion, but was never approved for production",
    ),
    "a rollback would serve a bad version": (
        lambda it: it.tag(1, STATE, "rolled_back"),
        "wrong",
        "version 1 is what a rollback would serve, but it is rolled back",
    ),
    "a closed version answers": (
        lambda it: it.tag(2, STATE, "rejected"),
        "wrong",
        "version 2 in production answers requests, but it is rejected",
    ),
    "a closed challenger": (
        lambda it: it.tag(3, STATE, "rejected"),
        "weaker",
        "version 3 is challenger, but it is rejected",
    ),
    "a closed version in staging": (
        lambda it: it.tag(3, STATE, "superseded"),
        "weaker",
        "staging still serves version 3, which is superseded",
    ),
    "a delivery of a closed version": (
        lambda it: it.tag(3, STATE, "rejected"),
        "wrong",
        "the delivery candidate-3 runs, but version 3 is rejected",
    ),
    "a delivery of no version": (
        lambda it: running(it, "candidate-9"),
        "wrong",
        "the delivery candidate-9 runs, but MLflow has no version 9",
    ),
    "a version that waits for nobody": (
        lambda it: it.airflow.deliveries.clear(),
        "wrong",
        "version 3 is staging, but no delivery of it runs",
    ),
    "an unknown state": (
        lambda it: it.tag(1, STATE, "sleeping"),
        "wrong",
        "version 1 has the state 'sleeping', which Taxiway does not know",
    ),
    "a version made by hand": (lambda it: it.forget(1, DIGEST), "weaker", "version 1 has no digest"),
    "another digest": (
        lambda it: it.tag(2, DIGEST, "sha256:other"),
        "wrong",
        "but sha256:other is registered",
    ),
    "a version that MLflow lost": (
        lambda it: it.registry.versions[MODEL].pop(),
        "wrong",
        "version 3 in staging is served, but MLflow does not know it",
    ),
    "a missing DAG": (lambda it: it.airflow.ids.remove(DELIVERY), "wrong", f"DAGs are missing: {DELIVERY}"),
    "a paused DAG": (lambda it: it.airflow.paused.add(DELIVERY), "weaker", f"start nothing: {DELIVERY}"),
    "a DAG without spec": (lambda it: it.airflow.ids.add("old.ci"), "weaker", "DAGs have no model spec: old.ci"),
    "a DAG file that cannot be read": (
        lambda it: it.airflow.errors.append({"filename": "ci.py", "stack_trace": "Traceback\nKeyError: 'x'\n"}),
        "wrong",
        "ci.py cannot be read: KeyError: 'x'",
    ),
}


def running(installed: Installation, run_id: str) -> None:
    """Let a delivery run."""
    installed.airflow.deliveries[run_id] = "running"


def test_a_delivery_that_a_person_started_is_one_as_well(installed: Installation) -> None:
    """Whoever follows the advice to start a delivery is not told that none runs, nor while production is verified."""
    installed.airflow.deliveries = {"manual__2026-01-01T00:00:00-3": "running"}
    assert [] == installed.findings()

    installed.tag(3, STATE, "rolling_out")
    installed.registry.set_alias(MODEL, CHAMPION, 3)
    installed.tag(2, STATE, "retired")

    assert not [finding.what for finding in installed.findings() if "rolling out" in finding.what]


@pytest.mark.parametrize("case", DISAGREEMENTS)
def test_each_disagreement_is_named(installed: Installation, case: str) -> None:
    """What was broken is among the findings, in words that name version and place, with what to do next."""
    disagree, severity, says = DISAGREEMENTS[case]
    disagree(installed)

    found = [finding for finding in installed.findings() if says in finding.what]

    assert [(finding.severity, bool(finding.next_step)) for finding in found] == [(severity, True)]


def test_a_failed_scorer_is_named(installed: Installation) -> None:
    """What a gateway says about a version that does not run is passed on; with traffic it is wrong."""
    installed.production.failed[2] = "the model's signature does not hold"

    (finding,) = installed.findings()

    assert finding.severity == "wrong"
    assert "version 2 in production does not run: the model's signature does not hold" in finding.what


def test_tested_but_not_served(installed: Installation) -> None:
    """A version that testers should see, in a staging that serves nothing, is wrong."""
    empty = Field(installed.keys)
    installed.staging = empty.staging

    assert ["staging does not serve it" in finding.what for finding in installed.findings()] == [True]


@pytest.mark.parametrize("silent", ["Airflow", "MLflow", "environment staging", "environment production"])
def test_who_does_not_answer_is_named_once(installed: Installation, silent: str) -> None:
    """Whoever is down is one finding; what the others say is still compared."""
    installed.airflow.paused.add(f"{MODEL}.ci")
    installed.airflow.is_up = silent != "Airflow"
    installed.staging.unavailable = silent == "environment staging"
    installed.production.unavailable = silent == "environment production"
    registry: FakeRegistry = installed.registry
    installed.registry = SilentRegistry() if silent == "MLflow" else registry
    second = installed.spec.model_copy(update={"model": "other"})

    found = installed.findings(SpecSet({MODEL: installed.spec, "other": second}, ()))

    assert [finding.about for finding in found if "not answer" in finding.what] == [silent]
    assert silent == "Airflow" or any("paused" in finding.what for finding in found)


def test_a_broken_spec_and_an_unknown_environment(installed: Installation) -> None:
    """Problems of specs are shown as `validate` shows them, and an environment that nobody declared is named."""
    environments = installed.spec.environments.model_copy(update={"production": "prod"})
    spec = installed.spec.model_copy(update={"environments": environments})
    problem = Problem(Path("typo.yaml"), "uat.quorom", "unknown key")

    found = installed.findings(SpecSet({MODEL: spec}, (problem,)))

    assert [(finding.about, finding.severity) for finding in found] == [
        ("environment prod", "wrong"),
        ("specs", "wrong"),
    ]
    assert "uat.quorom" in found[1].what
