"""Questions to people: who is asked, and how a question ends without an answer."""

from __future__ import annotations

import asyncio
import importlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.serde import deserialize, serialize
from airflow.triggers.base import TriggerEvent

from taxiway.errors import DeliveryStopped, RegistryUnavailable, TargetUnavailable
from taxiway.orchestration.approval import FORM, Decision
from taxiway.orchestration.looking import Seen, decided, stopped
from taxiway.orchestration.questions import QuestionTrigger
from taxiway.orchestration.reasons import reason_of
from tests.dags.test_orchestration import FakeTask, spec_with

PHASE = {"phase": "promoting", "reason": "it passed"}
SUPERSEDED = "the version is superseded: version 4 is on its way"


def superseded(**_: Any) -> None:
    """Look at a delivery that a newer version superseded."""
    raise DeliveryStopped(SUPERSEDED)


def went_on(**_: Any) -> Seen:
    """Look at a rollout that went on meanwhile."""
    return decided(PHASE)


def at_the_third_look(*, looks: str, **_: Any) -> Seen | None:
    """See nothing first, meet a registry that does not answer next, and then a newer version; each look is a line."""
    with Path(looks).open("a+") as file:
        file.write("a look\n")
        file.seek(0)
        number = len(file.readlines())
    if number == 1:
        return None
    raise RegistryUnavailable("no answer") if number == 2 else DeliveryStopped(SUPERSEDED)


class Silent(Decision):
    """A decision about something that does not answer."""

    def decide(self, answer: dict[str, Any], *, approved: bool) -> None:
        """Do nothing, and say so."""
        raise TargetUnavailable("production does not answer")


def decision(look: str, kind: type[Decision] = Decision) -> Decision:
    """Return a question to dana whose look is a function of this module."""
    return kind(
        task_id="ask",
        spec=spec_with(),
        params=FORM,
        subject="Go on?",
        body="",
        requested_by="ds",
        look=f"{__name__}.{look}",
        arguments={"model": "m", "version": "3"},
    )


class Question(QuestionTrigger):
    """The trigger with an answer that was given, or none, in place of Airflow's database."""

    given: TriggerEvent | None = None

    async def answer(self) -> TriggerEvent | None:
        """Return what was given."""
        return self.given


def question(look: str, kind: type[QuestionTrigger] = Question, **arguments: Any) -> Any:
    """Return a trigger that looks often."""
    return kind(
        ti_id=UUID(int=7),
        options=["Approve", "Reject"],
        params=decision(look).serialized_params,
        timeout_datetime=datetime.now(UTC) + timedelta(hours=1),
        poke_interval=0.01,
        look=f"{__name__}.{look}",
        arguments=arguments,
    )


def ending(trigger: QuestionTrigger) -> Any:
    """Return what ended the question."""

    async def run() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    (payload,) = asyncio.run(asyncio.wait_for(run(), 30))
    return payload


def test_a_question_survives_serialisation() -> None:
    """The triggerer rebuilds an equal trigger from what Airflow stores, from a module that it can import."""
    trigger = question("superseded", QuestionTrigger, version=3)

    path, arguments = trigger.serialize()
    module, _, name = path.rpartition(".")
    stored: Any = deserialize(json.loads(json.dumps(serialize(arguments))))
    rebuilt = getattr(importlib.import_module(module), name)(**stored)

    assert rebuilt.serialize() == trigger.serialize()


def test_a_question_ends_when_a_look_finds_that_it_is_needed_no_more(tmp_path: Path) -> None:
    """Nobody answers: looks go on, also after one in vain, until one says why the waiting is over."""
    looks = tmp_path / "looks"

    assert ending(question("at_the_third_look", looks=str(looks))) == stopped(f"DeliveryStopped: {SUPERSEDED}")
    assert len(looks.read_text().splitlines()) == 3


def test_an_answer_that_is_there_wins_over_a_look() -> None:
    """What a person said counts, though a look would end the question as well."""
    trigger = question("superseded")
    trigger.given = TriggerEvent({"chosen_options": ["Reject"]})

    assert ending(trigger) == {"chosen_options": ["Reject"]}


def test_nobody_is_asked_what_needs_no_answer_any_more() -> None:
    """A question that is superseded before it is asked fails for good with the reason, and so does its retry."""
    context = {"ti": FakeTask()}

    with pytest.raises(AirflowFailException, match=SUPERSEDED):
        decision("superseded").execute(context)
    assert SUPERSEDED in str(reason_of(context, ["ask"]))


def test_a_question_that_was_answered_before_a_crash_is_not_asked_again() -> None:
    """The retry of a task that died after it carried out the answer finds that all went on."""
    assert decision("went_on").execute({}) == PHASE


def test_a_superseded_question_fails_the_delivery_with_the_reason() -> None:
    """What ended the question is left for the last task of the delivery, and nothing is retried."""
    context = {"ti": FakeTask()}

    with pytest.raises(AirflowFailException, match=SUPERSEDED):
        decision("superseded").execute_complete(context, dict(stopped(SUPERSEDED)))
    assert SUPERSEDED == reason_of(context, ["admit", "ask"])


def test_a_question_that_is_needed_no_more_can_end_well() -> None:
    """A rollout that left the step goes on without the answer."""
    assert decision("went_on").execute_complete({}, dict(decided(PHASE))) == PHASE


def test_a_no_is_final_and_a_yes_that_leads_to_nothing_is_asked_for_again() -> None:
    """What cannot be carried out right now is retried, but nobody who said no is asked again."""
    asked = decision("went_on", Silent)
    answer = {
        "params_input": {"comment": "too risky"},
        "responded_at": datetime(2026, 1, 1, tzinfo=UTC),
        "responded_by_user": {"id": "dana", "name": "dana"},
    }

    with pytest.raises(AirflowFailException, match="too risky"):
        asked.execute_complete({"ti": FakeTask()}, {**answer, "chosen_options": ["Reject"]})
    with pytest.raises(TargetUnavailable):
        asked.execute_complete({"ti": FakeTask()}, {**answer, "chosen_options": ["Approve"]})
