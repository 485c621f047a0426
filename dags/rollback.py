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
    from taxiway.stages.rollback import Order, rollback

    s, spec, context = services(), services().spec(model), get_current_context()
    by = getattr(context["dag_run"], "triggering_user_name", None) or "unknown"
    order = Order(by, context["params"]["reason"] or "no reason given", context["params"]["to"])
    production = s.target(spec.environments.production)
    return rollback(spec, order, registry=s.registry, production=production, clock=s.clock, notifier=s.notifier(spec))


def build(spec: ModelSpec) -> DAG:
    """Wire the model's rollback."""
    summary = "Puts production back on the previous champion or on a named version."
    with DAG(**dag_arguments(spec, "rollback", summary), params=rollback_params(), max_active_runs=1) as dag:
        roll_back(spec.model)
    return dag


globals().update(build_all(build))
