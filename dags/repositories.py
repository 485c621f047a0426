"""repositories: looks at every model repository and starts <model>.ci for a commit that was not built yet.

One task looks at all of them; when nothing is new it is the only one that runs. The run id `commit-<sha>` makes
a repeat a no-op, so nothing has to be remembered between two looks. A repository that cannot be read fails a task
of its own, and stops no other model.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from taxiway.bootstrap import services, settings
from taxiway.orchestration.tasks import stage
from taxiway.spec_files import load_specs


@stage(retries=0)
def look() -> list[dict[str, Any]]:
    """Resolve the head of every model's branch; returns what has to be done: runs to start, problems to show."""
    from taxiway.errors import TaxiwayError

    s, ti = services(), get_current_context()["ti"]
    found: list[dict[str, Any]] = []
    for model, spec in s.specs().specs.items():
        try:
            sha = s.git.resolve(spec.repository.url, spec.repository.branch)
        except TaxiwayError as error:
            found.append({"problem": f"{model}: {error}"})
            continue
        run = {"trigger_dag_id": f"{model}.ci", "trigger_run_id": f"commit-{sha}"}
        if not ti.get_dr_count(dag_id=run["trigger_dag_id"], run_ids=[run["trigger_run_id"]]):
            found.append({**run, "conf": {"ref": sha, "reason": "commit"}})
    return found


@stage(retries=0)
def report_problem(found: dict[str, Any]) -> None:
    """Fail with what is wrong with one model's repository."""
    if "problem" not in found:
        raise AirflowSkipException("a new commit, no problem")
    raise AirflowFailException(found["problem"])


def _only_starts(found: dict[str, Any]) -> dict[str, Any]:
    if "problem" in found:
        raise AirflowSkipException(found["problem"])
    return found


def _poll() -> timedelta:
    here = settings()
    specs = load_specs(here.models, here.spec_variables).specs.values()
    return min((spec.repository.poll for spec in specs), default=timedelta(minutes=1))


with DAG(
    dag_id="repositories",
    description="Starts the CI of commits that were not built yet.",
    doc_md=__doc__,
    schedule=_poll(),
    start_date=datetime(2013, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=10),
    tags=["taxiway"],
):
    found = look()
    start = TriggerDagRunOperator.partial(task_id="start_ci", logical_date=None, skip_when_already_exists=True)
    start.expand_kwargs(found.map(_only_starts))
    report_problem.expand(found=found)
