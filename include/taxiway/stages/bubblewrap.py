"""Builds the command line of bubblewrap: a root of its own, in which a command sees only what it was given.

What is not mounted does not exist for the command: homes, the installation's state, other models' files, other
processes, every network but its own empty loopback. See docs/adr/0007-bubblewrap.md.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# What programs and their libraries need of the system, and nothing in which people keep secrets.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/sys/devices/system/cpu")
_SETTINGS = (
    *("alternatives", "fonts", "group", "hosts", "ld.so.cache", "localtime", "mime.types", "nsswitch.conf"),
    *("passwd", "pki", "ssl", "timezone"),
)
_PROBE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class View:
    """What a command sees besides the system: `reads` read-only, `writes` too; `tmp` is its /tmp.

    `shared_memory_mb` bounds its /dev/shm.
    """

    cwd: Path
    tmp: Path
    reads: Sequence[Path]
    writes: Sequence[Path]
    shared_memory_mb: int


def command_line(view: View, *, info_fd: int | None = None) -> list[str]:
    """Return what to put before a command; `info_fd` gets JSON with the process that all others die with."""
    words = ["bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--cap-drop", "ALL"]
    words += ["--info-fd", str(info_fd)] if info_fd is not None else []
    for shared in (*_SYSTEM, *(f"/etc/{name}" for name in _SETTINGS)):
        words += ["--ro-bind-try", shared, shared]
    words += ["--proc", "/proc", "--dev", "/dev"]
    words += ["--size", str(view.shared_memory_mb * 1024 * 1024), "--tmpfs", "/dev/shm"]  # noqa: S108 (it is private)
    words += ["--bind", str(view.tmp), "/tmp"]  # noqa: S108 (same)
    for path, option in sorted(_mounts(view).items()):  # parents before what is inside of them
        words += [option, str(path), str(path)]
    # The root and /dev are kept in memory: writing there would escape every limit. In /proc, root could set the kernel.
    words += ["--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/"]
    return [*words, "--chdir", str(view.cwd), "--"]


def interpreter_files(python: Path) -> Iterator[Path]:
    """Yield the directories that a virtual environment's python needs: its own, and those its links lead through."""
    while python.parent.name == "bin" and python.parents[1] != Path("/"):
        yield python.parents[1]
        if not python.is_symlink():
            return
        python = python.parent / python.readlink()


@cache
def problem() -> str | None:
    """Tell why bubblewrap cannot be used on this machine, or None when it can; asked once per process."""
    if shutil.which("bwrap") is None:
        return "bubblewrap (bwrap) is not installed"
    with tempfile.TemporaryDirectory(prefix="taxiway-probe-") as directory:
        home = Path(directory)
        view = View(cwd=home, tmp=home, reads=(), writes=(home,), shared_memory_mb=1)
        try:
            done = subprocess.run(
                [*command_line(view), "true"], capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return f"bubblewrap did not start a command within {_PROBE_SECONDS} s"
    return None if done.returncode == 0 else f"bubblewrap does not work here: {done.stderr.strip()[-300:]}"


def _mounts(view: View) -> dict[Path, str]:
    return dict.fromkeys(view.reads, "--ro-bind") | dict.fromkeys(view.writes, "--bind")
