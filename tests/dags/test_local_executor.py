"""Tasks are handed out, and their results come back, whichever of the workers was killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from taxiway.orchestration.local_executor import LocalExecutor, Queue

_FORK = multiprocessing.get_context("fork")
_SECONDS = 30


def work(tasks: Queue, results: Queue) -> None:
    """Say who took which task, for ever."""
    while True:
        results.put((os.getpid(), tasks.get()))


def die_over_the_result(_: Queue, results: Queue) -> None:
    """Die while nobody else may leave a result."""

    class Fatal:
        def __reduce__(self) -> Any:
            os.kill(os.getpid(), signal.SIGKILL)

    results.put(Fatal())


def die_over_the_count(executor: LocalExecutor) -> None:
    """Die as a worker of the executor does when it is killed while it counts a task."""
    with executor._unread_messages:  # the very thing that Airflow's worker is given
        os.kill(os.getpid(), signal.SIGKILL)


def start(body: Callable[[Queue, Queue], None], tasks: Queue, results: Queue) -> multiprocessing.process.BaseProcess:
    """Start a worker, which ends with the tests."""
    worker = _FORK.Process(target=body, args=(tasks, results), daemon=True)
    worker.start()
    return worker


def result(results: Queue) -> Any:
    """Return the next result; fails when there is none in time."""
    deadline = time.monotonic() + _SECONDS
    while results.empty():
        assert time.monotonic() < deadline, "nobody took the task"
        time.sleep(0.01)
    return results.get()


def is_idle(pid: int) -> bool:
    """Tell whether the executor's worker waits for a task."""
    worker = psutil.Process(pid)
    return "<idle>" in " ".join(worker.cmdline()) and worker.status() == psutil.STATUS_SLEEPING


@pytest.fixture
def queues() -> Iterator[tuple[Queue, Queue]]:
    """The tasks and the results."""
    tasks, results = Queue(), Queue()
    yield tasks, results
    tasks.close()
    results.close()


def test_a_worker_that_is_killed_while_it_waits_leaves_its_place_to_the_next(queues: tuple[Queue, Queue]) -> None:
    """The workers that wait for the next task may die one after the other: it goes to one that is left."""
    tasks, results = queues
    waiting = [start(work, tasks, results) for _ in range(3)]
    for number in range(3):
        tasks.put(number)
        assert result(results) in {(worker.pid, number) for worker in waiting}
    *dead, alive = waiting
    for worker in dead:
        worker.kill()
        worker.join()
    tasks.put("after the deaths")

    assert result(results) == (alive.pid, "after the deaths")
    alive.kill()
    alive.join()


def test_a_worker_that_is_killed_while_it_reports_leaves_its_place_to_the_next(queues: tuple[Queue, Queue]) -> None:
    """A worker that dies over its result keeps nobody from leaving the next one."""
    tasks, results = queues
    start(die_over_the_result, tasks, results).join()
    worker = start(work, tasks, results)
    tasks.put("next")

    assert result(results) == (worker.pid, "next")
    worker.kill()
    worker.join()


def begin_a_task(told: Connection) -> None:
    """Fork as a worker does for its task, say which process that is, and wait, both of them."""
    task = os.fork()
    if task:
        told.send(task)
    signal.pause()


@pytest.mark.timeout(_SECONDS)
def test_a_task_ends_with_its_worker() -> None:
    """The task of a worker that is killed ends at once, so that nothing runs beside its retry."""
    executor = LocalExecutor(parallelism=1)
    executor.start()
    heard, told = multiprocessing.Pipe(duplex=False)
    worker = _FORK.Process(target=begin_a_task, args=(told,))
    worker.start()
    task = psutil.Process(heard.recv())
    worker.kill()
    worker.join()

    with suppress(psutil.NoSuchProcess):
        while task.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
    executor.end()


@pytest.mark.timeout(_SECONDS)
@pytest.mark.parametrize("killed", range(3))
def test_an_executor_reaches_every_worker_that_is_left(killed: int) -> None:
    """Whichever worker is killed, the others hear what comes next: here that they may end."""
    executor = LocalExecutor(parallelism=3)
    executor.start()
    while not all(is_idle(pid) for pid in executor.workers):
        time.sleep(0.01)
    worker = list(executor.workers.values())[killed]
    worker.kill()
    worker.join()
    executor.end()


@pytest.mark.timeout(_SECONDS)
def test_a_worker_that_dies_over_the_count_of_tasks_is_replaced() -> None:
    """A worker may be killed while it counts the task that it took: the executor starts another for what waits."""
    executor = LocalExecutor(parallelism=1)
    executor.start()
    dead = [*executor.workers.values(), _FORK.Process(target=die_over_the_count, args=(executor,))]
    dead[-1].start()
    dead[0].kill()
    for worker in dead:
        worker.join()
    executor.activity_queue.put(None)  # to the next worker: that it may end
    executor.sync()

    (successor,) = executor.workers.values()
    successor.join()
    assert successor.exitcode == 0
    executor.end()


def test_a_task_is_queued_again_only_after_a_worker_died_with_it() -> None:
    """A task that waits for a worker goes on waiting; one that a killed worker took can be queued again."""
    executor = LocalExecutor(parallelism=1)
    executor.start()
    task: Any = SimpleNamespace(queued_dttm=datetime.now(UTC))
    with pytest.raises(NotImplementedError):
        executor.revoke_task(ti=task)

    for worker in executor.workers.values():
        worker.kill()
        worker.join()
    executor.sync()
    executor.revoke_task(ti=task)

    executor.activity_queue.put("another task")
    with pytest.raises(NotImplementedError):
        executor.revoke_task(ti=task)
    executor.activity_queue.get()
    with pytest.raises(NotImplementedError):
        executor.revoke_task(ti=SimpleNamespace(queued_dttm=datetime.now(UTC)))
    executor.end()
