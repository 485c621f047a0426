"""What the supervisor tells other processes: its lock, and its state as a small JSON file."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Literal

from taxiway.errors import SettingsError

Phase = Literal["starting", "running", "stopping", "stopped", "failed"]
ProgramPhase = Literal["waiting", "starting", "ready", "down", "stopping", "stopped", "done"]
_STATE = "supervisor.json"
_LOCK = "supervisor.lock"
_LOCK_ATTEMPTS, _LOCK_PAUSE = 5, 0.05


@dataclass(frozen=True, slots=True)
class ProgramState:
    """One program: `detail` says what it waits for or why it went down; `seconds` is how long its start took.

    `beside` is its second process while it is exchanged: the successor, and after the hand-over the one that leaves.
    `exchanges` counts those that were ordered and are over; `refusal` says why the last one came to nothing.
    """

    phase: ProgramPhase = "waiting"
    pid: int | None = None
    restarts: int = 0
    detail: str = ""
    seconds: float | None = None
    beside: int | None = None
    exchanges: int = 0
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class SupervisorState:
    """The supervisor and its programs in start order."""

    pid: int
    phase: Phase = "starting"
    error: str = ""
    programs: Mapping[str, ProgramState] = field(default_factory=dict)

    def with_program(self, name: str, state: ProgramState) -> SupervisorState:
        """Return the state with one program changed."""
        return replace(self, programs={**self.programs, name: state})


def write_state(run: Path, state: SupervisorState) -> None:
    """Replace the state file in one step."""
    part = run / f"{_STATE}.part"
    part.write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")
    part.replace(run / _STATE)


def read_state(run: Path) -> SupervisorState | None:
    """Return the last written state, or None when there is none."""
    try:
        document = json.loads((run / _STATE).read_text(encoding="utf-8"))
        programs = {name: ProgramState(**item) for name, item in document.pop("programs").items()}
        return SupervisorState(**document, programs=programs)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def supervisor_lock(run: Path) -> Iterator[None]:
    """Be the only supervisor of the installation; raises SettingsError when there is one already.

    The kernel drops the lock when its holder dies, however it dies.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / _LOCK).open("a") as file:
        if not any(_locked(file) for _ in range(_LOCK_ATTEMPTS)):
            raise SettingsError("Taxiway is already up", where=str(run.parent), next_step="`taxiway down` stops it.")
        yield


def _locked(file: IO[str]) -> bool:
    """Try to take the lock; a look by `is_supervised` holds it for an instant, so a refusal takes its time."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(_LOCK_PAUSE)
        return False
    return True


def is_supervised(run: Path) -> bool:
    """Tell whether a supervisor holds the lock of the installation."""
    path = run / _LOCK
    if not path.exists():
        return False
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
