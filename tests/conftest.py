"""What tests of several folders share: a real MLflow server, and a key pair."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from taxiway.adapters.model_signing import generate_keys

_START_SECONDS = 200.0

# Airflow reads its settings when it is first imported, by whatever test does that.
_airflow_home = tempfile.TemporaryDirectory(prefix="taxiway-airflow-", ignore_cleanup_errors=True)
os.environ.setdefault("AIRFLOW_HOME", _airflow_home.name)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ.setdefault("MPLCONFIGDIR", _airflow_home.name)  # Matplotlib's list of fonts, else in the user's home


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server for the session: SQLite, artifact proxy, no job runners."""
    home = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    command = [
        str(Path(sys.executable).with_name("mlflow")),
        *("server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{home}/mlflow.db"),
        *("--serve-artifacts", "--artifacts-destination", str(home / "artifacts")),
        *("--default-artifact-root", "mlflow-artifacts:/"),
    ]
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **variables}, cwd=home, stdout=log, stderr=log, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_healthy(url, process, home / "server.log")
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A platform key pair: (private, public)."""
    return generate_keys(tmp_path_factory.mktemp("keys"))


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.2)
    raise RuntimeError(f"MLflow did not start:\n{log.read_text()[-3000:]}")
