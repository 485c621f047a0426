"""What the gateway costs: CPU time, latency and memory of serving, against `mlflow models serve`.

Baseline: `mlflow models serve --env-manager local` of the full MLflow beside this script, over what MLflow itself
requires (uvicorn with asyncio and h11, as the scorers have; the uvloop and httptools that are installed here too come
with Airflow). Besides: the same with uvloop and httptools, the same command from the model's own environment
(mlflow-skinny), and a bare FastAPI app around the same model. Every server has the example model, one thread per
library, and gets the same requests over one connection each, in turns within each round; the scorer behind the gateway
is also asked directly, on its Unix socket. CPU time is that of all processes of a server
(/proc/<pid>/stat; without the client), so it also holds on a machine that does other things; latencies do not. Memory
is the proportional set size (PSS), measured at the end, when those have ended that share libraries with the compared.

The model's environment is kept between runs (TAXIWAY_TEST_CACHE, by default in the directory for temporary files); the
first run builds it, which takes a minute more.

    python benchmarks/gateway_cost.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from taxiway.adapters.model_signing import KeySigner, generate_keys
from taxiway.domain.release import approval_statement
from taxiway.domain.values import Release, TrafficPlan
from taxiway.gateway.state import Desired, save_state
from taxiway.stages.digests import directory_digest, file_digest
from taxiway.stages.environments import ensure_environment
from taxiway.stages.model_files import ModelFiles
from taxiway.stages.sandbox import scrubbed_environment
from taxiway.stages.scoring_protocol import as_split, request

PROJECT = Path(__file__).resolve().parents[1]
EXAMPLE = PROJECT / "examples" / "flight_delays"
MODEL, ENVIRONMENT = "flight_delays", "staging"
SIZES = (1, 100)
TEMPORARY = "t"  # short: scorers have their sockets below it, and a socket's path has 108 characters
RATIO_TARGET, ROUTER_TARGET_MS, MEMORY_TARGET = 0.85, 1.5, 0.6
DIRECT, GATEWAY, MLFLOW, BARE = "scorer", "gateway", "mlflow models serve", "bare FastAPI"
WITH_UVLOOP, SKINNY = "same, with uvloop", "same, mlflow-skinny"
PLAIN = {"UVICORN_LOOP": "asyncio", "UVICORN_HTTP": "h11"}
_PATIENCE = 180.0
_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
TRAIN = """
import sys
from flight_delays.train import train
from made_up_flights import made_up

train(made_up(20_000), sys.argv[1], {"max_iter": 150, "learning_rate": 0.1, "seed": 2013})
made_up(100, seed=8).drop(columns="late").to_parquet(sys.argv[2])
"""
BARE_APP = """
import sys
import mlflow.pyfunc, pandas as pd, uvicorn
from fastapi import Body, FastAPI

app, model = FastAPI(), mlflow.pyfunc.load_model(sys.argv[1])

