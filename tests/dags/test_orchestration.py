"""Operators, sensor and trigger of the delivery: what survives serialisation, and what each answer leads to."""

from __future__ import annotations

import importlib
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import set_current_context

from taxiway.errors import DeliveryStopped, GateFailed, RegistryUnavailable, SpecError
from taxiway.orchestration.approval import FORM, POLICY, ReleaseApproval
from taxiway.orchestration.looking import LookTrigger, Seen, decided, look_once, look_patiently, stopped
from taxiway.orchestration.reasons import reason_of
from taxiway.orchestration.rollouts import StepDecision
from taxiway.orchestration.sign_offs import SignOffSensor
from taxiway.orchestration.tasks import RETRIES, stage
from taxiway.spec import ModelSpec
from tests.unit.model_versions import example_spec


def spec_with(**approval: Any) -> ModelSpec:
    """Return the example's spec with another approval section."""
    spec = example_spec()
    return ModelSpec.model_validate({**spec.model_dump(), "approval": {"approvers": ["dana"], **approval}})


class FakeTask:
    """A task instance that keeps what is left with it."""

    def __init__(self) -> None:
        self.left: dict[str, Any] = {}

    def xcom_push(self, *, key: str, value: Any) -> None:
        """Keep a value."""
        self.left[key] = value

    def xcom_pull(self, *, task_ids: list[str], key: str) -> list[Any]:
        """Return what the last of the tasks left; the others left nothing."""
        return [*[None] * (len(task_ids) - 1), self.left.get(key)]


def approval(spec: ModelSpec, *, requested_by: str = "ds", verdicts: str = "passed passed") -> ReleaseApproval:
    """Return the approval task as its templates were rendered."""
    return ReleaseApproval(
        task_id="ask", spec=spec, params=FORM, version="3", requested_by=requested_by, verdicts=verdicts
    )


def sensor() -> SignOffSensor:
    """Return a sensor of version 3."""
    return SignOffSensor(task_id="wait", model="flight_delays", version="3", timeout=timedelta(days=3))


def test_the_trigger_survives_serialisation() -> None:
    """The triggerer rebuilds an equal trigger from JSON, from a module that it can import."""
    arguments = {"model": "m", "version": 3, "deadline": datetime(2026, 1, 1, tzinfo=UTC).isoformat()}
    trigger = LookTrigger(look="taxiway.orchestration.sign_offs.look", arguments=arguments, poll_seconds=2)

    path, serialized = trigger.serialize()
    module, _, name = path.rpartition(".")
    rebuilt = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(serialized)))

    assert rebuilt.serialize() == trigger.serialize()


@pytest.mark.parametrize(
    "path", ["sign_offs.look", "approval.look", "rollouts.turn", "rollouts.step", "rollouts.question"]
)
def test_the_triggerer_can_import_every_look(path: str) -> None:
    """What a sensor or a question names as its look is a function of the orchestration package."""
    module, name = path.split(".")

    assert callable(getattr(importlib.import_module(f"taxiway.orchestration.{module}"), name))


def test_the_sensor_returns_the_testers_verdict() -> None:
    """A decision is handed on as its evidence, inconclusive ones too: the approver decides about those."""
    evidence = {"verdict": "inconclusive", "reasons": ["nobody answered"]}

    assert evidence == sensor().execute_complete({}, decided(evidence))


def test_a_stopped_delivery_fails_the_sensor_for_good() -> None:
    """A rejection or a newer version ends the task with the reason, and without a retry."""
    context = {"ti": FakeTask()}
    with pytest.raises(AirflowFailException, match="ana rejected: too late"):
        sensor().execute_complete(context, stopped("ana rejected: too late"))


def test_an_unknown_answer_is_an_error() -> None:
    """An event that nobody knows does not pass as consent."""
    with pytest.raises(ValueError, match="maybe"):
        sensor().execute_complete({}, Seen(answer="maybe", text="", result={}))


def refuse(**_: Any) -> None:
    """Look at something that a person must mend."""
    raise DeliveryStopped("the version was closed")


def test_a_look_that_meets_a_permanent_error_ends_the_waiting() -> None:
    """Nobody looks again at what will not change by itself; the reason is handed on."""
    seen = look_once(f"{__name__}.refuse", {})

    assert seen == stopped("DeliveryStopped: the version was closed")


