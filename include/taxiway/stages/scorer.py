"""Serves a packaged model for a while, on the same scorer that production uses."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from taxiway.errors import TrainingError
from taxiway.stages.sandbox import CommandLimits, scrubbed_environment

SCRIPTS = Path(__file__).resolve().parents[1] / "sandbox"
_POLL_SECONDS = 0.05


@contextmanager
def serving(python: Path, model: Path, limits: CommandLimits) -> Iterator[str]:
    """Serve the model on a free loopback port until the block ends; yields its URL.

    Raises TrainingError with the end of the scorer's log when the model cannot be loaded within the wall time.
    """
    with tempfile.TemporaryDirectory(prefix="taxiway-scorer-") as directory:
        home, ready = Path(directory), Path(directory) / "ready"
        command = [python, SCRIPTS / "serve.py", "--model", model, "--port", "0", "--ready-file", ready]
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                env=scrubbed_environment(home, {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield _wait_until_ready(process, ready, home / "log", limits)
        finally:
            _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], ready: Path, log: Path, limits: CommandLimits) -> str:
    deadline = time.monotonic() + limits.wall.total_seconds()
    while process.poll() is None and time.monotonic() < deadline:
        if ready.exists() and (address := ready.read_text().strip()):
            return address
        time.sleep(_POLL_SECONDS)
    ending = " | ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
    raise TrainingError(
        f"the packaged model does not load: {ending}",
        next_step="load it with mlflow.pyfunc.load_model in an environment made from the lock.",
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
