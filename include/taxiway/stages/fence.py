"""Composes how untrusted code is started: what it sees, where bubblewrap works, and the kernel's limits inside."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from taxiway.stages import bubblewrap
from taxiway.stages.command_limits import CommandLimits

SCRIPTS = Path(__file__).resolve().parents[1] / "sandbox"

_MEGABYTE = 1024 * 1024
_THREADS_PER_PROCESS = 16  # the kernel counts threads as processes


def view_of(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    tmp: Path,
    limits: CommandLimits,
    reads: Sequence[Path] = (),
    writes: Sequence[Path] = (),
) -> bubblewrap.View | None:
    """Return what the command sees: its interpreter, `reads`, `writes` and no more; None without bubblewrap."""
    if bubblewrap.problem() is not None:
        return None
    return bubblewrap.View(
        cwd=cwd,
        tmp=tmp,
        reads=(SCRIPTS, *_interpreters(command), *reads),
        writes=(cwd, *writes),
        shared_memory_mb=limits.memory_mb // 4,
    )


def fenced(
    command: Sequence[str | Path], view: bubblewrap.View | None, limits: CommandLimits, *, info_fd: int | None = None
) -> list[str]:
    """Return the command behind the fence of the view and the script that sets the kernel's limits inside it.

    Without a view there are the limits alone, and a parent that ends what the command leaves behind.
    """
    fence = bubblewrap.command_line(view, info_fd=info_fd) if view is not None else []
    return [*fence, *_limited(command, limits, confined=view is not None)]


def _limited(command: Sequence[str | Path], limits: CommandLimits, *, confined: bool) -> list[str]:
    memory, disk = limits.memory_mb * _MEGABYTE, limits.disk_mb * _MEGABYTE
    cpu = int(limits.cpu.total_seconds()) + 1  # of each process; the watch sums them up
    bounds = [f"CPU={cpu}", f"FSIZE={disk}", "CORE=0"]
    if sys.platform == "linux":
        bounds.append(f"AS={memory}")
    if confined:  # counted in the sandbox's own user namespace; elsewhere everything of this user would count
        bounds.append(f"NPROC={limits.processes * _THREADS_PER_PROCESS}")
    python = str(Path(sys.executable).resolve())
    words = [python, "-I", "-S", str(SCRIPTS / "start.py"), "exec" if confined else "reap", *bounds, "--"]
    return [*words, *(str(part) for part in command)]


def _interpreters(command: Sequence[str | Path]) -> Iterator[Path]:
    yield Path(sys.base_prefix)
    for python in (Path(sys.executable).resolve(), Path(command[0])):
        yield from bubblewrap.interpreter_files(python)
