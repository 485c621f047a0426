"""Model environments: one virtual environment per lock, made by uv, reused by every stage and by serving."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from taxiway.errors import BuildError
from taxiway.stages.digests import file_digest
from taxiway.stages.locks import exclusive
from taxiway.stages.sandbox import network_environment


@dataclass(frozen=True, slots=True)
class ModelEnvironment:
    """A virtual environment built from a lock: its interpreter, and the lock's digest (`sha256:<hex>`)."""

    python: Path
    digest: str


def ensure_environment(lock: Path, cache: Path, *, timeout: timedelta) -> ModelEnvironment:
    """Return the environment of the lock (wheels with hashes), building it when this machine has none.

    Safe under concurrent callers: the first builds under a file lock, the others wait. Raises BuildError with the
    end of uv's output when the lock cannot be installed.
    """
    digest = file_digest(lock)
    root = cache / "environments"
    directory = root / digest.removeprefix("sha256:")[:32]
    ready = directory / ".taxiway-ready"
    with exclusive(directory.with_suffix(".lock")):
        if not ready.exists():
            shutil.rmtree(directory, ignore_errors=True)
            _build(lock, directory, cache / "uv", timeout)
            ready.touch()
        os.utime(ready)  # housekeeping removes what has not been used for long
    return ModelEnvironment(directory / "bin" / "python", digest)


def _build(lock: Path, directory: Path, uv_cache: Path, timeout: timedelta) -> None:
    uv = Path(sys.executable).with_name("uv")
    python = directory / "bin" / "python"
    _uv([uv, "venv", "--python", sys.executable, directory], uv_cache, lock, timeout)
    # Wheels only: building a source distribution would run its code outside of the sandbox.
    wheels = ["--require-hashes", "--no-build", "--compile-bytecode"]
    _uv([uv, "pip", "sync", *wheels, "--python", python, lock], uv_cache, lock, timeout)


def _uv(command: Sequence[str | Path], uv_cache: Path, lock: Path, timeout: timedelta) -> None:
    environment = {**network_environment(), "UV_CACHE_DIR": str(uv_cache), "UV_NO_PROGRESS": "1"}
    try:
        done = subprocess.run(
            [str(part) for part in command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout.total_seconds(),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(
            f"building the environment took longer than {timeout.total_seconds():g} s",
            where=lock.name,
            next_step="raise limits.build in the model spec, or install fewer packages.",
        ) from error
    if done.returncode != 0:
        raise BuildError(
            f"the environment cannot be built from the lock: {done.stderr.strip()[-2000:]}",
            where=lock.name,
            next_step="compile the lock again with `uv pip compile --generate-hashes` and commit it.",
        )
