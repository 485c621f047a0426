"""Model environments: one virtual environment per lock, made by uv, reused by every stage and by serving.

Packages come from uv's cache; the network is asked only for what the cache has not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from taxiway.errors import BuildError, IndexUnavailable
from taxiway.stages.digests import file_digest
from taxiway.stages.locks import exclusive
from taxiway.stages.sandbox import network_environment

_SHOWN = 2000  # characters of uv's output: the end says why


@dataclass(frozen=True, slots=True)
class ModelEnvironment:
    """A virtual environment built from a lock: its interpreter, and the lock's digest (`sha256:<hex>`).

    `reused` says that it was there already.
    """

    python: Path
    digest: str
    reused: bool = field(default=False, compare=False)

    @property
    def packages(self) -> Path:
        """The directory that the lock's packages are installed in."""
        return next(self.python.parents[1].glob("lib/python*/site-packages"))


def ensure_environment(lock: Path, cache: Path, *, timeout: timedelta) -> ModelEnvironment:
    """Return the environment of the lock (wheels with hashes), building it when this machine has none.

    Safe under concurrent callers: the first builds under a file lock, the others wait. Raises BuildError with the
    end of uv's output when the lock cannot be installed, IndexUnavailable when another try may work.
    """
    digest = file_digest(lock)
    root = cache / "environments"
    directory = root / digest.removeprefix("sha256:")[:32]
    ready = directory / ".taxiway-ready"
    with exclusive(directory.with_suffix(".lock")):
        reused = ready.exists()
        if not reused:
            shutil.rmtree(directory, ignore_errors=True)
            _build(lock, directory, cache / "uv", timeout)
            ready.touch()
        os.utime(ready)  # housekeeping removes what has not been used for long
    return ModelEnvironment(directory / "bin" / "python", digest, reused)


def _build(lock: Path, directory: Path, uv_cache: Path, timeout: timedelta) -> None:
    uv = Path(sys.executable).with_name("uv")
    # Wheels only: building a source distribution would run its code outside of the sandbox.
    sync: list[str | Path] = [uv, "pip", "sync", "--require-hashes", "--no-build", "--compile-bytecode"]
    sync += ["--python", directory / "bin" / "python", lock]
    deadline = time.monotonic() + timeout.total_seconds()
    try:
        done = _uv([uv, "venv", "--python", sys.executable, directory], uv_cache, deadline)
        if done.returncode == 0:
            done = _uv([*sync, "--offline"], uv_cache, deadline)
            if done.returncode != 0 and "hash" not in done.stderr.lower():  # what has a wrong hash keeps it online
                stale = "no version of" in done.stderr  # published after uv last read the index
                done = _uv([*sync, "--refresh"] if stale else sync, uv_cache, deadline)
    except subprocess.TimeoutExpired as error:
        raise BuildError(
            f"building the environment took longer than {timeout.total_seconds():g} s",
            where=lock.name,
            next_step="raise limits.build in the model spec, or install fewer packages.",
        ) from error
    if done.returncode != 0:
        raise _failure(done.stderr.strip(), lock)


def _uv(command: Sequence[str | Path], uv_cache: Path, deadline: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        env={**network_environment(), "UV_CACHE_DIR": str(uv_cache), "UV_NO_PROGRESS": "1"},
        capture_output=True,
        text=True,
        timeout=max(0.0, deadline - time.monotonic()),
        check=False,
    )


def _failure(output: str, lock: Path) -> BuildError | IndexUnavailable:
    if "Request failed after" in output or "error sending request" in output:  # uv had its own retries
        return IndexUnavailable(
            f"the package index did not answer: {output[-_SHOWN:]}",
            where=lock.name,
            next_step="see whether this machine reaches the index; what uv's cache has needs none.",
        )
    return BuildError(
        f"the environment cannot be built from the lock: {output[-_SHOWN:]}",
        where=lock.name,
        next_step="compile the lock again with `uv pip compile --generate-hashes` and commit it.",
    )
