"""Starts other DAGs by name with an idempotent run id, so that a repeat starts nothing twice."""

from __future__ import annotations

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

from taxiway.orchestration.tasks import RETRIES


def start_run(task_id: str, *, dag_id: str, source: str) -> TriggerDagRunOperator:
    """Return the task that starts the run which the task `source` returned as {run_id, conf}.

    It is skipped when the run exists already.
    """
    started = f"ti.xcom_pull(task_ids='{source}')"
    return TriggerDagRunOperator(
        task_id=task_id,
        trigger_dag_id=dag_id,
        trigger_run_id=f"{{{{ {started}['run_id'] }}}}",
        conf=f"{{{{ {started}['conf'] | tojson }}}}",  # type: ignore[arg-type]  # rendered, then read as JSON
        logical_date=None,
        skip_when_already_exists=True,
        **RETRIES,
    )
