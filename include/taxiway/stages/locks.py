"""File locks between processes of one machine."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_PAUSE = 0.05  # seconds; the kernel has no lock with a deadline


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file until the block ends; others wait. A killed holder releases it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def exclusive_within(path: Path, seconds: float) -> Iterator[bool]:
    """Hold the lock file until the block ends; tells False when its holder did not let go in time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    with path.open("w") as file:
        while not (held := _locked(file)) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        yield held


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
