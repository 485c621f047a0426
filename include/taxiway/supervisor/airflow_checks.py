"""What `taxiway doctor` compares in Airflow: its DAGs with the model specs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taxiway.supervisor.findings import Finding, weaker, wrong

KINDS = ("ci", "delivery", "monitoring", "retraining", "rollback")
SHARED = ("housekeeping", "repositories")


def dag_findings(
    dags: Sequence[Mapping[str, Any]], import_errors: Sequence[Mapping[str, Any]], models: Sequence[str]
) -> Iterator[Finding]:
    """Name DAG files that cannot be read, DAGs that are missing or paused, and DAGs of models without a spec."""
    for error in import_errors:
        ending = str(error["stack_trace"]).strip().splitlines()[-1:]
        yield wrong("Airflow", f"{error['filename']} cannot be read: {' '.join(ending)}", "correct what it names.")
    known = {str(dag["dag_id"]): bool(dag["is_paused"]) for dag in dags}
    expected = {f"{model}.{kind}" for model in models for kind in KINDS} | set(SHARED)
    if missing := sorted(expected - set(known)):
        advice = (
            "wait a few seconds after a new spec; then look for import errors, and at logs/airflow-dag-processor.log."
        )
        yield wrong("Airflow", f"DAGs are missing: {', '.join(missing)}", advice)
    if paused := sorted(dag for dag, is_paused in known.items() if is_paused and dag in expected):
        yield weaker("Airflow", f"DAGs are paused, and start nothing: {', '.join(paused)}", "unpause them in Airflow.")
    kinds = {f".{kind}" for kind in KINDS}
    if left := sorted(dag for dag in set(known) - expected if any(dag.endswith(kind) for kind in kinds)):
        yield weaker(
            "Airflow", f"DAGs have no model spec: {', '.join(left)}", "Airflow forgets them; or restore the spec."
        )
