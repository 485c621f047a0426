"""housekeeping: removes what nobody used for long (checkouts, environments, old versions), records late rollbacks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from taxiway.bootstrap import services
from taxiway.orchestration.tasks import stage

_UNUSED_FOR = timedelta(days=14)


@stage()
def remove_unused_environments() -> list[str]:
    """Remove model environments that no stage used for two weeks; they are made again from their lock when needed."""
    from taxiway.stages.housekeeping import remove_unused

    s = services()
    directory = s.settings.cache / "environments"
    return remove_unused(directory, ".taxiway-ready", now=s.clock.now(), unused_for=_UNUSED_FOR)


@stage()
def remove_unused_checkouts() -> list[str]:
    """Remove checkouts that no stage used for two weeks."""
    from taxiway.stages.housekeeping import remove_unused

    s = services()
    return remove_unused(s.settings.cache / "checkouts", "commit.json", now=s.clock.now(), unused_for=_UNUSED_FOR)


@stage()
def record_rollbacks() -> dict[str, list[int]]:
    """Record in MLflow the rollbacks that were ordered while it did not answer."""
    s = services()
    return {
        model: [order.to for order in s.rollbacks(spec).settle()] for model, spec in sorted(s.specs().specs.items())
    }


@stage()
def keep_previous_warm() -> dict[str, int | None]:
    """Load each model's previous champion, where it is not ready: a rollback is one switch then."""
    s = services()
    return {model: s.rollbacks(spec).keep_warm() for model, spec in sorted(s.specs().specs.items())}


@stage()
def empty_staging() -> dict[str, list[int]]:
    """Stop versions in staging that nobody tests any more."""
    from taxiway.stages.housekeeping import empty_staging as empty

    s = services()
    return {
        model: empty(model, registry=s.registry, staging=s.target(spec.environments.staging))
        for model, spec in s.specs().specs.items()
    }


with DAG(
    dag_id="housekeeping",
    description="Removes what nobody used for long.",
    doc_md=__doc__,
    schedule="30 3 * * *",
    start_date=datetime(2013, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["taxiway"],
):
    remove_unused_environments()
    remove_unused_checkouts()
    record_rollbacks() >> keep_previous_warm()
    empty_staging()
