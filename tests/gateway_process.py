"""The real gateway as a process of its own, on a registry that is a directory, and who publishes models there.

python -m tests.gateway_process (--port N | --fd N [--line N]) --home DIR --registry DIR --verify-key FILE runs one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import httpx
import pandas as pd
import pytest

from taxiway.adapters.model_signing import KeySigner, KeyVerifier
from taxiway.adapters.prediction_log import ParquetPredictionLog
from taxiway.adapters.system_clock import SystemClock
from taxiway.domain.release import approval_statement
from taxiway.domain.values import Release, Window
from taxiway.errors import NotFoundError
from taxiway.gateway.__main__ import run
from taxiway.gateway.app import create_app
from taxiway.gateway.config import Config
from taxiway.gateway.listener import bind
from taxiway.stages.digests import directory_digest, file_digest
from tests.conftest import free_port
from tests.gateway_models import CACHE, LOCK, PROJECT

TOKEN = "token-of-the-test"
ENVIRONMENT = "staging"
MAX_REQUEST_BYTES = 100_000
T = TypeVar("T")


class DirectoryRegistry:
    """The reading half of a registry, on a directory with one folder per run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get_file(self, run_id: str, path: str, destination: Path) -> None:
        """Copy the file; raises NotFoundError."""
        if not (self.root / run_id / path).is_file():
            raise NotFoundError(f"run {run_id} has no file {path!r}")
        shutil.copyfile(self.root / run_id / path, destination)

    def get_directory(self, run_id: str, path: str, destination: Path) -> None:
        """Copy the directory; raises NotFoundError."""
        if not (self.root / run_id / path).is_dir():
            raise NotFoundError(f"run {run_id} has no files below {path!r}")
        shutil.copytree(self.root / run_id / path, destination)


class Publisher:
    """Stores, signs and approves versions in a DirectoryRegistry, as CI and delivery do."""

    def __init__(self, registry: Path, models: Path, signing_key: Path) -> None:
        self.registry = registry
        self._models = models
        self._signer = KeySigner(signing_key)

    def release(self, model: str, version: int) -> Release:
        """Publish the tiny model of that number as a version, approved for the environment."""
        run = self.run_of(model, version)
        shutil.copytree(self._models / str(version), run / "model")
        (run / "taxiway").mkdir()
        self._signer.sign_directory(run / "model", run / "taxiway" / "model.sig")
        shutil.copyfile(LOCK, run / "taxiway" / "requirements.txt")
        release = Release(
            model=model,
            version=version,
            run_id=run.name,
            digest=directory_digest(run / "model"),
            lock_digest=file_digest(LOCK),
            key="id",
            timestamp="at",
            approval="",
        )
        return self.approved(release, ENVIRONMENT)

    def run_of(self, model: str, version: int) -> Path:
        """Return where the version's files are stored."""
        return self.registry / f"{model}-{version}"

    def approved(self, release: Release, environment: str) -> Release:
        """Return the release with an approval of its own for the environment."""
        now = datetime.now(UTC)
        statement = approval_statement(
            release.model, release.version, release.digest, environment, "dana", now, lock_digest=release.lock_digest
        )
        return replace(release, approval=self._signer.sign_statement(statement))


