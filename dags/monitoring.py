"""<model>.monitoring: what production did in a window of data time. One Airflow DAG per model spec.

collect (answers, late labels, drift) -> Evidently report | assess -> start retraining when it pays
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import DAG, CronDataIntervalTimetable, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from taxiway.bootstrap import services
from taxiway.domain.values import CHAMPION
from taxiway.orchestration.model_dags import build_all, dag_arguments
from taxiway.orchestration.params import monitoring_params
from taxiway.orchestration.starts import start_run
from taxiway.orchestration.tasks import RETRIES, stage
from taxiway.spec import ModelSpec

Json = dict[str, Any]


@stage()
def collect(model: str) -> Json:
    """Join the prediction log with late labels and measure quality, drift and performance."""
    from taxiway.stages.monitor import collect as measure
    from taxiway.stages.monitor import resolve_window

    s, spec = services(), services().spec(model)
    if s.registry.by_alias(model, CHAMPION) is None:
        raise AirflowSkipException(f"{model} has no champion yet: there is nothing to watch")
    data = s.data(spec)
    window = resolve_window(spec, data, *_bounds(data))
    predictions = s.predictions(spec.environments.production)
    collected = measure(spec, window, as_of=window.end, registry=s.registry, predictions=predictions, data=data)
    if collected is None:
        raise AirflowSkipException(f"{model} has no champion yet: there is nothing to watch")
    return collected.to_json()


@stage()
def report(model: str, collected: Json) -> str:
    """Make the Evidently report that people read."""
    from taxiway.stages.monitor import Collected
    from taxiway.stages.monitor import report as write

    s = services()
    return write(s.spec(model), Collected(**collected), registry=s.registry, reports=s.reports)


@stage()
def assess(model: str, collected: Json) -> Json:
    """Judge the figures, keep the evidence, tell the owners."""
    from taxiway.stages.monitor import Collected, publish

    s, spec = services(), services().spec(model)
    result = publish(spec, Collected(**collected), registry=s.registry, notifier=s.notifier(spec), clock=s.clock)
    return result.to_json()


@task.short_circuit(**RETRIES)
def ask_retraining(model: str, assessed: Json) -> Json | None:
    """Return what the retraining is started with, or end here when no alarm is open."""
    from taxiway.stages.retrain import open_request

    s = services()
    return open_request(s.spec(model), data_end=datetime.fromisoformat(assessed["end"]), registry=s.registry)


def _bounds(data: Any) -> tuple[datetime | None, datetime | None]:
    """Return the window's bounds: the params', else those of the schedule's interval, never beyond the data."""
    from taxiway.stages.data import parse_time

    context = get_current_context()
    start, end = context["params"]["data_start"], context["params"]["data_end"]
    if end is None and (interval_end := context.get("data_interval_end")) is not None:
        return (parse_time(start) if start else None), min(interval_end, data.newest())
    return (parse_time(start) if start else None), (parse_time(end) if end else None)


def build(spec: ModelSpec) -> DAG:
    """Wire the model's monitoring; it runs per data interval, so that `airflow backfill` works on it."""
    summary = "Watches production: data quality, drift and performance of a window of data time."
    arguments = dag_arguments(spec, "monitoring", summary)
    arguments["schedule"] = CronDataIntervalTimetable(spec.monitoring.schedule, timezone="UTC")
    with DAG(**arguments, params=monitoring_params(), max_active_runs=2) as dag:
        collected = collect(spec.model)
        report(spec.model, collected)
        asked = ask_retraining(spec.model, assess(spec.model, collected))
        asked >> start_run("start_retraining", dag_id=f"{spec.model}.retraining", source="ask_retraining")
    return dag


globals().update(build_all(build))
