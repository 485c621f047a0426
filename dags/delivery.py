"""<model>.delivery: a candidate's way to production. One Airflow DAG per model spec.

admit -> deploy staging -> staging checks -> sign-offs of the testers -> approval -> promote -> verify production
      -> release record            (anything fails: stop_delivery puts production back on the champion)
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, get_current_context

from taxiway.bootstrap import services
from taxiway.orchestration.approval import FORM, ReleaseApproval
from taxiway.orchestration.model_dags import build_all, dag_arguments
from taxiway.orchestration.params import delivery_params
from taxiway.orchestration.sign_offs import SignOffSensor
from taxiway.orchestration.tasks import stage
from taxiway.spec import ModelSpec

Json = dict[str, Any]


@stage()
def admit(model: str) -> Json:
    """Verify digest and signature; take the challenger's place from older deliveries that still wait."""
    return _delivery(model).admit(services().verifier)


@stage()
def deploy_staging(model: str) -> None:
    """Serve the version in staging."""
    _delivery(model).deploy_staging(_target(model, "staging"), services().signer)


@stage()
def check_staging(model: str) -> Json:
    """Send real requests to staging."""
    return _delivery(model).check_staging(_target(model, "staging")).to_json()


@stage()
def approve(model: str, decision: Json) -> None:
    """Record the decision and sign the version for production."""
    from datetime import datetime

    from taxiway.stages.deliver import Approved

    approved = Approved(decision["by"], datetime.fromisoformat(decision["at"]), decision["comment"])
    _delivery(model).approve(approved, services().signer)


@stage()
def promote(model: str) -> Json:
    """Switch production to the version in one atomic change, then the aliases."""
    return _delivery(model).promote(_target(model, "production"))


@stage()
def verify_production(model: str) -> Json:
    """Ask production as a client would: this version must answer, and as in training."""
    return _delivery(model).verify_production(_target(model, "production")).to_json()


@stage()
def record_release(model: str) -> Json:
    """Sign the statement of everything behind this promotion and tell the owners."""
    from taxiway.stages.release import record_release as record

    s, spec = services(), services().spec(model)
    return record(
        spec, _version(), registry=s.registry, signer=s.signer, clock=s.clock, notifier=s.notifier(spec)
    ).to_json()


@stage(trigger_rule="one_failed")
def stop_delivery(model: str) -> None:
    """Put production back on the champion and mark the version, whatever step failed."""
    context = get_current_context()
    spec = services().spec(model)
    _delivery(model).stop(
        f"the delivery {context['dag_run'].run_id} failed; see its tasks in Airflow",
        production=_target(model, "production"),
        notifier=services().notifier(spec),
    )


def _version() -> int:
    return int(get_current_context()["params"]["version"])


def _delivery(model: str) -> Any:
    from taxiway.stages.deliver import Delivery

    s = services()
    return Delivery(s.spec(model), _version(), s.registry, s.clock)


def _target(model: str, environment: str) -> Any:
    s = services()
    return s.target(getattr(s.spec(model).environments, environment))


def build(spec: ModelSpec) -> DAG:
    """Wire the stages of the model's delivery."""
    model = spec.model
    summary = "Takes a candidate through staging, sign-offs and approval into production."
    with DAG(**dag_arguments(spec, "delivery", summary), params=delivery_params(), max_active_runs=16) as dag:
        admitted = admit(model)
        staged = deploy_staging(model)
        checked = check_staging(model)
        signed_off = SignOffSensor(
            task_id="wait_for_sign_offs",
            doc="Wait for the quorum of the testers.",
            model=model,
            version="{{ params.version }}",
            timeout=spec.uat.timeout,
            retries=3,
        )
        decision = ReleaseApproval(
            task_id="ask_for_approval",
            doc="Ask the release manager.",
            spec=spec,
            params=FORM,
            requested_by="{{ ti.xcom_pull(task_ids='admit')['requested_by'] }}",
            verdicts="{{ ti.xcom_pull(task_ids='admit')['verdict'] }} "
            "{{ ti.xcom_pull(task_ids='wait_for_sign_offs')['verdict'] }}",
        )
        approved = approve(model, decision.output)
        promoted = promote.override(outlets=[Asset(f"{model}.champion")])(model)
        verified = verify_production(model)
        journey = [admitted, staged, checked, signed_off, decision, approved, promoted, verified]
        for earlier, later in zip(journey, [*journey[1:], record_release(model)], strict=True):
            earlier >> later
        journey >> stop_delivery(model)
    return dag


globals().update(build_all(build))
