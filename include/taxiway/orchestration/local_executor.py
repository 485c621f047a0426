"""Airflow's LocalExecutor, which also outlives its own workers.

A worker that is killed takes the lock of multiprocessing's queue with it: then no other worker is ever given a task
again, while every program looks healthy. A task that it had taken but not begun stays queued for ever, and one that
runs goes on beside its own retry.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import cache
from multiprocessing import Pipe
from tempfile import TemporaryFile
from typing import Any

from airflow.executors import local_executor

_HEAD, _TAIL = 0, 1  # bytes of the lock file
_PR_SET_PDEATHSIG = 1


class Queue:
    """What processes hand to each other; one that is killed at either end makes room for the next.

    Its locks belong to the kernel, which takes them back from the dead. Forked processes share it; threads may not.
    """

    def __init__(self) -> None:
        self._reader, self._writer = Pipe(duplex=False)
        self._locks = TemporaryFile()  # noqa: SIM115 (it lives as long as the queue)

    def put(self, item: Any) -> None:
        """Add an item at the end."""
        with self._turn(_TAIL):
            self._writer.send(item)

    def get(self) -> Any:
        """Take the first item; wait for one."""
        with self._turn(_HEAD):
            return self._reader.recv()

    def empty(self) -> bool:
        """Tell whether there is nothing to take."""
        return not self._reader.poll()

    def close(self) -> None:
        """Close it in this process."""
        for file in (self._reader, self._writer, self._locks):
            file.close()

    @contextmanager
    def _turn(self, end: int) -> Iterator[None]:
        fcntl.lockf(self._locks, fcntl.LOCK_EX, 1, end)
        try:
            yield
        finally:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, end)


class Unread(nullcontext[None]):
    """Stands for Airflow's number of tasks that no worker has taken, whose lock a worker that is killed would keep.

    Each process has its own. The scheduler's only grows, from one: it always asks the queue whether a task waits.
    """

    value = 1


class LocalExecutor(local_executor.LocalExecutor):
    """Goes on with the tasks whichever worker is killed, and whenever.

    Airflow takes an executor for one of this machine by the name of its class.
    """

    last_death = datetime.min.replace(tzinfo=UTC)

    def start(self) -> None:
        """Start the workers: they and their tasks end with the one that started them."""
        _bind_forks_to_their_parents()
        super().start()

    def _spawn_workers_with_gc_freeze(self, spawn_number: int) -> None:
        """Give the workers, before there are any, queues and a count that they cannot block."""
        if not isinstance(self.activity_queue, Queue):
            self.activity_queue: Any = Queue()
            self.result_queue: Any = Queue()
            self._unread_messages: Any = Unread()
        super()._spawn_workers_with_gc_freeze(spawn_number)  # type: ignore[no-untyped-call]

    def _check_workers(self) -> None:
        """Note when a worker died."""
        if any(not worker.is_alive() for worker in self.workers.values()):
            self.last_death = datetime.now(UTC)
        super()._check_workers()  # type: ignore[no-untyped-call]

    def revoke_task(self, *, ti: Any) -> None:
        """Let Airflow queue a task again that a dead worker took and did not begin; raise for one that waits its turn.

        Airflow asks this of tasks that are queued for long, and takes NotImplementedError for no.
        """
        if not self.activity_queue.empty() or ti.queued_dttm > self.last_death:
            raise NotImplementedError


@cache
def _bind_forks_to_their_parents() -> None:
    """Have the kernel kill, from now on, what this process forks, and what that forks, with its parent (Linux only)."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def remember() -> None:
        nonlocal parent
        parent = os.getpid()

    def bind() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os.kill(os.getpid(), signal.SIGKILL)

    os.register_at_fork(before=remember, after_in_child=bind)