@app.post("/invocations")
def predict(body: dict = Body()):
    split = body["dataframe_split"]
    return {"predictions": model.predict(pd.DataFrame(split["data"], columns=split["columns"])).tolist()}

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", access_log=False)
"""


@dataclass
class Server:
    """One way to serve the model: who is asked, which processes work for the answer, and what that took."""

    name: str
    connection: http.client.HTTPConnection
    path: str
    processes: Callable[[], list[psutil.Process]]
    cpu_ms: dict[int, float] = field(default_factory=dict)
    router_ms: dict[int, float] = field(default_factory=dict)
    latencies_ms: dict[int, list[float]] = field(default_factory=dict)
    pss_mb: list[float] = field(default_factory=list)

    def ask(self, body: bytes) -> list[float]:
        """Return the predictions."""
        self.connection.request("POST", self.path, body, {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        content = response.read()
        if response.status == http.client.SERVICE_UNAVAILABLE:
            raise ConnectionError(f"{self.name} is still starting")
        if response.status != http.client.OK:
            raise SystemExit(f"{self.name} answered {response.status}: {content[:300]!r}")
        predictions: list[float] = json.loads(content)["predictions"]
        return predictions

    def measure(self, size: int, body: bytes, requests: int) -> None:
        """Ask as often, and add up CPU time (of the first process as the router's) and latencies."""
        self.connection.close()  # the server has, when it waited for its turn for long
        self.ask(body)
        processes = self.processes()
        before = [cpu_ms(process) for process in processes]
        latencies = self.latencies_ms.setdefault(size, [])
        for _ in range(requests):
            began = time.perf_counter()
            self.ask(body)
            latencies.append((time.perf_counter() - began) * 1000)
        spent = [cpu_ms(process) - earlier for process, earlier in zip(processes, before, strict=True)]
        self.cpu_ms[size] = self.cpu_ms.get(size, 0.0) + sum(spent)
        self.router_ms[size] = self.router_ms.get(size, 0.0) + spent[0]

    def figures(self) -> dict[str, Any]:
        """Return CPU time per request and median latency in ms by number of rows, and memory in MB."""
        counts = {size: len(latencies) for size, latencies in self.latencies_ms.items()}
        return {
            "cpu_ms": {size: self.cpu_ms[size] / counts[size] for size in counts},
            "router_cpu_ms": {size: self.router_ms[size] / counts[size] for size in counts},
            "p50_ms": {size: statistics.median(latencies) for size, latencies in self.latencies_ms.items()},
            "pss_mb": self.pss_mb,
        }


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("scorer", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_PATIENCE)
        self.sock.connect(str(self._path))


def main() -> int:
    """Measure, print the figures, and return 0 when all three targets are met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer requests")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    rounds, requests = (5, 12) if arguments.quick else (15, 40)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory, ExitStack() as stack:
        servers, bodies = start(Path(directory), stack)
        measure(servers, bodies, rounds, requests)
        measure_memory(servers)
        figures = summarize(servers)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    show(figures)
    return 0 if all(figures[name] <= target for name, target in figures["targets"].items()) else 1


def start(directory: Path, stack: ExitStack) -> tuple[list[Server], dict[int, bytes]]:
    """Train the model, start every server, and return them with the request bodies by number of rows."""
    cache = Path(os.environ.get("TAXIWAY_TEST_CACHE", Path(tempfile.gettempdir()) / "taxiway-cache"))
    lock = EXAMPLE / "requirements.txt"
    python = ensure_environment(lock, cache, timeout=timedelta(minutes=15)).python
    model, frame = directory / "model", directory / "rows.parquet"
    path = os.pathsep.join([str(EXAMPLE / "src"), str(EXAMPLE / "tests" / "unit")])
    variables = scrubbed_environment(directory, {})
    train: list[str | Path] = [python, "-c", TRAIN, model, frame]
    subprocess.run(train, env={**variables, "PYTHONPATH": path}, check=True, stderr=subprocess.DEVNULL)
    rows = pd.read_parquet(frame)
    bodies = {size: request(as_split(rows.head(size))) for size in SIZES}

    serve = ["-m", "mlflow", "models", "serve", "--env-manager", "local", "-m", str(model), "-p"]
    found = [gateway(directory, model, lock, cache, stack)]
    for name, interpreter, words, more in (
        (MLFLOW, Path(sys.executable), serve, PLAIN),
        (WITH_UVLOOP, Path(sys.executable), serve, {}),
        (SKINNY, python, serve, PLAIN),
        (BARE, python, ["-c", BARE_APP, str(model)], PLAIN),
    ):
        # `mlflow models serve` finds uvicorn on the PATH.
        own = {**variables, **more, "PATH": os.pathsep.join([str(interpreter.parent), variables.get("PATH", "")])}
        found.append(over_tcp(name, [str(interpreter), *words], "/invocations", own, stack))
    answers = [wait_for(partial(answered, server, bodies[1]), server.name) for server in found]
    if any(answer != answers[0] for answer in answers):
        raise SystemExit(f"the servers disagree: {answers}")
    return [scorer_behind(found[0], directory), *found], bodies


def gateway(directory: Path, model: Path, lock: Path, cache: Path, stack: ExitStack) -> Server:
    """Start a gateway that serves the model since before: its state and its files are there already."""
    private, _ = generate_keys(directory / "keys")
    signer, home = KeySigner(private), directory / "gateways" / ENVIRONMENT
    files = ModelFiles(home / "versions" / MODEL / "1")
    shutil.copytree(model, files.model)
    shutil.copy(lock, files.lock)
    signer.sign_directory(files.model, files.signature)
    digests = directory_digest(files.model), file_digest(files.lock)
    statement = approval_statement(MODEL, 1, digests[0], ENVIRONMENT, "dana", datetime.now(UTC), lock_digest=digests[1])
    approval = signer.sign_statement(statement)
    release = Release(MODEL, 1, "run", *digests, "flight_id", "scheduled_departure", approval)
    save_state(home / "state.json", {MODEL: Desired({1: release}, TrafficPlan(stable=1))})
    (directory / "cache").symlink_to(cache)
    temporary = directory / TEMPORARY
    temporary.mkdir()
    variables = {"TAXIWAY_HOME": str(directory), "TAXIWAY_STAGING_TOKEN": "token-of-the-benchmark"}
    variables |= {"TMPDIR": str(temporary)}
    variables |= {"PYTHONPATH": str(PROJECT / "include"), "PATH": os.environ.get("PATH", "")}
    command = [sys.executable, "-m", "taxiway.gateway", "--environment", ENVIRONMENT, "--port"]
    return over_tcp(GATEWAY, command, f"/models/{MODEL}/invocations", variables, stack)


def over_tcp(name: str, command: Sequence[str], path: str, variables: dict[str, str], stack: ExitStack) -> Server:
    """Start a server on a port of its own, which is the last word of its command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    process = stack.enter_context(running([*command, str(port)], variables))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    stack.callback(connection.close)
    return Server(name, connection, path, lambda: [process, *process.children(recursive=True)])


@contextmanager
def running(command: Sequence[str], variables: dict[str, str]) -> Iterator[psutil.Process]:
    """Run a server in a process group of its own, and end all of it."""
    started = psutil.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield started
    finally:
        if started.is_running():
            end([started, *started.children(recursive=True)])


def end(processes: Sequence[psutil.Process]) -> None:
    """End the processes, and wait for that."""
    for process in processes:
        process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=20)
    for process in alive:
        process.kill()


