"""The rollout's steps as sensors, and the person who decides when the figures of a step do not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

from taxiway.bootstrap import services
from taxiway.orchestration.approval import Decision
from taxiway.orchestration.looking import LookSensor, Seen, decided, of_version, stopped
from taxiway.spec import ModelSpec

logger = logging.getLogger(__name__)
_POLL_SECONDS = 2.0
_BODY = """\
{% set seen = ti.xcom_pull(task_ids=params.step) %}The step `{{ params.step }}` is undecided: **{{ seen['reason'] }}**.

Traffic stays as it is until you decide. *Approve* goes on with the next step, *Reject* returns everything to the
champion.
"""


def turn(model: str, version: int) -> Seen | None:
    """Claim production's traffic; return once no other version moves it. A newer version supersedes one that waits."""
    from taxiway.stages.deliver import Delivery

    s = services()
    Delivery(s.spec(model), version, s.registry, s.clock, s.orders).refuse_superseded()
    other = _rollout(model, version).claim()
    if other is not None:
        _say_what_blocks(model, version, other)
    return decided({}) if other is None else None


@cache
def _say_what_blocks(model: str, version: int, other: int) -> None:
    """Tell the log once."""
    logger.warning(
        "%s version %d waits: version %d moves traffic. If its delivery candidate-%d is no longer running, clear its "
        "failed tasks in Airflow, or end its rollout with `taxiway rollback %s --to <the champion> --reason ...`.",
        *(model, version, other, other, model),
    )


def step(model: str, version: int, number: int) -> Seen | None:
    """Look at production once; return when the rollout has left the step, or is over."""
    return _left(_rollout(model, version).look(), number)


def question(model: str, version: int, number: int) -> Seen | None:
    """Look at production while people are asked about a step; return when the rollout has left it without an answer."""
    from taxiway.stages.roll_out import is_held

    state = _rollout(model, version).look()
    return None if is_held(state, number) else _left(state, number)


def _left(state: Any, number: int) -> Seen | None:
    from taxiway.stages.roll_out import is_behind, is_stopped

    if is_stopped(state):
        return stopped(f"the rollout was aborted, production is on the champion: {state.reason}")
    return decided({"phase": state.phase.value, "reason": state.reason}) if is_behind(state, number) else None


def turn_sensor(model: str, version: str) -> LookSensor:
    """Return the sensor that waits for the end of another version's rollout."""
    arguments = {"model": model, "version": version}
    return LookSensor(task_id="wait_for_turn", look=f"{__name__}.turn", arguments=arguments)


def step_sensor(model: str, version: str, number: int, name: str) -> LookSensor:
    """Return the sensor that takes the rollout through a step."""
    arguments = {"model": model, "version": version, "number": number}
    return LookSensor(task_id=name, look=f"{__name__}.step", arguments=arguments, poll_seconds=_POLL_SECONDS)


class StepDecision(Decision):
    """Ask the approvers when a step of the rollout is undecided; otherwise nobody is asked.

    Meanwhile production is watched as in the step itself: sure harm aborts, whoever is asked.
    """

    template_fields: Sequence[str] = (*Decision.template_fields, "phase")

    def __init__(self, *, spec: ModelSpec, step: str, number: int, version: str, **kwargs: Any) -> None:
        super().__init__(
            spec=spec,
            subject=f"Go on with the rollout of {spec.model} version {version}?",
            body=_BODY.replace("params.step", f"'rollout.{step}'"),
            look=f"{__name__}.question",
            arguments={"model": spec.model, "version": version, "number": number},
            poll_seconds=_POLL_SECONDS,
            **kwargs,
        )
        self.phase = f"{{{{ ti.xcom_pull(task_ids='rollout.{step}')['phase'] }}}}"

    def execute(self, context: Any) -> Any:
        """Go on, or ask."""
        return super().execute(context) if self.phase == "waiting" else None

    def decide(self, answer: dict[str, Any], *, approved: bool) -> None:
        """Let the rollout go on, or put production back on the champion."""
        asked = of_version(self.arguments)
        _rollout(asked["model"], asked["version"]).decide(asked["number"], approved)


def _rollout(model: str, version: int) -> Any:
    from taxiway.stages.roll_out import RollOut

    s = services()
    spec = s.spec(model)
    s.settle(spec)
    return RollOut(spec, version, s.registry, s.target(spec.environments.production), s.clock, s.orders)
