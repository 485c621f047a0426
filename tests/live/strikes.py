"""SIGKILL for the parts of a running installation, and what it takes until a part is back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

from taxiway.errors import TransientError
from taxiway.stages.sandbox import SCRIPTS
from taxiway.supervisor.processes import marked
from tests.live.conftest import LiveInstallation, wait_for

GATEWAY = "gateway-production"


@dataclass(frozen=True, slots=True)
class Outage:
    """From when until when nobody listened (monotonic seconds)."""

    began: float
    ended: float


def kill(pid: int) -> bool:
    """Kill a process at once; tells whether it was there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def kill_programs(installation: LiveInstallation, *names: str) -> Outage:
    """Kill programs of the supervisor and wait until it has brought all of them back."""
    before = installation.programs()
    began = time.monotonic()
    for name in names:
        pid = before[name].pid
        assert pid is not None, f"{name} does not run"
        assert kill(pid), f"{name} has died by itself"
    for name in names:
        wait_for(lambda name=name: _is_back(installation, name, before[name].restarts), f"{name} to be back", poll=0.1)
    return Outage(began, time.monotonic())


def _is_back(installation: LiveInstallation, name: str, restarts: int) -> bool:
    program = installation.programs()[name]
    return program.restarts > restarts and program.phase == "ready"


def kill_scorer(installation: LiveInstallation, model: str, version: int, *, wait: bool = True) -> None:
    """Kill the process that serves a version in production; `wait` until another one is ready."""
    (scorer,) = scorers(installation, model, version)
    assert kill(scorer.pid)
    if wait:
        wait_for(lambda: _has_other_scorer(installation, model, version, scorer.pid), f"{model} {version} to be served")


def scorers(installation: LiveInstallation, model: str, version: int | None = None) -> list[psutil.Process]:
    """Return the processes that serve the model (or one version of it) in production."""
    served = installation.home / "gateways" / "production" / "versions" / model
    prefix = f"{served}/" if version is None else f"{served}/{version}/"
    return [
        process
        for process, command in _sandboxed(installation)
        if _is_server(command) and any(word.startswith(prefix) for word in command)
    ]


def _is_server(command: list[str]) -> bool:
    """Tell whether this is the process that answers, and not the fence around it."""
    return command[1:2] == [str(SCRIPTS / "serve.py")]


def strays(installation: LiveInstallation) -> list[list[str]]:
    """Return the commands of model code whose gateway is dead."""
    gateways = {program.pid for name, program in installation.programs().items() if name.startswith("gateway")}
    found = []
    for process, command in _sandboxed(installation):
        with suppress(psutil.NoSuchProcess):
            if gateways.isdisjoint(parent.pid for parent in process.parents()):
                found.append(command)
    return found


def orphans(installation: LiveInstallation) -> list[list[str]]:
    """Return the commands of what descends from none of the programs that run, such as a task without its worker."""
    kept = {program.pid for program in installation.programs().values()}
    found = []
    for process in marked(installation.home):
        with suppress(psutil.NoSuchProcess):
            if kept.isdisjoint({process.pid, *(parent.pid for parent in process.parents())}):
                found.append(process.cmdline())
    return found


def kill_idle_workers(installation: LiveInstallation) -> None:
    """Kill all of Airflow's workers that wait for a task: one of them is the one whose turn it is."""
    scheduler = psutil.Process(installation.programs()["airflow-scheduler"].pid)
    idle = [child for child in scheduler.children() if _is_worker(child) and "<idle>" in " ".join(child.cmdline())]
    assert [kill(worker.pid) for worker in idle], "no worker waits for a task"


def kill_worker(task: int) -> bool:
    """Kill the worker of Airflow that runs a task; tells whether both were there."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(task)
        worker = process.parent()
        if worker is not None and _is_worker(worker) and not _has_ended(process) and kill(worker.pid):
            wait_for(lambda: _has_ended(process), "the task to end with its worker", seconds=10, poll=0.01)
            return True
    return False


def _has_ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _is_worker(process: psutil.Process) -> bool:
    return " ".join(process.cmdline()).startswith("airflow worker -- LocalExecutor")


def kill_task(
    installation: LiveInstallation, dag_id: str, run_id: str, task_id: str, strike: Callable[[int], bool] = kill
) -> None:
    """Kill the process of a task (or what `strike` makes of it) as soon as it runs; fails when it was too quick."""
    api = installation.airflow()

    def struck() -> bool:
        for task in api.task_instances(dag_id, run_id):
            if task["task_id"] == task_id:
                assert task["state"] != "success", f"{task_id} was too quick to be struck"
                return task["state"] == "running" and task["pid"] is not None and strike(task["pid"])
        return False

    wait_for(struck, f"{task_id} of {run_id} to run", poll=0.02)


@contextmanager
def frozen(installation: LiveInstallation, *names: str) -> Iterator[None]:
    """Stop programs with everything that they started: they are there, and answer nobody, until the block ends."""
    processes = [psutil.Process(program.pid) for name, program in installation.programs().items() if name in names]
    everything = [one for process in processes for one in (process, *process.children(recursive=True))]
    for process in everything:
        with suppress(psutil.NoSuchProcess):  # tasks come and go
            process.suspend()
    try:
        yield
    finally:
        for process in everything:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def _has_other_scorer(installation: LiveInstallation, model: str, version: int, pid: int) -> bool:
    if [process.pid for process in scorers(installation, model, version)] in ([], [pid]):
        return False
    with suppress(TransientError):
        status = installation.services.target("production").status(model)
        return any(seen.version == version and seen.state == "ready" for seen in status.versions)
    return False


def _sandboxed(installation: LiveInstallation) -> Iterator[tuple[psutil.Process, list[str]]]:
    for process in marked(installation.home):
        with suppress(psutil.NoSuchProcess):
            command = process.cmdline()
            if str(SCRIPTS) in " ".join(command):
                yield process, command
