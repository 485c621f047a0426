"""<model>.ci: from a commit to a registered, signed candidate. One Airflow DAG per model spec.

checkout -> build -> unit tests | static checks | data snapshot -> data checks
         -> train -> integration tests | evaluate -> gate -> register -> start the delivery
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, get_current_context, task

from taxiway.bootstrap import Services, services
from taxiway.orchestration.builds import build_stage, opened, repository_tests
from taxiway.orchestration.model_dags import build_all, dag_arguments
from taxiway.orchestration.params import ci_params
from taxiway.orchestration.starts import start_run
from taxiway.orchestration.tasks import stage
from taxiway.spec import ModelSpec

if TYPE_CHECKING:
    from taxiway.stages.build import Build

Json = dict[str, Any]


@stage(task.short_circuit)
def checkout(model: str) -> Json | None:
    """Resolve the commit, check the repository's contract, open the build; ends the run when the build is known."""
    from taxiway.stages.build import Request, open_build
    from taxiway.stages.known_builds import known_candidate

    s, spec, context = services(), services().spec(model), get_current_context()
    run, params = context["dag_run"], context["params"]
    requested_by = run.conf.get("requested_by") or getattr(run, "triggering_user_name", None)
    request = Request(run.run_id, params["ref"], params["data_end"], params["reason"], requested_by)
    build = open_build(spec, request, git=s.git, registry=s.registry, cache=s.settings.cache, clock=s.clock)
    known = known_candidate(spec, build, data=s.data(spec), registry=s.registry, clock=s.clock)
    return None if known else build.to_json()


@build_stage
def build_environment(s: Services, spec: ModelSpec, build: Build) -> Json:
    """Make the environment of the model's lock."""
    from taxiway.stages.build import build_environment as make

    return make(spec, build, git=s.git, registry=s.registry, cache=s.settings.cache, clock=s.clock).to_json()


@build_stage
def static_checks(s: Services, spec: ModelSpec, build: Build) -> Json:
    """Compile the code and import the train function."""
    return repository_tests(s, spec, build).static_checks().to_json()


@build_stage
def unit_tests(s: Services, spec: ModelSpec, build: Build) -> Json:
    """Run the model repository's unit tests."""
    return repository_tests(s, spec, build).unit_tests().to_json()


@build_stage
def integration_tests(s: Services, spec: ModelSpec, build: Build) -> Json:
    """Run the model repository's integration tests against the packaged model, served."""
    return repository_tests(s, spec, build).integration_tests().to_json()


@build_stage
def snapshot_data(s: Services, spec: ModelSpec, build: Build) -> Json:
    """Store the training and holdout windows with the build."""
    from taxiway.stages.data import snapshot_data as snapshot

    return snapshot(spec, build, data=s.data(spec), registry=s.registry, clock=s.clock).to_json()


@build_stage
def check_data(s: Services, spec: ModelSpec, build: Build) -> Json:
    """Check both windows against the rules of the spec."""
    from taxiway.stages.data import check_data as check

    return check(spec, build, registry=s.registry, clock=s.clock).to_json()


@build_stage
def train(s: Services, spec: ModelSpec, build: Build) -> Json:
    """Train on the training window and store the model."""
    from taxiway.stages.train import train as fit

    return fit(spec, build, git=s.git, registry=s.registry, cache=s.settings.cache, clock=s.clock).to_json()


@build_stage
def evaluate(s: Services, spec: ModelSpec, build: Build) -> Json:
    """Measure candidate and champion on the same holdout."""
    from taxiway.stages.evaluate import Evaluation

    return Evaluation(spec, build, s.registry, s.verifier, s.settings.cache, s.clock).run().to_json()


@build_stage
def gate(s: Services, spec: ModelSpec, build: Build) -> Json:
    """Judge the figures: a failed gate ends the run."""
    from taxiway.stages.gate import judge

    return judge(spec, build, registry=s.registry, clock=s.clock).to_json()


@build_stage
def register(s: Services, spec: ModelSpec, build: Build) -> Json:
    """Sign the model and register it as a candidate; returns what the delivery is started with."""
    from taxiway.stages.register import register as sign

    candidate = sign(spec, build, registry=s.registry, signer=s.signer)
    return {"run_id": f"candidate-{candidate.version}", "conf": {"version": candidate.version}}


@stage(trigger_rule="all_done")
def close_build(model: str) -> None:
    """Close the build's run; on failure tell the owners."""
    from taxiway.stages.register import close_build as close

    document = get_current_context()["ti"].xcom_pull(task_ids="checkout")
    if document:
        s, spec, of = opened(model, document)
        close(of, registry=s.registry, notifier=s.notifier(spec))


def build(spec: ModelSpec) -> DAG:
    """Wire the stages of the model's continuous integration."""
    model = spec.model
    summary = "Builds, tests, trains and judges a commit; a candidate that passes starts its delivery."
    with DAG(**dag_arguments(spec, "ci", summary), params=ci_params(), max_active_runs=4) as dag:
        built = checkout(model)
        environment = build_environment(model, built)
        tested = [unit_tests(model, built), static_checks(model, built)]
        snapshot, checked = snapshot_data(model, built), check_data(model, built)
        trained = train(model, built)
        integrated, evaluated = integration_tests(model, built), evaluate(model, built)
        judged = gate(model, built)
        registered = register(model, built)
        delivery = start_run("start_delivery", dag_id=f"{model}.delivery", source="register")
        built >> environment >> tested
        built >> snapshot >> checked
        [*tested, checked] >> trained >> [integrated, evaluated] >> judged >> registered >> delivery
        registered >> close_build(model).as_teardown()
    return dag


globals().update(build_all(build))
