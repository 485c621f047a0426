"""Stages as Airflow tasks: what is retried, what is not, and the one line that says why a task failed."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from airflow.sdk import get_current_context, task

from taxiway.errors import PermanentError
from taxiway.orchestration.reasons import failed_for_good

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger(__name__)

RETRIES: dict[str, Any] = {
    "retries": 5,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
}


@contextmanager
def permanent_errors_are_final() -> Iterator[None]:
    """Turn a PermanentError into the failure that Airflow does not retry, with its one line, which is handed on."""
    try:
        yield
    except PermanentError as error:
        logger.debug("cause", exc_info=error)
        raise failed_for_good(get_current_context(), f"{type(error).__name__}: {error}") from None


def stage(make: Any = task, **task_arguments: Any) -> Callable[[Callable[P, R]], Any]:
    """Turn a function into a task: a PermanentError fails it at once, everything else is retried with backoff.

    A failed test, gate or data check is a PermanentError: the thing is bad, so a retry could only hide it. `make` is
    the decorator of Airflow that makes the task.
    """

    def decorate(function: Callable[P, R]) -> Any:
        @functools.wraps(function)
        def body(*args: P.args, **kwargs: P.kwargs) -> R:
            with permanent_errors_are_final():
                return function(*args, **kwargs)

        return make(**{**RETRIES, "multiple_outputs": False, **task_arguments})(body)

    return decorate
