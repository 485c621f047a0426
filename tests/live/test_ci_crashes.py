"""Continuous integration survives SIGKILL: of a task, of its worker, and of MLflow, at each of its stages.

Every stage is struck once where a build is seen to run it; what one build was too quick for, the next is struck at.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

from taxiway.demo.commits import BareRepository, append
from taxiway.stages.candidates import verify
from taxiway.stages.sandbox import SCRIPTS
from taxiway.stages.workspaces import workspace
from taxiway.supervisor.processes import marked
from tests.live.conftest import LiveInstallation, wait_for
from tests.live.repositories_setup import COMMITTED_AT, make_tumours, spec_text, write_tumours

MODEL = "survivors"
ENDED = ("success", "failed")
BUILDS = 3
"""How many rounds of builds may be needed until each stage was caught running."""
_BUILD_SECONDS = 900.0

Strike = Callable[[LiveInstallation, dict[str, Any]], bool]
"""Kills something that the running task needs; tells whether it was there to be killed."""


@dataclass
class Survivors:
    """A tiny model whose builds are struck."""

    installation: LiveInstallation
    repository: BareRepository
    stages: set[str] = field(default_factory=set)

    def build(self, names: list[str], strike: Strike, missing: set[str]) -> None:
        """Build new commits side by side, strike at each of the `missing` stages, and check what came out of it."""
        built = {name: self._start(name) for name in names}
        wait_for(
            lambda: {self._struck(name, strike, missing) for name in names} == {True},
            f"the end of {', '.join(names)}",
            seconds=_BUILD_SECONDS,
            poll=0.05,
        )
        api, dag_id = self.installation.airflow(), f"{MODEL}.ci"
        for name, sha in built.items():
            tasks = {task["task_id"]: task["state"] for task in api.task_instances(dag_id, name)}
            assert api.run(dag_id, name)["state"] == "success", tasks
            self.check(sha)

    def _start(self, name: str) -> str:
        change = append("src/tumours/train.py", f"\n# {name}\n")
        sha = self.repository.commit(f"Change nothing: {name}", change, at=COMMITTED_AT, branch=name, base="main")
        self.installation.airflow().trigger(f"{MODEL}.ci", name, {"ref": name})
        return sha

    def _struck(self, name: str, strike: Strike, missing: set[str]) -> bool:
        """Strike where the build is, when that is still missing; tell whether it has ended."""
        api, dag_id = self.installation.airflow(), f"{MODEL}.ci"
        for task in api.task_instances(dag_id, name):
            self.stages.add(task["task_id"])
            if task["state"] == "running" and task["task_id"] in missing and strike(self.installation, task):
                missing.discard(task["task_id"])
        return api.run(dag_id, name)["state"] in ENDED

    def check(self, sha: str) -> None:
        """The build has exactly one candidate, with the bytes that were judged, and its delivery has begun."""
        registry = self.installation.services.registry
        made = [candidate for candidate in registry.candidates(MODEL) if candidate.tags["taxiway.commit"] == sha]
        assert len(made) == 1, made
        services = self.installation.services
        verify(services.spec(MODEL), made[0], registry=registry, verifier=services.verifier)
        deliveries = {run["dag_run_id"] for run in self.installation.airflow().runs(f"{MODEL}.delivery")}
        assert f"candidate-{made[0].version}" in deliveries


@pytest.fixture(scope="module")
def model(installation: LiveInstallation, tmp_path_factory: pytest.TempPathFactory) -> Survivors:
    """The tiny model; its first commit has been built by the watcher, undisturbed."""
    directory = tmp_path_factory.mktemp("survivors")
    repository = make_tumours(directory / "survivors.git")
    write_tumours(directory / "data")
    # No comparison: equal models in a row are not what is tested here.
    gates = {"metrics": {"roc_auc": {"min": 0.9}}}
    text = spec_text(model=MODEL, repository=repository.url, data=f"file://{directory / 'data'}", gates=gates)
    installation.add_spec(MODEL, text)
    survivors = Survivors(installation, repository)
    api = installation.airflow()
    sha = repository.find("Tell malignant from benign tumours")
    first = f"commit-{sha}"

    def built() -> bool:
        return any(run["dag_run_id"] == first and run["state"] in ENDED for run in api.runs(f"{MODEL}.ci"))

    wait_for(built, f"the end of {first}", seconds=_BUILD_SECONDS)
    assert sha is not None
    survivors.check(sha)
    survivors.stages = {task["task_id"] for task in api.task_instances(f"{MODEL}.ci", first)}
    return survivors


def kill_task(_: LiveInstallation, task: dict[str, Any]) -> bool:
    """Kill the process that runs the task."""
    return task["pid"] is not None and _killed(task["pid"])


def kill_worker(installation: LiveInstallation, task: dict[str, Any]) -> bool:
    """Kill the executor's worker, whose child the task is; the task must not run on without it."""
    if task["pid"] is None:
        return False
    with suppress(psutil.NoSuchProcess):
        worker = psutil.Process(task["pid"]).ppid()
        return worker in {process.pid for process in marked(installation.home)} and _killed(worker)
    return False


def kill_mlflow(installation: LiveInstallation, _: dict[str, Any]) -> bool:
    """Kill MLflow while it answers; the supervisor starts it again."""
    mlflow = installation.programs()["mlflow"]
    return mlflow.phase == "ready" and mlflow.pid is not None and _killed(mlflow.pid)


def _killed(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.timeout(BUILDS * _BUILD_SECONDS)
@pytest.mark.parametrize(
    ("strike", "side_by_side"),
    # The death of a worker is noticed after half a minute: several builds wait for that at the same time.
    [(kill_task, 1), (kill_worker, 3), (kill_mlflow, 1)],
)
def test_a_build_that_is_struck_at_every_stage_makes_exactly_one_candidate(
    model: Survivors, strike: Strike, side_by_side: int
) -> None:
    """Whatever is killed while a stage runs, the run ends well, with one verified candidate and its delivery."""
    missing = set(model.stages)
    for number in range(BUILDS):
        if missing:
            model.build([f"{strike.__name__}-{number}-{one}" for one in range(side_by_side)], strike, missing)

    assert not missing, f"never seen to run: {missing}"


def test_nothing_of_the_killed_is_left(model: Survivors) -> None:
    """Afterwards no command of a model repository runs but the gateways' scorers, and no workspace but theirs stays."""
    gateways = {program.pid for name, program in model.installation.programs().items() if name.startswith("gateway")}
    commands = [process for process in marked(model.installation.home) if str(SCRIPTS) in " ".join(process.cmdline())]
    orphans = [process for process in commands if gateways.isdisjoint(parent.pid for parent in process.parents())]
    assert orphans == []

    with workspace("last") as mine:

        def of_the_gateways() -> bool:
            left = [path.name for path in mine.parent.iterdir() if path != mine]
            return len(left) == len(gateways) and all(name.startswith("serving-") for name in left)

        wait_for(of_the_gateways, f"{mine.parent} to have what the gateways use, and nothing else")
