"""A model in a running installation: its runs, and the people who act on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.live.conftest import LiveInstallation, wait_for

ENDED = ("success", "failed")


@dataclass
class LiveModel:
    """One model; `name` is that of its spec."""

    installation: LiveInstallation
    name: str

    def run(self, kind: str, run_id: str, *, model: str | None = None) -> dict[str, Any]:
        """Wait until a run has ended and return its state, and the state of each task."""
        api, dag_id = self.installation.airflow(), f"{model or self.name}.{kind}"
        known = wait_for(lambda: [run for run in api.runs(dag_id) if run["dag_run_id"] == run_id], f"{dag_id} {run_id}")
        assert known
        run = wait_for(lambda: self._ended(dag_id, run_id), f"the end of {dag_id} {run_id}", seconds=600)
        tasks = {task["task_id"]: task for task in api.task_instances(dag_id, run_id)}
        return {"state": run["state"], "tasks": {name: task["state"] for name, task in tasks.items()}}

    def _ended(self, dag_id: str, run_id: str) -> dict[str, Any] | None:
        run = self.installation.airflow().run(dag_id, run_id)
        return run if run["state"] in ENDED else None

    def log(self, kind: str, run_id: str, task: str, *, model: str | None = None) -> str:
        """Return the log of a task's first try."""
        return self.installation.airflow().task_log(f"{model or self.name}.{kind}", run_id, task, 1)

    def asks(self, run_id: str, task: str) -> None:
        """Wait until a task of a delivery waits for people."""
        api = self.installation.airflow()

        def look() -> bool:
            tasks = api.task_instances(f"{self.name}.delivery", run_id)
            return any(item["task_id"] == task and item["state"] == "deferred" for item in tasks)

        wait_for(look, f"{task} of {run_id} to wait for people", seconds=600)

    def let_into_production(self, version: int) -> None:
        """Sign the version off as ana and approve it as dana, as soon as it is their turn."""
        self.sign_off(version)
        self.decide(f"candidate-{version}", "ask_for_approval", "Approve")

    def sign_off(self, version: int) -> None:
        """Sign the version off as ana, as soon as it is her turn."""
        self.asks(f"candidate-{version}", "wait_for_sign_offs")
        answer = {"accepted": True, "rating": 5, "comments": "plausible"}
        path = f"/taxiway/api/models/{self.name}/versions/{version}/sign-offs/me"
        self.installation.airflow("ana").put(path, answer)

    def decide(self, run_id: str, task: str, answer: str) -> None:
        """Answer a question of a delivery as dana, and again when Airflow lost the answer and asks once more."""
        self.asks(run_id, task)
        wait_for(lambda: self._answered(run_id, task, answer), f"an answer to {task} of {run_id}", seconds=300)

    def _answered(self, run_id: str, task: str, answer: str) -> bool:
        dag_id, api = f"{self.name}.delivery", self.installation.airflow("dana")
        asked = next(item for item in api.task_instances(dag_id, run_id) if item["task_id"] == task)
        if asked["state"] == "deferred":
            api.approve(dag_id, run_id, task, answer, {"comment": "go"})
        return asked["state"] in ENDED

    def champion(self) -> int | None:
        """Return the version that the champion alias points to."""
        found = self.installation.services.registry.by_alias(self.name, "champion")
        return found.version if found else None
