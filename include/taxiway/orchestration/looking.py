"""Waiting without a worker slot: one trigger that looks again and again, for every sensor of a delivery.

A look is a function of JSON arguments, named by its path. It returns what ended the waiting, or None while that goes
on. Who does not answer is asked again, and so is a look that cannot read the model's spec; everything else that a
person must mend becomes the end of the waiting.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from typing import Any, TypedDict

from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent

from taxiway.errors import PermanentError, SpecError, TransientError
from taxiway.orchestration.reasons import failed_for_good
from taxiway.orchestration.tasks import RETRIES

logger = logging.getLogger(__name__)


class Answer(StrEnum):
    """How the waiting ended."""

    DECIDED = "decided"
    STOPPED = "stopped"


class Seen(TypedDict):
    """What a look reports: what was decided, or why the delivery ends."""

    answer: str
    text: str
    result: dict[str, Any]


def decided(result: dict[str, Any]) -> Seen:
    """Return the end of a waiting that goes on with `result`."""
    return Seen(answer=Answer.DECIDED.value, text="", result=result)


def stopped(reason: str) -> Seen:
    """Return the end of a waiting that fails for good."""
    return Seen(answer=Answer.STOPPED.value, text=reason, result={})


def look_once(path: str, arguments: dict[str, Any]) -> Seen | None:
    """Call the look; a permanent error ends the waiting. Raises TransientError, and SpecError for a broken spec."""
    module, _, name = path.rpartition(".")
    look: Callable[..., Seen | None] = getattr(importlib.import_module(module), name)
    try:
        return look(**arguments)
    except SpecError:
        raise
    except PermanentError as error:
        return stopped(f"{type(error).__name__}: {error}")


async def look_patiently(path: str, arguments: dict[str, Any]) -> Seen | None:
    """Look once without holding up the triggerer; who does not answer is no end of the waiting.

    Nor is a spec that somebody is just writing: what waits for days must not end by a slip that is mended in minutes.
    """
    try:
        return await asyncio.to_thread(look_once, path, arguments)
    except (TransientError, SpecError) as error:
        logger.warning("%s %s: looked in vain: %s", path, arguments, error)
        return None


def conclude(context: Any, seen: Seen) -> dict[str, Any]:
    """Return what was decided; raises what fails the task for good when the waiting was stopped."""
    match Answer(seen["answer"]):
        case Answer.DECIDED:
            return seen["result"]
        case Answer.STOPPED:
            raise failed_for_good(context, seen["text"])


def of_version(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with the version as a number, which templates render as text."""
    return {**arguments, "version": int(arguments["version"])}


class LookTrigger(BaseTrigger):
    """Looks until there is something to report."""

    def __init__(self, *, look: str, arguments: dict[str, Any], poll_seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.look = look
        self.arguments = arguments
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and every argument."""
        arguments = {"look": self.look, "arguments": self.arguments, "poll_seconds": self.poll_seconds}
        return f"{__name__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield exactly one event, which is what was seen.

        The sensor has just looked, so the trigger pauses first. It also keeps Airflow from a race: a task that resumes
        in the moment in which it is put to sleep can be taken for failed.
        """
        while True:
            await asyncio.sleep(self.poll_seconds)
            seen = await look_patiently(self.look, self.arguments)
            if seen is not None:
                yield TriggerEvent(dict(seen))
                return


class LookSensor(BaseOperator):
    """Wait until a look reports something; returns its result, and fails for good when it says that all is over."""

    template_fields = ("arguments",)

    def __init__(self, *, look: str, arguments: dict[str, Any], poll_seconds: float = 3.0, **kwargs: Any) -> None:
        super().__init__(**{**RETRIES, **kwargs})
        self.look = look
        self.arguments = arguments
        self.poll_seconds = poll_seconds

    def looking_for(self) -> dict[str, Any]:
        """Return the arguments of the look; a subclass may add what is known only now."""
        return of_version(self.arguments)

    def execute(self, context: Any) -> Any:
        """Look once; wait in the triggerer when there is nothing to report yet."""
        arguments = self.looking_for()
        seen = look_once(self.look, arguments)
        if seen is not None:
            return self.execute_complete(context, seen)
        trigger = LookTrigger(look=self.look, arguments=arguments, poll_seconds=self.poll_seconds)
        return self.defer(trigger=trigger, method_name="execute_complete")

    def execute_complete(self, context: Any, event: Seen) -> dict[str, Any]:
        """Return what was decided."""
        return conclude(context, event)