def misspell(**_: Any) -> None:
    """Look at a model whose spec somebody is just writing."""
    raise SpecError("unknown key uatt")


async def test_a_broken_spec_ends_no_waiting() -> None:
    """What waits for days goes on to wait until the spec is mended; a task that begins is tried again."""
    assert None is await look_patiently(f"{__name__}.misspell", {})
    with pytest.raises(SpecError):
        look_once(f"{__name__}.misspell", {})


@pytest.mark.parametrize("phase", ["canary", "promoting"])
def test_nobody_is_asked_about_a_step_that_decides_itself(phase: str) -> None:
    """The approvers hear of a step only when its figures do not decide."""
    asked = StepDecision(
        task_id="ask", spec=example_spec(), params=FORM, step="canary_5", number=1, version="3", requested_by="ds"
    )
    asked.phase = phase

    assert asked.execute({}) is None


def test_deployment_mode_asks_nobody_when_all_verdicts_passed() -> None:
    """Continuous deployment approves by policy, and says so."""
    assert POLICY == approval(spec_with(mode="deployment")).execute({})["by"]


@pytest.mark.parametrize("requested_by", ["dana", "dana@example.com"])
def test_the_requester_cannot_be_the_only_approver(requested_by: str) -> None:
    """Four eyes: when the only approver asked for the change, or wrote it, the delivery fails with what to do."""
    context = {"ti": FakeTask()}
    with pytest.raises(AirflowFailException, match="name another approver") as refused:
        approval(spec_with(), requested_by=requested_by).execute(context)
    assert str(refused.value) == reason_of(context, ["ask"])


def test_an_approval_says_who_when_and_what() -> None:
    """The answer is handed on with name, time and comment."""
    answer = {
        "chosen_options": ["Approve"],
        "params_input": {"comment": "go"},
        "responded_at": datetime(2026, 1, 1, tzinfo=UTC),
        "responded_by_user": {"id": "dana", "name": "dana"},
    }

    done = approval(spec_with()).execute_complete({}, answer)

    assert {"by": "dana", "at": "2026-01-01T00:00:00+00:00", "comment": "go"} == done


def test_a_rejection_fails_the_delivery_with_the_comment() -> None:
    """A rejected release is red, and the comment is its reason, which the last task of the delivery finds."""
    context = {"ti": FakeTask()}
    answer = {
        "chosen_options": ["Reject"],
        "params_input": {"comment": "not before Christmas"},
        "responded_at": datetime(2026, 1, 1, tzinfo=UTC),
        "responded_by_user": {"id": "dana", "name": "dana"},
    }

    with pytest.raises(AirflowFailException, match="dana rejected the release: not before Christmas"):
        approval(spec_with()).execute_complete(context, answer)
    assert "dana rejected the release: not before Christmas" == reason_of(context, ["admit", "ask"])


def test_a_decision_that_nobody_takes_ends_the_delivery() -> None:
    """When the time to decide is over, the task fails for good and says whom it asked and what to do."""
    event = {"error": "no response", "error_type": "timeout"}

    with pytest.raises(AirflowFailException, match=r"nobody of dana decided within 2 days.*approval\.timeout"):
        approval(spec_with(timeout="2d")).execute_complete({"ti": FakeTask()}, event)


def test_a_lost_question_is_asked_again() -> None:
    """A decision is retried like any stage: what people answer fails for good, what Airflow loses does not."""
    assert approval(spec_with()).retries == RETRIES["retries"] > 0


def test_a_permanent_error_is_not_retried_and_a_transient_one_is() -> None:
    """A failed gate ends the task at once, and its whole message is handed on; infrastructure errors stay retryable."""
    context: Any = {"ti": FakeTask()}

    def gate() -> None:
        raise GateFailed("roc_auc is too low", where="flight_delays", next_step="improve it.")

    def registry() -> None:
        raise RegistryUnavailable("no answer")

    message = "GateFailed: roc_auc is too low [flight_delays] Next: improve it."
    with set_current_context(context), pytest.raises(AirflowFailException, match=re.escape(message)):
        stage()(gate).function()
    assert message == reason_of(context, ["gate"])
    with pytest.raises(RegistryUnavailable):
        stage()(registry).function()
