"""What one command may use, and which of its limits it has met."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil

from taxiway.stages import process_tree

_SIGNALLED = 128  # exit codes above it: killed by signal (code - 128), as a shell tells it


@dataclass(frozen=True, slots=True)
class CommandLimits:
    """What one command may use, all its processes together; `memory_mb` also bounds the address space of each.

    `disk_mb` counts what it writes anywhere; of its output the last `log_kb` are kept, and the rest is nowhere stored.
    """

    wall: timedelta
    memory_mb: int
    log_kb: int
    cpu: timedelta = timedelta(hours=4)
    processes: int = 256
    disk_mb: int = 10240


def exceeded(root: psutil.Process | None, limits: CommandLimits, directories: Sequence[Path]) -> str | None:
    """Name the limit that the descendants of the root process and the directories exceed now."""
    if root is None:
        return None
    used = process_tree.usage(root, directories)
    if used.processes > limits.processes:
        return f"{limits.processes} processes"
    if used.cpu_seconds > limits.cpu.total_seconds():
        return _cpu_limit(limits)
    if used.disk_mb > limits.disk_mb:
        return f"{limits.disk_mb} MB of disk"
    if used.memory_mb > limits.memory_mb and process_tree.exact_memory_mb(root) > limits.memory_mb:
        return f"{limits.memory_mb} MB of memory"
    return None


def exit_code(code: int) -> int:
    """Return the code of the command, negative for a signal, as Python's own subprocesses tell it."""
    return _SIGNALLED - code if _SIGNALLED < code < _SIGNALLED + signal.NSIG else code


def kernel_limit(code: int, limits: CommandLimits) -> str | None:
    """Name the limit at which the kernel itself stopped the command with this exit code."""
    named = {signal.SIGXCPU: _cpu_limit(limits), signal.SIGXFSZ: f"{limits.disk_mb} MB of disk"}
    return named.get(signal.Signals(-exit_code(code))) if exit_code(code) < 0 else None


def _cpu_limit(limits: CommandLimits) -> str:
    return f"CPU time of {limits.cpu.total_seconds():g} s"
