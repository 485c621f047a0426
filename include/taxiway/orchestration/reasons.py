"""Why a task failed for good, handed to the task that ends a delivery and keeps it with the version."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

_KEY = "reason"


def failed_for_good(context: Any, reason: str) -> AirflowFailException:
    """Leave the reason with the task, and return what fails it without a retry."""
    context["ti"].xcom_push(key=_KEY, value=reason)
    return AirflowFailException(reason)


def reason_of(context: Any, tasks: Iterable[str]) -> str | None:
    """Return the first reason that one of the tasks left, None when none did."""
    left = context["ti"].xcom_pull(task_ids=sorted(tasks), key=_KEY)
    return next((str(reason) for reason in left or () if reason), None)
