"""The real gateway as a process of its own, on a registry that is a directory; and real, tiny, signed models.

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
from taxiway.stages.environments import ensure_environment
from tests.conftest import free_port

PROJECT = Path(__file__).resolve().parents[1]
LOCK = PROJECT / "examples" / "flight_delays" / "requirements.txt"
CACHE = Path(os.environ.get("TAXIWAY_TEST_CACHE", Path(tempfile.gettempdir()) / "taxiway-cache"))
TOKEN = "token-of-the-test"
ENVIRONMENT = "staging"
MAX_REQUEST_BYTES = 100_000
NEEDS_Z, DOES_NOT_LOAD, SLOW, HUNGRY, SPY, LATE, LATEST = 3, 4, 5, 6, 7, 8, 9
LOAD_SECONDS, LATEST_SECONDS = 4, 100
STARTED = "slow-model-started"
T = TypeVar("T")

MAKE_MODELS = """
import sys
from pathlib import Path
import mlflow.sklearn, pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

root = Path(sys.argv[1])
frame = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "y": [0.0, 0.0, 1.0, 1.0], "z": [0.0, 1.0, 0.0, 1.0]})
for version, columns in ((1, ["x", "y"]), (2, ["x", "y"]), (3, ["x", "y", "z"])):
    model = LinearRegression().fit(frame[columns], frame["x"] * version + frame["y"])
    signature = infer_signature(frame[columns], model.predict(frame[columns]))
    mlflow.sklearn.save_model(model, root / str(version), signature=signature, serialization_format="cloudpickle",
                              pip_requirements=["mlflow-skinny"])
for version, source in enumerate(sys.argv[2:], 5):
    path = root / f"model_{version}.py"
    path.write_text(source)
    mlflow.pyfunc.save_model(root / str(version), python_model=str(path), pip_requirements=["mlflow-skinny"],
                             signature=infer_signature(frame[["x"]], frame["x"]))
"""
SLOW_MODEL = f"""
import os, time
from pathlib import Path
import mlflow

class Slow(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        seconds = float(model_input["x"].max())
        if seconds < 0:
            os._exit(1)
        if seconds > 0:
            (Path.home() / {STARTED!r}).touch()
        time.sleep(seconds)
        return model_input["x"].to_numpy()

mlflow.models.set_model(Slow())
"""
HUNGRY_MODEL = """
import time
import mlflow

class Hungry(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        megabytes = int(model_input["x"].max())
        if megabytes > 10:
            held = b"x" * (megabytes * 1024 * 1024)
            time.sleep(30)
        return model_input["x"].to_numpy()

mlflow.models.set_model(Hungry())
"""
SPY_MODEL = """
import os, socket
from pathlib import Path
import mlflow

MODEL = Path(__file__).resolve().parent
HOME = MODEL.parents[3]

def connect(*address):
    with socket.create_connection(address, timeout=2):
        return "connected"

ATTEMPTS = {
    "state": lambda port: (HOME / "state.json").read_text(),
    "gateway": lambda port: [str(path) for path in HOME.iterdir() if path.name != "versions"],
    "other versions": lambda port: [str(path) for path in (HOME / "versions").glob("*/*") if path != MODEL.parent],
    "signature": lambda port: [str(path) for path in MODEL.parent.iterdir() if path != MODEL],
    "other workspaces": lambda port: [str(path) for path in Path.home().parents[1].iterdir()
                                      if path != Path.home().parent],
    "network": lambda port: connect("127.0.0.1", port),
    "processes": lambda port: [name for name in os.listdir("/proc") if name.isdigit()
                               and b"gateway_process" in Path("/proc", name, "cmdline").read_bytes()],
    "own model": lambda port: (MODEL / "MLmodel").write_text("evil"),
    "system": lambda port: Path("/usr/evil").write_text("evil"),
    "token": lambda port: [name for name in os.environ if "TOKEN" in name or "KEY" in name],
}

def spy(port):
    for name, attempt in ATTEMPTS.items():
        try:
            if attempt(port):
                yield name
        except OSError:
            pass

class Spy(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.at_load = list(spy(1))

    def predict(self, context, model_input):
        return [str(self.at_load + list(spy(int(x)))) for x in model_input["x"]]

mlflow.models.set_model(Spy())
"""

LATE_MODEL = """
import time
import mlflow

class Late(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        time.sleep({seconds})

    def predict(self, context, model_input):
        return model_input["x"].to_numpy()

mlflow.models.set_model(Late())
"""


def tiny_models(directory: Path) -> Path:
    """Return a directory with the models of this module, made once.

    1 and 2 predict x * version + y; 3 needs z too; 4 does not load; 5 takes x seconds, or dies when x is negative;
    6 takes x megabytes when x is more than 10; 7 predicts what it should not have got, on x as a port of this machine;
    8 and 9 load for LOAD_SECONDS and LATEST_SECONDS.
    """
    made = directory / "tiny-models"
    if not made.exists():
        fresh = directory / "tiny-models.new"
        python = ensure_environment(LOCK, CACHE, timeout=timedelta(minutes=10)).python
        late = [LATE_MODEL.format(seconds=seconds) for seconds in (LOAD_SECONDS, LATEST_SECONDS)]
        sources = [SLOW_MODEL, HUNGRY_MODEL, SPY_MODEL, *late]
        subprocess.run([python, "-c", MAKE_MODELS, fresh, *sources], check=True, capture_output=True)
        shutil.copytree(fresh / "1", fresh / str(DOES_NOT_LOAD))
        (fresh / str(DOES_NOT_LOAD) / "model.pkl").write_bytes(b"this is no pickle")
        fresh.rename(made)
    return made


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
