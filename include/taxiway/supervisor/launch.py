"""Starts the supervisor in this process or in the background, and stops it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from taxiway.errors import SettingsError
from taxiway.supervisor.display import StartDisplay
from taxiway.supervisor.installation import Installation
from taxiway.supervisor.keeper import last_line, rotate
from taxiway.supervisor.orders import order_exchange
from taxiway.supervisor.processes import sweep
from taxiway.supervisor.programs import GATEWAYS
from taxiway.supervisor.runner import supervise
from taxiway.supervisor.state import SupervisorState, is_supervised, read_state

SUPERVISOR = "supervisor"
START_LIMIT = 600.0
RELOAD_LIMIT = 300.0  # more than the supervisor gives the successor
_STOP_LIMIT = 90.0
_POLL = 0.25


@dataclass(frozen=True, slots=True)
class Stopped:
    """What `stop` found: whether a supervisor ran, and how many processes had to be ended besides."""

    supervised: bool
    swept: int


def log_events(installation: Installation) -> None:
    """Write what the supervisor does to `logs/supervisor.log`."""
    log = installation.log(SUPERVISOR)
    rotate(log)
    handler = logging.FileHandler(log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("taxiway.supervisor")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def start_detached(installation: Installation, inherited: Mapping[str, str], display: StartDisplay) -> None:
    """Start a supervisor in a session of its own and return once everything is ready; follow one that runs already.

    Raises SettingsError with the supervisor's reason when it gives up or takes longer than START_LIMIT.
    """
    running = read_state(installation.run) if is_supervised(installation.run) else None
    supervisor = running.pid if running else _spawn(installation, inherited)
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        ended = not _runs(supervisor)
        state = read_state(installation.run)
        if state is not None and state.pid == supervisor:
            display.show(state)
            if state.phase == "running":
                return
        if ended:
            raise _failure(installation, state, supervisor)
        time.sleep(_POLL)
    stop(installation)
    where = str(installation.log(SUPERVISOR))
    raise SettingsError(f"Taxiway was not up after {START_LIMIT:g} s, and was stopped", where=where)


def start_attached(installation: Installation, inherited: Mapping[str, str], display: StartDisplay) -> None:
    """Supervise in this process until a signal; raises what `supervise` raises."""
    log_events(installation)
    supervise(installation, inherited, display.show)


def stop(installation: Installation) -> Stopped:
    """Stop the supervisor and sweep whatever is left; nothing happens when nothing runs."""
    supervised = is_supervised(installation.run)
    state = read_state(installation.run)
    if supervised and state is not None:
        _terminate(installation, state.pid)
    return Stopped(supervised, sweep(installation.home))


def reload(installation: Installation, environment: str) -> float:
    """Exchange the gateway's process for a new one without a failed request; return how many seconds it took.

    The supervisor has a successor load beside the old process, and hands over when it is ready. Raises SettingsError
    when there is no such gateway, it is not ready, or the successor cannot take over: then the old process serves on.
    """
    name = f"gateway-{environment}"
    state = read_state(installation.run) if is_supervised(installation.run) else None
    if state is None:
        raise SettingsError("Taxiway is not up", where=str(installation.home), next_step="start it with `taxiway up`.")
    before = state.programs.get(name)
    if before is None:
        raise SettingsError(f"there is no gateway of {environment!r}; known: {', '.join(GATEWAYS)}")
    if before.phase != "ready":
        raise SettingsError(f"the gateway of {environment} is {before.phase} already", where=f"{name} {before.detail}")
    began = time.monotonic()
    order_exchange(installation.run, name)
    while time.monotonic() < began + RELOAD_LIMIT and is_supervised(installation.run):
        state = read_state(installation.run)
        now = state.programs.get(name, before) if state else before
        if now.exchanges > before.exchanges:
            if now.refusal:
                raise _not_exchanged(installation, environment, now.refusal)
            return time.monotonic() - began
        time.sleep(_POLL)
    raise _not_exchanged(installation, environment, "the supervisor did not say in time how it ended")


def _not_exchanged(installation: Installation, environment: str, reason: str) -> SettingsError:
    return SettingsError(
        f"the gateway of {environment} was not exchanged: {reason}",
        where=str(installation.log(f"gateway-{environment}")),
        next_step="`taxiway status` shows what serves; correct the reason, then reload again.",
    )


def _terminate(installation: Installation, pid: int) -> None:
    """Ask the supervisor to stop, wait for its lock, and kill it when it does not let go."""
    try:
        supervisor = psutil.Process(pid)
        supervisor.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_LIMIT
        while is_supervised(installation.run):
            if time.monotonic() > deadline:
                supervisor.kill()
                return
            time.sleep(_POLL)
    except psutil.NoSuchProcess:
        return  # it has ended by itself


def _spawn(installation: Installation, inherited: Mapping[str, str]) -> int:
    """Start a supervisor in a session of its own, with its output in the log; return its pid."""
    log = installation.log(SUPERVISOR)
    rotate(log)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "taxiway.supervisor", "--home", str(installation.home)],
        inherited,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _failure(installation: Installation, state: SupervisorState | None, pid: int) -> SettingsError:
    log = installation.log(SUPERVISOR)
    if state is None or state.pid != pid:
        return SettingsError(f"the supervisor ended at once: {last_line(log)}", where=str(log))
    return SettingsError(state.error or "Taxiway was stopped while it started", where=str(log))
