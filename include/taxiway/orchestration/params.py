"""The typed params of every DAG: the UI's trigger form, the CLI's `--conf` and the REST body are checked by them."""

from __future__ import annotations

from airflow.sdk import Param

REASONS = ["manual", "commit", "schedule", "drift", "performance"]


def data_end() -> Param:
    """Return the param that repeats a run as of a date."""
    return Param(
        None,
        type=["null", "string"],
        title="Data end",
        description="Use data before this time only (ISO 8601, UTC), such as 2013-04-01. Empty: the newest data.",
    )


def ci_params() -> dict[str, Param]:
    """Return the params of `<model>.ci`."""
    return {
        "ref": Param(
            None,
            type=["null", "string"],
            minLength=1,
            title="Commit, branch or tag",
            description="What to build. Empty: the newest commit of the branch in the model spec.",
        ),
        "data_end": data_end(),
        "reason": Param("manual", type="string", enum=REASONS, title="Reason"),
    }


def delivery_params() -> dict[str, Param]:
    """Return the params of `<model>.delivery`."""
    return {
        "version": Param(
            type="integer", minimum=1, title="Version", description="The registered model version to deliver."
        ),
    }


def monitoring_params() -> dict[str, Param]:
    """Return the params of `<model>.monitoring`."""
    return {
        "data_start": Param(
            None,
            type=["null", "string"],
            title="Data start",
            description="Start of the window (ISO 8601, UTC). Empty: the window's length from the model spec.",
        ),
        "data_end": data_end(),
    }


def retraining_params() -> dict[str, Param]:
    """Return the params of `<model>.retraining`."""
    return {
        "data_end": data_end(),
        "reason": Param("manual", type="string", enum=REASONS, title="Reason"),
    }


def rollback_params() -> dict[str, Param]:
    """Return the params of `<model>.rollback`."""
    return {
        "to": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="To version",
            description="The version that production goes back to. Empty: the previous champion.",
        ),
        "reason": Param(
            type="string", minLength=1, title="Reason", description="Why; kept with the version as evidence."
        ),
    }
