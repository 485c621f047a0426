"""Starts other DAGs by name with an idempotent run id, so that a repeat starts nothing twice."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator


def start_run(task_id: str, *, dag_id: str, run_id: Any, conf: Any, **arguments: Any) -> TriggerDagRunOperator:
    """Return the task that starts the run; it is skipped when the run exists already."""
    return TriggerDagRunOperator(
        task_id=task_id,
        trigger_dag_id=dag_id,
        trigger_run_id=run_id,
        conf=conf,
        logical_date=None,
        skip_when_already_exists=True,
        retries=3,
        **arguments,
    )
