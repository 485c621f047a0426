"""Runs commands of a model repository: scrubbed environment, own process group, limits, bounded output."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO

_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TAXIWAY_SUPERVISED")


@dataclass(frozen=True, slots=True)
class CommandLimits:
    """What one command may use; `memory_mb` is address space per process, and the size of any file it writes."""

    wall: timedelta
    memory_mb: int
    log_kb: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: `limit` names the limit that stopped it, `output` is the end of stdout and stderr."""

    exit_code: int
    output: str
    seconds: float
    limit: str | None = None

    @property
    def succeeded(self) -> bool:
        """Tell whether the command ended by itself with exit code 0."""
        return self.exit_code == 0 and self.limit is None


def scrubbed_environment(
    home: Path, extra: Mapping[str, str], *, inherited: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return an environment without secrets: a few harmless variables, a private home, one thread per library.

    TAXIWAY_SUPERVISED names the installation, so that `taxiway down` finds what a command left behind.
    """
    kept = {name: inherited[name] for name in _INHERITED if name in inherited}
    private = {"HOME": str(home), "TMPDIR": str(home), "PYTHONUNBUFFERED": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {**kept, **_THREADS, **private, **extra}


def network_environment(*, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what uv needs to reach a package index (certificates, proxies, its own settings) and no secret of ours."""
    wanted = ("PATH", "HOME", "LANG", "SSL_", "UV_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "TAXIWAY_SUPERVISED")
    return {name: value for name, value in inherited.items() if name.upper().startswith(wanted)}


def run(
    command: Sequence[str | Path], *, cwd: Path, limits: CommandLimits, extra_env: Mapping[str, str] | None = None
) -> Outcome:
    """Run the command until it ends or meets a limit; afterwards nothing of its process group is left."""
    with tempfile.TemporaryDirectory(prefix="taxiway-home-") as home, tempfile.TemporaryFile() as log:
        started = time.monotonic()
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env=scrubbed_environment(Path(home), extra_env or {}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        limit = None
        try:
            _limit(process.pid, limits)
            process.wait(timeout=limits.wall.total_seconds())
        except subprocess.TimeoutExpired:
            limit = f"wall time of {limits.wall.total_seconds():g} s"
        finally:
            _kill_group(process)
        return Outcome(process.returncode, _tail(log, limits.log_kb), time.monotonic() - started, limit)


def _limit(pid: int, limits: CommandLimits) -> None:
    """Limit the command from outside; only Linux can, and elsewhere the wall time still holds."""
    if sys.platform == "linux":
        size = limits.memory_mb * 1024 * 1024
        with suppress(ProcessLookupError):  # it has ended already
            resource.prlimit(pid, resource.RLIMIT_AS, (size, size))
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))  # its log is such a file
            resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # the whole group has ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: IO[bytes], kilobytes: int) -> str:
    size = log.seek(0, os.SEEK_END)
    kept = min(size, kilobytes * 1024)
    log.seek(size - kept)
    text = log.read().decode(errors="replace")
    return text if kept == size else f"[... {size - kept} bytes left out ...]\n{text}"