def scorer_behind(gateway: Server, directory: Path) -> Server:
    """Return the gateway's only scorer as a server of its own."""
    path = next((directory / TEMPORARY).rglob("socket"))
    return Server(DIRECT, UnixConnection(path), "/invocations", lambda: gateway.processes()[1:])


def answered(server: Server, body: bytes) -> list[float] | None:
    """Return the server's predictions, None while it starts."""
    if not server.processes()[0].is_running():
        raise SystemExit(f"{server.name} has ended")
    try:
        return server.ask(body)
    except OSError:
        server.connection.close()
        return None


def measure(servers: Sequence[Server], bodies: dict[int, bytes], rounds: int, requests: int) -> None:
    """Ask every server in turns, beginning with another one in each round."""
    for server in servers:
        server.connection.close()
        for body in bodies.values():
            for _ in range(5):
                server.ask(body)
    for number in range(rounds):
        first = number % len(servers)
        for server in [*servers[first:], *servers[:first]]:
            for size, body in bodies.items():
                server.measure(size, body, requests)


def measure_memory(servers: Sequence[Server]) -> None:
    """Weigh the servers, the compared ones last and without the others: a page counts less where more have it."""
    for server in reversed(servers):
        processes = server.processes()
        server.pss_mb = [pss_mb(process) for process in processes]
        if server.name not in (DIRECT, GATEWAY, MLFLOW):
            end(processes)


def summarize(servers: Sequence[Server]) -> dict[str, Any]:
    """Return the figures of every server, and the three that have targets."""
    found = {server.name: server.figures() for server in servers}
    router, *scorers = found[GATEWAY]["pss_mb"]
    return {
        "servers": found,
        "router_pss_mb": router,
        "cpu_ratio": max(found[GATEWAY]["cpu_ms"][size] / found[MLFLOW]["cpu_ms"][size] for size in SIZES),
        "router_cpu_ms": found[GATEWAY]["router_cpu_ms"][1],
        "memory_ratio": sum(scorers) / sum(found[MLFLOW]["pss_mb"]),
        "targets": {"cpu_ratio": RATIO_TARGET, "router_cpu_ms": ROUTER_TARGET_MS, "memory_ratio": MEMORY_TARGET},
    }


def show(figures: dict[str, Any]) -> None:
    """Print a line per server, and the figures against their targets."""
    columns = [f"{what}, {size} rows" for size in SIZES for what in ("CPU ms", "p50 ms")]
    print(f"{'':<22}" + "".join(f"{name:>18}" for name in [*columns, "PSS MB"]))
    for name, found in figures["servers"].items():
        cells = [found[what][size] for size in SIZES for what in ("cpu_ms", "p50_ms")]
        print(f"{name:<22}" + "".join(f"{cell:>18.2f}" for cell in [*cells, sum(found["pss_mb"])]))
    gateway = figures["servers"][GATEWAY]
    print(
        f"of the gateway, the router: CPU {gateway['router_cpu_ms'][1]:.2f} ms, with 100 rows "
        f"{gateway['router_cpu_ms'][100]:.2f} ms; {figures['router_pss_mb']:.0f} MB once for all versions"
    )
    print(
        f"CPU {figures['cpu_ratio']:.3f} of `{MLFLOW}` (the worse of 1 and 100 rows), target <= {RATIO_TARGET}; router "
        f"{figures['router_cpu_ms']:.2f} ms, target <= {ROUTER_TARGET_MS}; "
        f"memory per version {figures['memory_ratio']:.3f}, target <= {MEMORY_TARGET}"
    )


def cpu_ms(process: psutil.Process) -> float:
    """Return the CPU time that the process has used, in ms."""
    text = Path(f"/proc/{process.pid}/stat").read_text()
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) * _TICK_MS


def pss_mb(process: psutil.Process) -> float:
    """Return the process' share of memory in MB."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def wait_for(look: Callable[[], list[float] | None], what: str) -> list[float]:
    """Return what `look` finds."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.2)
    raise SystemExit(f"waited {_PATIENCE:g} s in vain for {what}")


if __name__ == "__main__":
    sys.exit(main())
