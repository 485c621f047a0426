"""<model>.ci: from a commit to a registered, signed candidate. One Airflow DAG per model spec.

checkout -> build -> unit tests | static checks | data snapshot -> data checks
         -> train -> integration tests | evaluate -> gate -> register -> start the delivery
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, get_current_context, task

from taxiway.bootstrap import services
from taxiway.orchestration.builds import opened, repository_tests
from taxiway.orchestration.model_dags import build_all, dag_arguments
from taxiway.orchestration.params import ci_params
from taxiway.orchestration.starts import start_run
from taxiway.orchestration.tasks import stage
from taxiway.spec import ModelSpec

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
    build = open_build(spec, request, git=s.git, registry=s.registry, cache=s.settings.cache)
    known = known_candidate(spec, build, data=s.data(spec), registry=s.registry, clock=s.clock)
    return None if known else build.to_json()


@stage()
def build_environment(model: str, build: Json) -> Json:
    """Make the environment of the model's lock."""
    from taxiway.stages.build import build_environment as make

    s, spec, of = opened(model, build)
    return make(spec, of, git=s.git, registry=s.registry, cache=s.settings.cache, clock=s.clock).to_json()


@stage()
def static_checks(model: str, build: Json) -> Json:
    """Compile the code and import the train function."""
    return repository_tests(model, build).static_checks().to_json()


@stage()
def unit_tests(model: str, build: Json) -> Json:
    """Run the model repository's unit tests."""
    return repository_tests(model, build).unit_tests().to_json()


@stage()
def integration_tests(model: str, build: Json) -> Json:
    """Run the model repository's integration tests against the packaged model, served."""
    return repository_tests(model, build).integration_tests().to_json()


@stage()
def snapshot_data(model: str, build: Json) -> Json:
    """Store the training and holdout windows with the build."""
    from taxiway.stages.data import snapshot_data as snapshot

    s, spec, of = opened(model, build)
    return snapshot(spec, of, data=s.data(spec), registry=s.registry, clock=s.clock).to_json()


@stage()
def check_data(model: str, build: Json) -> Json:
    """Check both windows against the rules of the spec."""
    from taxiway.stages.data_checks import check_data as check

    s, spec, of = opened(model, build)
    return check(spec, of, registry=s.registry, clock=s.clock).to_json()


@stage()
def train(model: str, build: Json) -> Json:
    """Train on the training window and store the model."""
    from taxiway.stages.train import train as fit

    s, spec, of = opened(model, build)
    return fit(spec, of, git=s.git, registry=s.registry, cache=s.settings.cache, clock=s.clock).to_json()


@stage()
def evaluate(model: str, build: Json) -> Json:
    """Measure candidate and champion on the same holdout."""
    from taxiway.stages.evaluate import Evaluation

    s, spec, of = opened(model, build)
    return Evaluation(spec, of, s.registry, s.verifier, s.settings.cache, s.clock).run().to_json()


@stage()
def gate(model: str, build: Json) -> Json:
    """Judge the figures: a failed gate ends the run."""
    from taxiway.stages.gate import judge

    s, spec, of = opened(model, build)
    return judge(spec, of, registry=s.registry, clock=s.clock).to_json()


@stage()
def register(model: str, build: Json) -> Json:
    """Sign the model and register it as a candidate; returns what the delivery is started with."""
    from taxiway.stages.register import register as sign

    s, spec, of = opened(model, build)
    candidate = sign(spec, of, registry=s.registry, signer=s.signer)
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
        opened = checkout(model)
        environment = build_environment(model, opened)
        tested = [unit_tests(model, opened), static_checks(model, opened)]
        snapshot, checked = snapshot_data(model, opened), check_data(model, opened)
        trained = train(model, opened)
        integrated, evaluated = integration_tests(model, opened), evaluate(model, opened)
        judged = gate(model, opened)
        registered = register(model, opened)
        delivery = start_run("start_delivery", dag_id=f"{model}.delivery", source="register")
        opened >> environment >> tested
        opened >> snapshot >> checked
        [*tested, checked] >> trained >> [integrated, evaluated] >> judged >> registered >> delivery
        registered >> close_build(model).as_teardown()
    return dag


globals().update(build_all(build))
