"""Measures and ends all processes of a sandbox: the descendants of its root process, whatever group they are in.

And says how a process has ended.
"""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_MEGABYTE = 1024 * 1024
_SMALLEST_FILE = 4096  # an empty file still takes a place in the file system
_BLOCK = 512  # the unit of st_blocks
_ROUNDS, _PATIENCE_SECONDS = 20, 1.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes and directories of a sandbox use now; `memory_mb` counts shared pages in each process."""

    processes: int
    cpu_seconds: float
    memory_mb: float
    disk_mb: float


def usage(root: psutil.Process, directories: Sequence[Path]) -> Usage:
    """Measure the descendants of the root process (children they waited for included) and the directories."""
    found = _descendants(root)
    cpu = memory = 0.0
    for process in (root, *found):
        with suppress(psutil.Error), process.oneshot():
            cpu += sum(process.cpu_times()[:4])  # user, system, and the same of children that have ended
            memory += process.memory_info().rss
    size = sum(_size_of(directory) for directory in directories) + _size_without_name(found)
    return Usage(len(found), cpu, memory / _MEGABYTE, size / _MEGABYTE)


def exact_memory_mb(root: psutil.Process) -> float:
    """Return the memory of root and descendants with each shared page counted once; slower than `usage`."""
    return sum(map(_proportional, (root, *_descendants(root)))) / _MEGABYTE


def end(root: psutil.Process) -> None:
    """Kill the descendants of the root process, then the root; nothing of them can start another meanwhile."""
    for _ in range(_ROUNDS):
        found = _descendants(root)
        if not found:
            break
        for process in found:
            with suppress(psutil.Error):
                process.suspend()
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=_PATIENCE_SECONDS)
    with suppress(psutil.Error):
        root.kill()


def describe_exit(code: int) -> str:
    """Name an exit code or the signal behind it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _descendants(root: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return [process for process in root.children(recursive=True) if _runs(process)]
    return []


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _proportional(process: psutil.Process) -> int:
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except OSError:  # it has ended, or this system has no such file
        return 0


def _size_of(directory: Path) -> int:
    total = 0
    for folder, folders, files in os.walk(directory):
        for name in (*folders, *files):
            with suppress(OSError):
                total += max(os.lstat(f"{folder}/{name}").st_blocks * _BLOCK, _SMALLEST_FILE)
    return total


def _size_without_name(processes: Iterable[psutil.Process]) -> int:
    """Return the size of files that are open but deleted, or live in memory only (memfd): no directory lists them."""
    found: dict[tuple[int, int], int] = {}
    for process in processes:
        with suppress(OSError), os.scandir(f"/proc/{process.pid}/fd") as entries:
            for entry in entries:
                with suppress(OSError):
                    about = os.stat(entry.path)  # noqa: PTH116 (there may be thousands)
                    if stat.S_ISREG(about.st_mode) and about.st_nlink == 0:
                        found[about.st_dev, about.st_ino] = about.st_blocks * _BLOCK
    return sum(found.values())
