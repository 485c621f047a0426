"""A question to people that ends by itself when nobody needs the answer any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.providers.standard.triggers.hitl import HITLTrigger
from airflow.triggers.base import TriggerEvent

from taxiway.orchestration.looking import look_patiently


class QuestionTrigger(HITLTrigger):
    """Waits for the answer, as Airflow does, and looks meanwhile; an answer that is there comes before any look.

    Airflow 3.3 parks a question without a trigger, so that nobody would look. An answer still resumes the task at once.
    """

    def __init__(self, *, look: str, arguments: dict[str, Any], **question: Any) -> None:
        super().__init__(**question)
        self.look = look
        self.arguments = arguments

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and every argument."""
        _, question = super().serialize()
        return f"{__name__}.{type(self).__name__}", {**question, "look": self.look, "arguments": self.arguments}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield exactly one event: the answer, that the time is over, or what was seen.

        It pauses first, for the reason for which `LookTrigger` does.
        """
        await asyncio.sleep(self.poke_interval)
        async for event in super().run():
            yield event

    async def _handle_response(self) -> TriggerEvent | None:
        answer: TriggerEvent | None = await self.answer()
        if answer is not None:
            return answer
        seen = await look_patiently(self.look, self.arguments)
        return None if seen is None else TriggerEvent(dict(seen))

    async def answer(self) -> TriggerEvent | None:
        """Return the answer, None while there is none."""
        answer: TriggerEvent | None = await super()._handle_response()  # type: ignore[no-untyped-call]
        return answer
