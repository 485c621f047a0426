"""The release manager's decision, as Airflow's own human-in-the-loop task."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.exceptions import HITLRejectException, HITLTimeoutError
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import TaskAwaitingInput
from airflow.sdk.timezone import utcnow

from taxiway.bootstrap import services
from taxiway.errors import TransientError
from taxiway.orchestration.looking import conclude, look_once, of_version
from taxiway.orchestration.questions import QuestionTrigger
from taxiway.orchestration.reasons import failed_for_good
from taxiway.orchestration.tasks import RETRIES, permanent_errors_are_final
from taxiway.spec import ModelSpec

POLICY = "policy"
FORM = {"comment": Param("", type="string", title="Comment")}
"""What the approver is asked besides yes or no; the task's `params`."""
_BODY = """\
{% set admitted = ti.xcom_pull(task_ids='admit') %}{% set uat = ti.xcom_pull(task_ids='wait_for_sign_offs') %}
Asked for by **{{ admitted['requested_by'] }}**, model digest `{{ admitted['digest'] }}`.

**Gate: {{ admitted['verdict'] }}**
{% for reason in admitted['reasons'] %}
- {{ reason }}
{% endfor %}
{% if admitted['evaluation'] %}
[The evaluation with its charts]({{ admitted['evaluation'] }})
{% endif %}

**User acceptance: {{ uat['verdict'] }}**
{% for reason in uat['reasons'] %}
- {{ reason }}
{% endfor %}
"""


def look(model: str, version: int) -> None:
    """See that the release may still be asked for; raises DeliveryStopped when it was superseded or closed."""
    from taxiway.stages.deliver import Delivery

    s = services()
    Delivery(s.spec(model), version, s.registry, s.clock, s.orders).refuse_superseded()


class Decision(ApprovalOperator):
    """A decision that the approvers of the spec take in Airflow, unless a look finds that it is needed no more.

    Four eyes: whoever asked for the change is not among those who may approve it. The people's answers are final;
    whatever else goes wrong (Airflow 3.3 can lose an answer that comes in the moment in which the task begins to wait)
    is tried again like any failure of the infrastructure: the question is asked once more.
    """

    template_fields: Sequence[str] = ("subject", "body", "requested_by", "arguments")

    def __init__(
        self,
        *,
        spec: ModelSpec,
        subject: str,
        body: str,
        requested_by: str,
        look: str,
        arguments: dict[str, Any],
        poll_seconds: float = 3.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            subject=subject,
            body=body,
            response_timeout=spec.approval.timeout,
            fail_on_reject=True,
            **{**RETRIES, **kwargs},
        )
        self.waited = spec.approval.timeout
        self.approvers = list(spec.approval.approvers)
        self.four_eyes = spec.approval.four_eyes
        self.requested_by = requested_by
        self.look = look
        self.arguments = arguments
        self.poll_seconds = poll_seconds

    def execute(self, context: Any) -> Any:
        """Ask the people who may decide, and wait in the triggerer."""
        allowed = [name for name in self.approvers if not (self.four_eyes and self._asked(name))]
        if not allowed:
            reason = (
                f"{self.requested_by} asked for this change and is its only approver. "
                "Next: name another approver in the model spec, or set approval.four_eyes: false."
            )
            raise failed_for_good(context, reason)
        self.assigned_users = [{"id": name, "name": name} for name in allowed]
        arguments = of_version(self.arguments)
        seen = look_once(self.look, arguments)
        if seen is not None:
            return conclude(context, seen)
        try:
            return super().execute(context)
        except TaskAwaitingInput as question:
            trigger = QuestionTrigger(
                ti_id=context["ti"].id,
                options=self.options,
                params=self.serialized_params,
                timeout_datetime=utcnow() + self.waited,
                poke_interval=self.poll_seconds,
                look=self.look,
                arguments=arguments,
            )
            return self.defer(trigger=trigger, method_name=question.method_name)

    def decide(self, answer: dict[str, Any], *, approved: bool) -> None:
        """Do what follows from the decision; nothing but the record of it, unless a subclass knows more."""

    def _asked(self, name: str) -> bool:
        """Tell whether this person asked for the change; a commit's author is known by the e-mail address."""
        return name in (self.requested_by, self.requested_by.partition("@")[0])

    def execute_complete(self, context: Any, event: Any) -> Any:
        """Return who approved, when and with which comment; a rejection fails the delivery, and so may a look."""
        if "answer" in event:
            return conclude(context, event)
        try:
            answer = super().execute_complete(context, event)
        except HITLRejectException as error:
            who = (event.get("responded_by_user") or {}).get("name", "nobody")
            comment = (event.get("params_input") or {}).get("comment", "")
            # A no is final: what does not answer now, the last task of the delivery puts back.
            with permanent_errors_are_final(), suppress(TransientError):
                self.decide({"by": who, "comment": comment}, approved=False)
            raise failed_for_good(context, f"{who} rejected the release: {comment or 'no comment'}") from error
        except HITLTimeoutError as error:
            reason = (
                f"nobody of {', '.join(self.approvers)} decided within {self.waited}. "
                "Next: raise approval.timeout in the model spec, and push a new commit."
            )
            raise failed_for_good(context, reason) from error
        decision = {
            "by": answer["responded_by_user"]["id"],
            "at": answer["responded_at"].isoformat(),
            "comment": (answer["params_input"] or {}).get("comment", ""),
        }
        with permanent_errors_are_final():
            self.decide(decision, approved=True)
        return decision


class ReleaseApproval(Decision):
    """Ask for the release; in deployment mode only when a verdict is inconclusive."""

    template_fields: Sequence[str] = (*Decision.template_fields, "verdicts")

    def __init__(self, *, spec: ModelSpec, version: str, verdicts: str, **kwargs: Any) -> None:
        super().__init__(
            spec=spec,
            subject=f"Release {spec.model} version {version} to production?",
            body=_BODY,
            look=f"{__name__}.look",
            arguments={"model": spec.model, "version": version},
            **kwargs,
        )
        self.mode = spec.approval.mode
        self.verdicts = verdicts

    def execute(self, context: Any) -> Any:
        """Approve by policy, or ask."""
        if self.mode == "deployment" and "inconclusive" not in self.verdicts:
            return {"by": POLICY, "at": datetime.now(UTC).isoformat(), "comment": "every verdict passed"}
        return super().execute(context)
