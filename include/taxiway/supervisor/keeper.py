"""Keeps one program running: starts it, sees when it is ready, starts it again when it dies, exchanges it, stops it."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from taxiway.errors import SettingsError
from taxiway.stages.process_tree import describe_exit
from taxiway.supervisor.probing import Prober
from taxiway.supervisor.processes import listen, sweep_orphans
from taxiway.supervisor.programs import Program
from taxiway.supervisor.state import ProgramState
from taxiway.supervisor.successor import SERVING, WARM, WARM_SECONDS, Successor, start_successor

MAX_DEATHS = 5
DEATHS_WINDOW = 60.0
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_LOG_LIMIT = 20 * 1024 * 1024
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_logger = logging.getLogger(__name__)


class Registrar:
    """Knows the pids that are kept, and lets nobody start a process while orphans are swept."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.changing = asyncio.Lock()
        self.pids: set[int] = set()

    async def clear_after(self, pid: int) -> None:
        """Kill what a dead program left behind: its group, and descendants that went elsewhere."""
        async with self.changing:
            self.pids.discard(pid)
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            sweep_orphans(self._home, self.pids)


class Keeper:
    """Runs one program until `stop`; `report` hears of every change of its state."""

    def __init__(
        self,
        program: Program,
        log: Path,
        *,
        registrar: Registrar,
        prober: Prober,
        report: Callable[[ProgramState], None],
    ) -> None:
        self.program = program
        self.ready = asyncio.Event()
        self._log = log
        self._registrar = registrar
        self._prober = prober
        self._report = report
        self._state = ProgramState()
        self._process: asyncio.subprocess.Process | None = None
        self._listener: socket.socket | None = None
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)
        self._exchange: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._stopping = False

    async def run(self, after: list[Keeper]) -> None:
        """Keep the program running; raises SettingsError when it cannot be brought up the first time."""
        self._show(phase="waiting", detail=", ".join(keeper.program.name for keeper in after))
        for keeper in after:
            await keeper.ready.wait()
        while not self._stopping:
            code = await self._run_once()
            if self.program.probe is None and code == 0:
                return
            if not self._stopping:
                await self._ended(code)

    async def stop(self) -> None:
        """Stop the program and everything it started: TERM, after its grace KILL."""
        self._stopping = True
        if self._listener is not None:
            self._listener.close()
        if self._exchange is not None:
            self._exchange.cancel()
            await asyncio.wait({self._exchange})
        process = self._process
        if process is not None and process.returncode is None:
            self._show(phase="stopping", detail="")
            await self._end(process)
        if self._leaving is not None:
            await self._leaving
        self._show(phase="stopped", detail="", pid=None)

    def exchange(self) -> None:
        """Have a successor load beside the process, and take over when it is ready; the state tells how that ended."""
        if self._exchange is None:
            self._exchange = asyncio.create_task(self._exchanged())

    def kill(self) -> None:
        """End the program's processes at once; `stop`, which waits for it, clears up the rest."""
        for pid in (self._state.pid, self._state.beside):
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    async def _run_once(self) -> int:
        started, since = time.monotonic(), datetime.now(UTC)
        self._process = process = await self._start({})
        self._show(phase="starting", pid=process.pid, detail="")
        ready = asyncio.create_task(self._becomes_ready(since, started))
        try:
            code = await self._outlived()
        finally:
            ready.cancel()
        if self.program.stamp and code == 0:
            self.program.stamp.touch()
            self._is_ready(time.monotonic() - started)
        return code

    async def _outlived(self) -> int:
        """Return the process's exit code when it has ended and no successor has taken over."""
        while True:
            process = self._process
            assert process is not None  # noqa: S101 (it was started)
            code = await process.wait()
            if self._exchange is not None:
                if process is self._process:
                    self._show(phase="starting", pid=None)
                await asyncio.wait({self._exchange})
            if process is self._process:
                return code

    async def _exchanged(self) -> None:
        """Exchange the process, and tell how that ended."""
        try:
            refusal = await self._hand_over()
        except OSError as error:
            refusal = f"no successor can be started: {error}"
        finally:
            self._exchange = None
        if refusal:
            _logger.warning("%s was not exchanged: %s", self.program.name, refusal)
        self._show(exchanges=self._state.exchanges + 1, refusal=refusal)

    async def _hand_over(self) -> str:
        """Start a successor, and put it in the place of the process; return why that cannot be done, or nothing."""
        if self._leaving is not None:
            await self._leaving
        old, started = self._process, time.monotonic()
        if self._listener is None or old is None or self._state.phase != "ready":
            return f"it is {self._state.phase}" if self._listener else "it has no socket to hand on"
        successor = await start_successor(self._start)
        self._show(beside=successor.process.pid)
        try:
            problem = await successor.says(WARM, WARM_SECONDS)
            if problem:
                follows = "the old one serves on" if old.returncode is None else "another process starts"
                return f"{problem}; {follows}"
            successor.go()
            self._leaving = asyncio.create_task(self._leave(old))
            problem = await successor.says(SERVING, 2 * self.program.grace)  # the old one is killed after its grace
            if problem:
                return f"{problem}; another process starts"
            self._adopt(successor, old, time.monotonic() - started)
            return ""
        finally:
            successor.close()
            if self._process is old:
                self._show(beside=None)
                await self._end(successor.process, grace=0)

    def _adopt(self, successor: Successor, old: asyncio.subprocess.Process, seconds: float) -> None:
        _logger.info("%s runs in a new process after %.1f s", self.program.name, seconds)
        self._process = successor.process
        self._show(
            phase="ready",
            pid=successor.process.pid,
            beside=old.pid if old.returncode is None else None,
            detail="",
            seconds=round(seconds, 1),
            restarts=self._state.restarts + (old.returncode not in (None, 0)),  # it died while its successor loaded
        )

    async def _leave(self, process: asyncio.subprocess.Process) -> None:
        """End a process in whose place another one serves."""
        await self._end(process)
        self._leaving = None
        if self._state.beside == process.pid:
            self._show(beside=None)

    async def _end(self, process: asyncio.subprocess.Process, *, grace: float | None = None) -> None:
        """End a process and everything it started: TERM, after the grace KILL."""
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), self.program.grace if grace is None else grace)
        await self._registrar.clear_after(process.pid)
        code = await process.wait()
        _logger.info("%s (pid %d) stopped (%s)", self.program.name, process.pid, describe_exit(code))

    async def _start(self, handed: Mapping[str, int]) -> asyncio.subprocess.Process:
        """Start a process with the listening socket, and what else it is handed: descriptors by option."""
        rotate(self._log)
        if self.program.port is not None and self._listener is None:
            self._listener = listen(self.program.port)
        listening = {} if self._listener is None else {"--fd": self._listener.fileno()}
        descriptors = {**listening, **handed}
        async with self._registrar.changing:
            with self._log.open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *self.program.command,
                    *(word for option, number in descriptors.items() for word in (option, str(number))),
                    pass_fds=tuple(descriptors.values()),
                    env=dict(self.program.environment),
                    cwd=self._log.parent,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=None if self.program.outlives else _die_with_parent,
                )
            self._registrar.pids.add(process.pid)
        return process

    async def _becomes_ready(self, since: datetime, started: float) -> None:
        if self.program.probe is None:
            return
        await self._prober.wait_until_ready(self.program.probe, since)
        self._is_ready(time.monotonic() - started)

    def _is_ready(self, seconds: float) -> None:
        _logger.info("%s is ready after %.1f s", self.program.name, seconds)
        self._show(phase="done" if self.program.probe is None else "ready", seconds=round(seconds, 1))
        self.ready.set()

    async def _ended(self, code: int) -> None:
        """Return when the next process may start: at once after one that was asked to end, for connections wait."""
        if code != 0 or self.program.port is None or self._state.phase != "ready":
            await self._died(code)
        elif self._process is not None:
            self._registrar.pids.discard(self._process.pid)
            _logger.info("%s has ended in order; the next process starts", self.program.name)
            self._show(phase="starting", pid=None, detail="")

    async def _died(self, code: int) -> None:
        """Clear up, then wait before the next start: longer from death to death within a minute."""
        if self._process is not None:
            await self._registrar.clear_after(self._process.pid)
        now = time.monotonic()
        self._deaths.append(now)
        recent = sum(now - death < DEATHS_WINDOW for death in self._deaths)
        reason = f"died ({describe_exit(code)})"
        if recent >= MAX_DEATHS or self.program.probe is None:
            self._give_up_unless_it_ran(reason)
        pause = _LONGEST_PAUSE if recent >= MAX_DEATHS else _FIRST_PAUSE * 2 ** (recent - 1)
        _logger.warning("%s %s; next start in %g s", self.program.name, reason, pause)
        self._show(phase="down", pid=None, restarts=self._state.restarts + 1, detail=f"{reason}, starts in {pause:g} s")
        await asyncio.sleep(pause)

    def _give_up_unless_it_ran(self, reason: str) -> None:
        times = "" if self.program.probe is None else f" {MAX_DEATHS} times within a minute"
        message = f"{self.program.name} {reason}{times}: {last_line(self._log)}"
        _logger.error("%s; see %s", message, self._log)
        if not self.ready.is_set():
            raise SettingsError(message, where=str(self._log), next_step="read the log, then `taxiway up` again.")

    def _show(self, **changes: object) -> None:
        self._state = replace(self._state, **changes)  # type: ignore[arg-type]
        self._report(self._state)


def rotate(log: Path) -> None:
    """Move a log that has grown too large out of the way; one old file is kept."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_name(f"{log.name}.1"))


def last_line(log: Path) -> str:
    """Return the last line of a log that says something."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it wrote nothing to its log"


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
