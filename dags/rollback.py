"""<model>.rollback: production back on the previous champion, or on a named version, in seconds."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, get_current_context

from taxiway.bootstrap import services
from taxiway.orchestration.model_dags import build_all, dag_arguments
from taxiway.orchestration.params import rollback_params
from taxiway.orchestration.tasks import stage
from taxiway.spec import ModelSpec


@stage()
def roll_back(model: str) -> dict[str, Any]:
    """Switch production, then the aliases, then mark the version that was taken out."""
    from taxiway.stages.rollback import Order

    s, spec, context = services(), services().spec(model), get_current_context()
    by = getattr(context["dag_run"], "triggering_user_name", None) or "unknown"
    order = Order(by, context["params"]["reason"], context["params"]["to"], context["dag_run"].run_id)
    rollbacks = s.rollbacks(spec)
    done = rollbacks.roll_back(order)
    rollbacks.settle()  # fails while MLflow does not answer: the next try records what was done
    return done.to_json()


@stage()
def keep_previous_warm(model: str) -> int | None:
    """Load the version before the one that serves now, so that the next rollback is as quick."""
    return services().rollbacks(services().spec(model)).keep_warm()


def build(spec: ModelSpec) -> DAG:
    """Wire the model's rollback."""
    summary = "Puts production back on the previous champion or on a named version."
    with DAG(**dag_arguments(spec, "rollback", summary), params=rollback_params(), max_active_runs=1) as dag:
        roll_back(spec.model) >> keep_previous_warm(spec.model)
    return dag


globals().update(build_all(build))
