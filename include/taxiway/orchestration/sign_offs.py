"""User acceptance testing: a sensor that waits for the testers' quorum without holding a worker slot.

Sensor and trigger share one decision, `taxiway.domain.uat.decide`; the trigger only looks again. A registry
that does not answer is waited for until the deadline; everything that a person must mend becomes an event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypedDict

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from taxiway.bootstrap import services
from taxiway.errors import PermanentError, TransientError

logger = logging.getLogger(__name__)


class Answer(StrEnum):
    """How the waiting ended."""

    DECIDED = "decided"
    STOPPED = "stopped"


class SignOffEvent(TypedDict):
    """What the trigger reports: the decision as evidence, or why the delivery ends."""

    answer: str
    text: str
    evidence: dict[str, Any] | None


def look(model: str, version: int, deadline: datetime, now: datetime) -> SignOffEvent | None:
    """Return how the waiting ended, or None while it goes on; raises TransientError."""
    from taxiway.stages.deliver import Delivery

    s = services()
    try:
        delivery = Delivery(s.spec(model), version, s.registry, s.clock)
        evidence = delivery.conclude_uat(deadline_passed=now >= deadline)
    except PermanentError as error:
        return SignOffEvent(answer=Answer.STOPPED.value, text=str(error), evidence=None)
    if evidence is None:
        return None
    return SignOffEvent(answer=Answer.DECIDED.value, text="; ".join(evidence.reasons), evidence=evidence.to_json())


class SignOffTrigger(BaseTrigger):
    """Looks at the sign-offs until they decide, the deadline passes, or the delivery is superseded."""

    def __init__(self, *, model: str, version: int, deadline: str, poll_seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.version = version
        self.deadline = deadline
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and every argument."""
        arguments = {
            "model": self.model,
            "version": self.version,
            "deadline": self.deadline,
            "poll_seconds": self.poll_seconds,
        }
        return "taxiway.orchestration.sign_offs.SignOffTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield exactly one SignOffEvent."""
        deadline = datetime.fromisoformat(self.deadline)
        while True:
            try:
                event = await asyncio.to_thread(look, self.model, self.version, deadline, datetime.now(UTC))
            except TransientError as error:
                logger.warning("%s version %s: sign-offs could not be read: %s", self.model, self.version, error)
                event = None
            if event is not None:
                yield TriggerEvent(dict(event))
                return
            await asyncio.sleep(self.poll_seconds)


class SignOffSensor(BaseOperator):
    """Wait until the testers' quorum has signed off the version, a tester rejects it, or the time is over."""

    template_fields = ("version",)

    def __init__(
        self, *, model: str, version: str | int, timeout: timedelta, poll_seconds: float = 3.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.version = version
        self.timeout = timeout
        self.poll_seconds = poll_seconds

    def execute(self, context: Any) -> Any:
        """Look once; wait in the triggerer when the testers have not decided."""
        now = datetime.now(UTC)
        deadline = now + self.timeout
        event = look(self.model, int(self.version), deadline, now)
        if event is not None:
            return self.execute_complete(context, event)
        trigger = SignOffTrigger(
            model=self.model,
            version=int(self.version),
            deadline=deadline.isoformat(),
            poll_seconds=self.poll_seconds,
        )
        return self.defer(trigger=trigger, method_name="execute_complete")

    def execute_complete(self, context: Any, event: SignOffEvent) -> dict[str, Any]:
        """Return the decision's evidence; a rejection or a superseded delivery fails the task for good."""
        match Answer(event["answer"]):
            case Answer.DECIDED if event["evidence"] is not None:
                return event["evidence"]
            case _:
                raise AirflowFailException(event["text"])