class GatewayProcess:
    """A gateway that can be killed and started again on the same home and port."""

    def __init__(self, home: Path, registry: Path, verify_key: Path, *options: str) -> None:
        self.home = home
        self.variables: dict[str, str] = {}
        self.places = Path(tempfile.mkdtemp(prefix="taxiway-"))  # short: sockets are in it
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "tests.gateway_process", "--port", str(self.port)]
        self._command += ["--home", str(home), "--registry", str(registry), "--verify-key", str(verify_key), *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """The directory of the prediction log."""
        return self.home / "log"

    def start(self) -> None:
        """Start the process and wait until it listens."""
        self._process = self._spawn()
        wait_until(self._listens)

    def run_another(self) -> int:
        """Start a second gateway on the same home, which should end at once; return its exit code."""
        return self._spawn("--port", "0").wait(timeout=60)

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Signal the gateway alone and return its exit code; its scorers have to look after themselves."""
        assert self._process is not None
        self._process.send_signal(sign)
        return self._process.wait(timeout=60)

    def remove(self) -> None:
        """Stop the gateway if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.places, ignore_errors=True)

    def workspaces(self) -> list[Path]:
        """Return the directories that hold sockets and homes of scorers."""
        return list(self.places.glob("taxiway-*/serving-*"))

    def in_places(self, name: str = "*") -> list[Path]:
        """Return what of that name lies in the workspaces of the gateway and its scorers."""
        return list(self.places.glob(f"taxiway-*/**/{name}"))

    def scorers(self, part: str = "") -> list[int]:
        """Return the process ids of this gateway's scorers, or of those of "model/version"."""
        marker = str(self.home / "versions" / part).encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if marker in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # it has just ended
        return found

    def _spawn(self, *words: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(PROJECT / "include"), str(PROJECT)])
        own = {"PYTHONPATH": path, "TMPDIR": str(self.places), "TAXIWAY_TEST_CACHE": str(CACHE)}
        with (self.home / "gateway.log").open("ab") as output:
            return subprocess.Popen(
                [*self._command, *words],
                cwd=PROJECT,
                env={**os.environ, **own, **self.variables},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.home / "gateway.log").read_text()
        try:
            return httpx.get(f"{self.url}/healthz", trust_env=False).is_success
        except httpx.TransportError:
            return False


Start = Callable[..., GatewayProcess]


@contextmanager
def gateways(publisher: Publisher, keys: tuple[Path, Path], homes: pytest.TempPathFactory) -> Iterator[Start]:
    """Yield a function that starts a gateway (with more options) in a home of its own; all are removed at the end."""
    started: list[GatewayProcess] = []

    def start(*options: str) -> GatewayProcess:
        process = GatewayProcess(homes.mktemp("gateway"), publisher.registry, keys[1], *options)
        started.append(process)
        process.start()
        return process

    try:
        yield start
    finally:
        for process in started:
            process.remove()


def logged(gateway: GatewayProcess, request_id: str, model: str) -> pd.DataFrame:
    """Return what the prediction log has of a request."""
    always = Window(datetime(2000, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1))
    frame = ParquetPredictionLog(gateway.log).read(model, always)
    return frame[frame["request_id"] == request_id]


def wait_until(condition: Callable[[], T], *, seconds: float = 60) -> T:
    """Ask until the answer is true and return it; fail after the seconds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)
    return found


def main() -> None:
    """Run a gateway until SIGTERM."""
    parser = argparse.ArgumentParser()
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--port", type=int)
    place.add_argument("--fd", type=int)
    parser.add_argument("--line", type=int)
    for name in ("--home", "--registry", "--verify-key"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--queue", type=int, default=64)
    parser.add_argument("--memory-mb", type=int, default=4096)
    parser.add_argument("--max-held-bytes", type=int, default=10_000_000)
    parser.add_argument("--receive-seconds", type=float, default=30)
    parser.add_argument("--data-token", default="")
    parser.add_argument("--predict-seconds", type=float, default=60)
    parser.add_argument("--start-seconds", type=float, default=120)
    options = parser.parse_args()
    config = Config(
        environment=ENVIRONMENT,
        directory=options.home,
        cache=CACHE,
        token=TOKEN,
        max_request_bytes=MAX_REQUEST_BYTES,
        data_token=options.data_token,
        queue=options.queue,
        memory_mb=options.memory_mb,
        max_held_bytes=options.max_held_bytes,
        receive_timeout=timedelta(seconds=options.receive_seconds),
        predict_timeout=timedelta(seconds=options.predict_seconds),
        start_timeout=timedelta(seconds=options.start_seconds),
        drain_timeout=timedelta(seconds=10),
    )
    registry = DirectoryRegistry(options.registry)
    line = None if options.line is None else socket.socket(fileno=options.line)
    verifier, clock = KeyVerifier(options.verify_key), SystemClock()
    app = create_app(config, registry=registry, verifier=verifier, clock=clock, line=line)  # type: ignore[arg-type]
    listener = bind("127.0.0.1", options.port) if options.fd is None else socket.socket(fileno=options.fd)
    run(app, config, listener)


if __name__ == "__main__":
    main()
