"""The people of the demo, through the same API as real ones: they look at the tasks, sign off, approve."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from taxiway.adapters.airflow_api import AirflowApi
from taxiway.demo.view import View
from taxiway.errors import DeliveryStopped, NotFoundError, OrchestratorUnavailable
from taxiway.spec import ModelSpec

_POLL_SECONDS = 1.0
# Airflow 3.3 can lose an answer that arrives in the very moment in which the task begins to wait, and asks again.
_SETTLE_SECONDS = 3.0
_ENDED = ("success", "failed")
_SIGN_OFFS, _APPROVAL, _ROLLOUT_QUESTION = "wait_for_sign_offs", "ask_for_approval", "rollout.decide_"


@dataclass(slots=True)
class Followed:
    """A run that has ended: its state, and seconds per task."""

    state: str
    seconds: dict[str, float]
    states: dict[str, str]


def _nothing() -> None:
    """Do nothing beside the following."""


@dataclass(slots=True)
class People:
    """Follows runs in Airflow and acts as the named testers and the approver; `interactive` leaves that to people."""

    spec: ModelSpec
    api: AirflowApi
    logins: Mapping[str, AirflowApi]
    view: View
    interactive: bool = False
    _waiting_since: dict[str, float] = field(default_factory=dict)

    def start(self, kind: str, run_id: str, conf: Mapping[str, Any]) -> Followed:
        """Start the run, unless an earlier demo did, and follow it to its success."""
        self.api.trigger(f"{self.spec.model}.{kind}", run_id, conf)
        return self.expect(kind, run_id)

    def follow(
        self, kind: str, run_id: str, *, timeout: float = 900, beside: Callable[[], None] = _nothing
    ) -> Followed:
        """Wait until the run has ended, acting where a delivery waits for people, and calling `beside` at each look.

        Raises OrchestratorUnavailable when it does not end within `timeout` seconds (people may take their time).
        """
        dag_id = f"{self.spec.model}.{kind}"
        deadline = time.monotonic() + timeout
        while True:
            state, tasks = self._look(dag_id, run_id)
            self.view.show_run(f"{dag_id} {run_id}", _shown(tasks))
            beside()
            if state in _ENDED:
                return _followed(state, tasks)
            if kind == "delivery":
                waiting = self._act(dag_id, run_id, tasks)
                deadline = time.monotonic() + timeout if waiting and self.interactive else deadline
            if time.monotonic() > deadline:
                raise OrchestratorUnavailable(
                    f"the run did not end within {timeout:g} s (it is {state or 'not there'})",
                    where=f"{dag_id} {run_id}",
                    next_step="look at it in the Airflow UI, then run the demo again: it goes on from there.",
                )
            time.sleep(_POLL_SECONDS)

    def expect(self, kind: str, run_id: str, *, beside: Callable[[], None] = _nothing) -> Followed:
        """Follow the run to its success; one that failed in an earlier demo is tried again.

        Raises DeliveryStopped when it did not succeed.
        """
        dag_id = f"{self.spec.model}.{kind}"
        if self._look(dag_id, run_id)[0] == "failed":
            self.api.retry(dag_id, run_id)
        followed = self.follow(kind, run_id, beside=beside)
        if followed.state != "success":
            failed = [task for task, state in followed.states.items() if state == "failed"]
            raise DeliveryStopped(
                f"the run ended as {followed.state} (failed: {', '.join(failed) or 'none'})",
                where=f"{dag_id} {run_id}",
                next_step="its tasks' logs in the Airflow UI say why.",
            )
        return followed

    def _look(self, dag_id: str, run_id: str) -> tuple[str | None, list[dict[str, Any]]]:
        try:
            run = self.api.run(dag_id, run_id)
        except NotFoundError:
            return None, []
        tasks = sorted(self.api.task_instances(dag_id, run_id), key=lambda task: task["start_date"] or "9")
        return run["state"], tasks

    def _act(self, dag_id: str, run_id: str, tasks: list[dict[str, Any]]) -> bool:
        """Do what people do at the step that waits; returns whether one waits."""
        waiting = next((task for task in tasks if _is_for_people(task)), None)
        if waiting is None:
            return False
        step = str(waiting["task_id"])
        key = f"{run_id} {step} {waiting['try_number']}"
        if key not in self._waiting_since:
            self._waiting_since[key] = time.monotonic()
            if self.interactive:
                self.view.note(self._invitation(step, run_id))
        settled = time.monotonic() - self._waiting_since[key] > _SETTLE_SECONDS
        if not self.interactive and settled:
            self._waiting_since[key] = float("inf")
            self._sign_off(run_id) if step == _SIGN_OFFS else self._approve(dag_id, run_id, step)
        return True

    def _invitation(self, step: str, run_id: str) -> str:
        """Tell a person who may act, and where; the passwords are no text for a screen."""
        if step == _SIGN_OFFS:
            people, page = self.spec.uat.testers, f"{self.api.url}/plugin/taxiway"
        else:
            people, page = self.spec.approval.approvers, f"{self.api.url}/required_actions"
        login = f"log in as {' or '.join(people)} (`taxiway status --secrets`)"
        return f"{step} of {run_id} waits for you at {page}; {login}"

    def _sign_off(self, run_id: str) -> None:
        version = run_id.removeprefix("candidate-")
        path = f"/taxiway/api/models/{self.spec.model}/versions/{version}/sign-offs/me"
        for tester in self.spec.uat.testers[: self.spec.uat.quorum]:
            answer = {"accepted": True, "rating": 4, "comments": "The cases look plausible."}
            self.logins[tester].put(path, answer)
            self.view.note(f"{tester} signs off version {version}")

    def _approve(self, dag_id: str, run_id: str, step: str) -> None:
        approver = self.spec.approval.approvers[0]
        form = {"comment": "Approved as the demo's release manager."}
        self.logins[approver].approve(dag_id, run_id, step, "Approve", form)
        self.view.note(f"{approver} approves {run_id}")


def _is_for_people(task: Mapping[str, Any]) -> bool:
    """Tell whether the task waits for sign-offs, or asks the release manager (about the release, or the rollout)."""
    name = str(task["task_id"])
    return task["state"] == "deferred" and (name in (_SIGN_OFFS, _APPROVAL) or name.startswith(_ROLLOUT_QUESTION))


def _shown(tasks: list[dict[str, Any]]) -> dict[str, str]:
    """Return the state of each task; a question about the rollout that nobody was asked is no news."""
    states = {str(task["task_id"]): str(task["state"] or "") for task in tasks}
    return {
        name: state for name, state in states.items() if not name.startswith(_ROLLOUT_QUESTION) or state == "deferred"
    }


def _followed(state: str, tasks: list[dict[str, Any]]) -> Followed:
    seconds = {task["task_id"]: round(task["duration"] or 0.0, 1) for task in tasks if task["duration"] is not None}
    return Followed(state, seconds, {task["task_id"]: task["state"] or "" for task in tasks})
