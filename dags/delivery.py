"""<model>.delivery: a candidate's way to production. One Airflow DAG per model spec.

admit -> deploy staging -> staging checks -> sign-offs of the testers -> approval -> rollout -> promote
      -> verify production -> release record
rollout: wait for our turn -> deploy production -> shadow -> canary steps, each watched and, when undecided, decided
(anything fails: stop_delivery puts production back on the champion)
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, TaskGroup, chain, get_current_context

from taxiway.bootstrap import services
from taxiway.orchestration.approval import FORM, ReleaseApproval
from taxiway.orchestration.model_dags import build_all, dag_arguments
from taxiway.orchestration.params import delivery_params
from taxiway.orchestration.reasons import reason_of
from taxiway.orchestration.rollouts import StepDecision, step_sensor, turn_sensor
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
def deploy_production(model: str) -> None:
    """Load the version next to the champion, and begin its rollout."""
    services().settle(services().spec(model))
    _delivery(model).refuse_superseded()
    _rollout(model).start()


@stage()
def promote(model: str) -> Json:
    """See that production serves the version alone, then move the aliases."""
    services().settle(services().spec(model))
    _rollout(model).finish()
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
    reason = reason_of(context, context["task"].upstream_task_ids)
    services().settle(spec)
    _delivery(model).stop(
        reason or f"the delivery {context['dag_run'].run_id} failed; see its tasks in Airflow",
        production=_target(model, "production"),
        notifier=services().notifier(spec),
    )


def _version() -> int:
    return int(get_current_context()["params"]["version"])


def _delivery(model: str) -> Any:
    from taxiway.stages.deliver import Delivery

    s = services()
    return Delivery(s.spec(model), _version(), s.registry, s.clock, s.orders)


def _rollout(model: str) -> Any:
    from taxiway.stages.roll_out import RollOut

    s = services()
    return RollOut(s.spec(model), _version(), s.registry, _target(model, "production"), s.clock, s.orders)


def _target(model: str, environment: str) -> Any:
    s = services()
    return s.target(getattr(s.spec(model).environments, environment))


VERSION = "{{ params.version }}"
REQUESTED_BY = "{{ ti.xcom_pull(task_ids='admit')['requested_by'] }}"
VERDICTS = (
    "{{ ti.xcom_pull(task_ids='admit')['verdict'] }} {{ ti.xcom_pull(task_ids='wait_for_sign_offs')['verdict'] }}"
)


def build(spec: ModelSpec) -> DAG:
    """Wire the stages of the model's delivery."""
    model = spec.model
    summary = "Takes a candidate through staging, sign-offs, approval and a progressive rollout into production."
    with DAG(**dag_arguments(spec, "delivery", summary), params=delivery_params(), max_active_runs=16) as dag:
        decision = ReleaseApproval(
            task_id="ask_for_approval",
            doc="Ask the release manager.",
            spec=spec,
            params=FORM,
            version=VERSION,
            requested_by=REQUESTED_BY,
            verdicts=VERDICTS,
        )
        journey = [
            admit(model),
            deploy_staging(model),
            check_staging(model),
            SignOffSensor(
                task_id="wait_for_sign_offs",
                doc="Wait for the quorum of the testers.",
                model=model,
                version=VERSION,
                timeout=spec.uat.timeout,
            ),
            decision,
            approve(model, decision.output),
            *rollout(spec),
            promote.override(outlets=[Asset(f"{model}.champion")])(model),
            verify_production(model),
        ]
        chain(*journey, record_release(model))
        journey >> stop_delivery(model)
    return dag


def rollout(spec: ModelSpec) -> list[Any]:
    """Return the tasks of the spec's rollout, in their order."""
    with TaskGroup("rollout"):
        steps: list[Any] = [turn_sensor(spec.model, VERSION), deploy_production(spec.model)]
        for number, name in enumerate(spec.rollout.watched_steps):
            watched = step_sensor(spec.model, VERSION, number, name)
            asked = StepDecision(
                task_id=f"decide_{name}",
                doc="Ask the release manager when the figures do not decide.",
                spec=spec,
                params=FORM,
                step=name,
                number=number,
                version=VERSION,
                requested_by=REQUESTED_BY,
            )
            steps += [watched, asked]
    return steps


globals().update(build_all(build))
