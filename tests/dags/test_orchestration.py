"""Operators, sensor and trigger of the delivery: what survives serialisation, and what each answer leads to."""

from __future__ import annotations

import importlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from taxiway.errors import GateFailed, RegistryUnavailable
from taxiway.orchestration.approval import FORM, POLICY, ReleaseApproval
from taxiway.orchestration.sign_offs import Answer, SignOffEvent, SignOffSensor, SignOffTrigger
from taxiway.orchestration.tasks import stage
from taxiway.spec import ModelSpec
from tests.unit.model_versions import example_spec


def spec_with(**approval: Any) -> ModelSpec:
    """Return the example's spec with another approval section."""
    spec = example_spec()
    return ModelSpec.model_validate({**spec.model_dump(), "approval": {"approvers": ["dana"], **approval}})


def approval(spec: ModelSpec, *, requested_by: str = "ds", verdicts: str = "passed passed") -> ReleaseApproval:
    """Return the approval task as its templates were rendered."""
    return ReleaseApproval(task_id="ask", spec=spec, params=FORM, requested_by=requested_by, verdicts=verdicts)


def sensor() -> SignOffSensor:
    """Return a sensor of version 3."""
    return SignOffSensor(task_id="wait", model="flight_delays", version="3", timeout=timedelta(days=3))


def event(answer: Answer, text: str, evidence: dict[str, Any] | None = None) -> SignOffEvent:
    """Return what the trigger would report."""
    return SignOffEvent(answer=answer.value, text=text, evidence=evidence)


def test_the_trigger_survives_serialisation() -> None:
    """The triggerer rebuilds an equal trigger from JSON, from a module that it can import."""
    trigger = SignOffTrigger(
        model="m", version=3, deadline=datetime(2026, 1, 1, tzinfo=UTC).isoformat(), poll_seconds=2
    )

    path, arguments = trigger.serialize()
    module, _, name = path.rpartition(".")
    rebuilt = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(arguments)))

    assert rebuilt.serialize() == trigger.serialize()


def test_the_sensor_returns_the_testers_verdict() -> None:
    """A decision is handed on as its evidence, inconclusive ones too: the approver decides about those."""
    evidence = {"verdict": "inconclusive", "reasons": ["nobody answered"]}

    assert evidence == sensor().execute_complete({}, event(Answer.DECIDED, "", evidence))


def test_a_stopped_delivery_fails_the_sensor_for_good() -> None:
    """A rejection or a newer version ends the task with the reason, and without a retry."""
    with pytest.raises(AirflowFailException, match="ana rejected: too late"):
        sensor().execute_complete({}, event(Answer.STOPPED, "ana rejected: too late"))


def test_an_unknown_answer_is_an_error() -> None:
    """An event that nobody knows does not pass as consent."""
    with pytest.raises(ValueError, match="maybe"):
        sensor().execute_complete({}, SignOffEvent(answer="maybe", text="", evidence=None))


def test_deployment_mode_asks_nobody_when_all_verdicts_passed() -> None:
    """Continuous deployment approves by policy, and says so."""
    assert POLICY == approval(spec_with(mode="deployment")).execute({})["by"]


@pytest.mark.parametrize("requested_by", ["dana", "dana@example.com"])
def test_the_requester_cannot_be_the_only_approver(requested_by: str) -> None:
    """Four eyes: when the only approver asked for the change, or wrote it, the delivery fails with what to do."""
    with pytest.raises(AirflowFailException, match="name another approver"):
        approval(spec_with(), requested_by=requested_by).execute({})


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
    """A rejected release is red, and the comment is its reason."""
    answer = {
        "chosen_options": ["Reject"],
        "params_input": {"comment": "not before Christmas"},
        "responded_at": datetime(2026, 1, 1, tzinfo=UTC),
        "responded_by_user": {"id": "dana", "name": "dana"},
    }

    with pytest.raises(AirflowFailException, match="dana rejected the release: not before Christmas"):
        approval(spec_with()).execute_complete({}, answer)


def test_a_permanent_error_is_not_retried_and_a_transient_one_is() -> None:
    """A failed gate ends the task at its first try with its whole message; infrastructure errors stay retryable."""

    def gate() -> None:
        raise GateFailed("roc_auc is too low", where="flight_delays", next_step="improve it.")

    def registry() -> None:
        raise RegistryUnavailable("no answer")

    with pytest.raises(AirflowFailException, match=r"GateFailed: roc_auc is too low \[flight_delays\] Next: improve"):
        stage()(gate).function()
    with pytest.raises(RegistryUnavailable):
        stage()(registry).function()
