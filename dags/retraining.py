"""<model>.retraining: guards (an alarm, cool-down, enough new labels, weekly budget), then <model>.ci on fresh data."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from taxiway.bootstrap import services
from taxiway.domain.values import CHAMPION
from taxiway.orchestration.model_dags import build_all, dag_arguments
from taxiway.orchestration.params import retraining_params
from taxiway.orchestration.starts import start_run
from taxiway.orchestration.tasks import RETRIES, stage
from taxiway.spec import ModelSpec

Json = dict[str, Any]


@stage()
def decide(model: str) -> Json:
    """Ask the guards; returns the decision with its reasons, and the CI run that it starts."""
    from taxiway.stages.data import parse_time
    from taxiway.stages.retrain import decide_retraining

    s, spec, context = services(), services().spec(model), get_current_context()
    if s.registry.by_alias(model, CHAMPION) is None:
        raise AirflowSkipException(f"{model} has no champion yet: its first model comes from a commit")
    params, data = context["params"], s.data(spec)
    decision = decide_retraining(
        spec,
        data_end=parse_time(params["data_end"]) if params["data_end"] else data.newest(),
        registry=s.registry,
        data=data,
        reason="schedule" if str(context["dag_run"].run_type) == "scheduled" else params["reason"],
    )
    print("; ".join(decision["reasons"]))  # noqa: T201 (the task's log says why)
    return decision


@task.short_circuit(**RETRIES)
def go(decision: Json) -> bool:
    """End here when a guard objects."""
    return bool(decision["go"])


def build(spec: ModelSpec) -> DAG:
    """Wire the model's retraining."""
    summary = "Trains on fresh data when somebody asks for it and the guards agree."
    arguments = dag_arguments(spec, "retraining", summary)
    arguments["schedule"] = spec.retraining.schedule
    with DAG(**arguments, params=retraining_params(), max_active_runs=1) as dag:
        decision = decide(spec.model)
        go(decision) >> start_run("start_ci", dag_id=f"{spec.model}.ci", source="decide")
    return dag


globals().update(build_all(build))
