"""What callers notice of deliveries: constant load on production through everything that can happen to a version.

A production gateway and an MLflow server as `taxiway up` starts them, tiny signed models in a real environment, and the
stages of the pipeline called directly (what Airflow adds in front of them is another benchmark). One process sends
requests at a constant rate all the time; a request that is not answered with 200 has failed, and nothing is sent again.
Its latency counts from when it was due. Phases: quiet (the baseline), deploy, shadow, two canary steps, promotion, a
delivery without steps, a rollout that is aborted because the version answers nothing, rollback, reloads of the gateway.

Figures: failed requests; p50 and p99 of each phase, as a multiple of quiet; seconds from the call of the rollback to
the last answer of the bad version; seconds from the decision to promote to the first answer of the new version, and to
the last one of the old; the longest wait in a reload.

    python benchmarks/rollout_under_load.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from taxiway.bootstrap import PROJECT, Services
from taxiway.domain.evidence import Evidence, Verdict
from taxiway.domain.rollout import Phase
from taxiway.domain.values import CHALLENGER
from taxiway.spec import ModelSpec
from taxiway.spec_files import load_spec
from taxiway.stages.candidates import DIGEST, LOCK, STATE, State
from taxiway.stages.deliver import Approved, Delivery
from taxiway.stages.digests import directory_digest, file_digest
from taxiway.stages.environments import ensure_environment
from taxiway.stages.evidence_store import record
from taxiway.stages.golden import GOLDEN
from taxiway.stages.model_files import SIGNATURE, STORED_LOCK
from taxiway.stages.roll_out import RollOut
from taxiway.stages.rollback import Order
from taxiway.supervisor.clients import open_services
from taxiway.supervisor.installation import Installation
from taxiway.supervisor.launch import log_events, reload
from taxiway.supervisor.programs import programs
from taxiway.supervisor.runner import Supervisor, prepare
from taxiway.supervisor.state import read_state, supervisor_lock
from taxiway.traffic.pace import Answer, Batch, Pace, send
from taxiway.traffic.tally import quantile

MODEL, LOCKED = "tiny", PROJECT / "examples" / "flight_delays" / "requirements.txt"
FIRST, SECOND, BAD, BROKEN = 1, 2, 3, 4
MAKE_MODELS = Path(__file__).with_name("_tiny_models.py")
PROGRAMS = ("gateway-production", "mlflow")
MAX_ROLLBACK_S, MIN_REQUESTS = 1.0, 100_000
RECORD = struct.Struct("<ddhh")  # due, seconds, status (0: no answer), version
_PATIENCE, _POLL, _LOOK_SECONDS = 180.0, 0.05, 0.5


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: requests per second and at a time, seconds of each phase, reloads, requests in all."""

    rate: float
    concurrency: int
    seconds: float
    reloads: int
    requests: int


FULL = Size(rate=120, concurrency=32, seconds=45, reloads=5, requests=MIN_REQUESTS)
QUICK = Size(rate=30, concurrency=32, seconds=2, reloads=1, requests=0)


@dataclass
class Bench:
    """A running installation, and when each phase began and ended (seconds of the monotonic clock)."""

    services: Services
    installation: Installation
    size: Size
    spec: ModelSpec
    phases: list[tuple[str, float, float]] = field(default_factory=list)
    moments: dict[str, float] = field(default_factory=dict)

    def rollout(self, version: int, steps: dict[str, Any] | None = None) -> RollOut:
        """Return the rollout of a version, with all steps of the spec or with others."""
        rollout = self.spec.rollout if steps is None else steps
        spec = ModelSpec.model_validate({**self.spec.model_dump(), "rollout": rollout})
        s = self.services
        return RollOut(spec, version, s.registry, s.target("production"), s.clock, s.orders)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Name the time in which this runs."""
        began = time.monotonic()
        yield
        self.phases.append((name, began, time.monotonic()))

    def candidate(self, number: int, models: Path) -> None:
        """Register and approve a model as CI and delivery do; the numbers of model and version are the same."""
        s, model = self.services, models / str(number)
        run_id = s.registry.open_build(MODEL, f"build-{number}", {})
        s.signer.sign_directory(model, models / "model.sig")
        s.registry.put_directory(run_id, "model", model)
        s.registry.put_file(run_id, SIGNATURE, models / "model.sig")
        s.registry.put_file(run_id, STORED_LOCK, LOCKED)
        golden = {"inputs": {"columns": ["x", "y"], "data": [[1.0, 0.0]]}, "predictions": [1 + number / 1000]}
        s.registry.put_json(run_id, GOLDEN, golden)
        record(s.registry, run_id, Evidence("gate", Verdict.PASSED, s.clock.now(), ()))
        tags = {DIGEST: directory_digest(model), LOCK: file_digest(LOCKED), STATE: State.CANDIDATE.value}
        made = s.registry.register(MODEL, run_id, tags, "")
        assert made.version == number

    def approve(self, version: int) -> Delivery:
        """Let a version into production."""
        self.services.registry.set_alias(MODEL, CHALLENGER, version)
        s = self.services
        delivery = Delivery(self.spec, version, s.registry, s.clock, s.orders)
        delivery.approve(Approved("dana", s.clock.now()), s.signer)
        return delivery

    def promote(self, delivery: Delivery) -> None:
        """End a delivery as the pipeline does: the rollout of a version is over when production was asked."""
        delivery.promote(self.services.target("production"))
        delivery.verify_production(self.services.target("production"))

    def follow(self, rollout: RollOut, version: int) -> Phase:
        """Look at a rollout that has begun until it is over or about to promote, each step as a phase of its own."""
        state = rollout.look()
        while state.phase not in (Phase.PROMOTING, Phase.PROMOTED, Phase.ABORTED):
            assert state.phase is not Phase.WAITING, state.reason
            step, name = state.step, f"{state.phase.value} {state.plan.steps[state.step].traffic:g} %"
            with self.phase(f"{name} of version {version}"):
                while (state := rollout.look()).step == step and state.phase in (Phase.SHADOW, Phase.CANARY):
                    time.sleep(_LOOK_SECONDS)
            self.moments[f"decided {version}"] = self.phases[-1][2]
        return state.phase


def deliver(bench: Bench) -> None:
    """Take a version through all steps, and the next one through none."""
    delivery, rollout = bench.approve(SECOND), bench.rollout(SECOND)
    with bench.phase("deploy"):
        rollout.start()
    assert bench.follow(rollout, SECOND) in (Phase.PROMOTING, Phase.PROMOTED)
    with bench.phase("promotion"):
        rollout.finish()
        bench.promote(delivery)
    delivery, rollout = bench.approve(BAD), bench.rollout(BAD, {"steps": [{"traffic": 100}]})
    with bench.phase("delivery without steps"):
        bench.moments["approved"] = time.monotonic()
        rollout.start()
        rollout.finish()
        bench.promote(delivery)
        time.sleep(bench.size.seconds / 4)


def roll_back(bench: Bench) -> None:
    """Roll the version without steps back, as the pipeline and the command do."""
    rollbacks = bench.services.rollbacks(bench.spec)
    with bench.phase("rollback"):
        bench.moments["rollback"] = time.monotonic()
        rollbacks.roll_back(Order("dana", "wrong answers"))
        bench.moments["rolled back"] = time.monotonic()
        time.sleep(bench.size.seconds / 4)


def abort(bench: Bench) -> None:
    """Begin the rollout of a version that answers nothing: callers are answered by the champion."""
    s, delivery = bench.services, bench.approve(BROKEN)
    rollout = bench.rollout(BROKEN, {**rollout_of(bench.size), "shadow": None})
    with bench.phase("deploy of a broken version"):
        rollout.start()
    assert bench.follow(rollout, BROKEN) is Phase.ABORTED
    with bench.phase("end of the aborted delivery"):
        delivery.stop("it was aborted", production=s.target("production"), notifier=s.notifier(bench.spec))


def scenario(bench: Bench, answered: Callable[[], int]) -> None:
    """Do to production what may happen to it, under the load that runs."""
    with bench.phase("quiet"):
        time.sleep(2 * bench.size.seconds)
    deliver(bench)
    roll_back(bench)
    abort(bench)
    for _ in range(bench.size.reloads):
        with bench.phase("reload"):
            reload(bench.installation, "production")
            time.sleep(bench.size.seconds / 4)
    with bench.phase("quiet again"):
        time.sleep(bench.size.seconds)
        while answered() < bench.size.requests:
            time.sleep(1.0)


def rollout_of(size: Size) -> dict[str, Any]:
    """Return the spec's `rollout`. The machine is busy: latencies are measured, but abort nothing."""
    seconds = timedelta(seconds=size.seconds)
    steps = [{"traffic": 5, "duration": seconds}, {"traffic": 25, "duration": seconds}, {"traffic": 100}]
    few = 3 if size.requests == 0 else 20
    analysis = {"max_latency_ratio": 100.0, "min_requests": few}
    return {"shadow": {"duration": seconds, "min_requests": few}, "steps": steps, "analysis": analysis}


def summarize(bench: Bench, answers: list[Answer]) -> dict[str, Any]:
    """Return all figures; latencies in milliseconds, the rest in seconds."""
    answers.sort(key=lambda answer: answer.due)
    phases: dict[str, list[Answer]] = {}
    for name, began, ended in bench.phases:
        phases.setdefault(name, []).extend(answer for answer in answers if began <= answer.due < ended)
    figures = {name: _figures(of) for name, of in phases.items()}
    quiet = figures["quiet"]["p99_ms"]
    for of in figures.values():
        of["ratio"] = round(of["p99_ms"] / quiet, 2)
    moments = bench.moments
    arrived = {
        version: [answer.due + answer.seconds for answer in answers if answer.version == version]
        for version in (FIRST, SECOND, BAD)
    }
    before_rollback = [moment for moment in arrived[SECOND] if moment < moments["rollback"]]
    decided, approved = moments[f"decided {SECOND}"], moments["approved"]
    failures = Counter(answer.outcome for answer in answers if answer.version is None)
    reload_waits = [answer.seconds for answer in phases["reload"]]
    span = answers[-1].due - answers[0].due
    return {
        "requests": len(answers),
        "failed": failures.total(),
        "failures": dict(failures),
        "rate": round(len(answers) / span, 1),
        "phases": figures,
        "rollback_s": round(max(arrived[BAD]) - moments["rollback"], 3),
        "rollback_command_s": round(moments["rolled back"] - moments["rollback"], 3),
        "promotion_last_old_s": round(max(arrived[FIRST]) - decided, 3),
        "delivery_first_new_s": round(min(arrived[BAD]) - approved, 3),
        "delivery_last_old_s": round(max(before_rollback) - approved, 3),
        "reload_longest_wait_s": round(max(reload_waits, default=0.0), 3),
        "targets": {"failed": 0, "rollback_s": MAX_ROLLBACK_S},
    }


def _figures(answers: list[Answer]) -> dict[str, Any]:
    good = sorted(answer.seconds * 1000 for answer in answers if answer.version is not None)
    failed = len(answers) - len(good)
    p50, p99 = (round(quantile(good, share), 1) for share in (0.5, 0.99))
    return {"requests": len(answers), "failed": failed, "p50_ms": p50, "p99_ms": p99}


def show(figures: dict[str, Any]) -> None:
    """Print the phases and the figures."""
    print(f"{'phase':<32}{'requests':>9}{'failed':>8}{'p50, ms':>9}{'p99, ms':>9}{'x quiet':>9}")
    for name, of in figures["phases"].items():
        print(
            f"{name:<32}{of['requests']:>9}{of['failed']:>8}{of['p50_ms']:>9.1f}{of['p99_ms']:>9.1f}{of['ratio']:>9.2f}"
        )
    print(f"{figures['rate']:g} requests a second; failures: {figures['failures'] or 'none'}")
    print(f"promotion decided -> last answer of the old version: {figures['promotion_last_old_s']} s")
    print(f"approved, no steps -> first answer of the new version: {figures['delivery_first_new_s']} s")
    print(f"                   -> last answer of the old version: {figures['delivery_last_old_s']} s")
    print(f"longest wait in a reload: {figures['reload_longest_wait_s']} s")
    print(
        f"failed {figures['failed']} of {figures['requests']} requests, target 0; "
        f"rollback to the last bad answer {figures['rollback_s']} s, target <= {MAX_ROLLBACK_S:g}"
    )


def main() -> int:
    """Measure, print the figures, and return 0 when both targets are met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short phases and one reload")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--supervise", type=Path, metavar="HOME", help=argparse.SUPPRESS)
    parser.add_argument("--load", nargs=4, metavar=("URL", "RATE", "CONCURRENCY", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.supervise:
        return supervise(arguments.supervise)
    if arguments.load:
        url, rate, concurrency, file = arguments.load
        return asyncio.run(load(url, Pace(float(rate), int(concurrency)), Path(file)))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        figures = measure(Path(directory), QUICK if arguments.quick else FULL)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    show(figures)
    return 0 if figures["failed"] == 0 and figures["rollback_s"] <= MAX_ROLLBACK_S else 1


def measure(directory: Path, size: Size) -> dict[str, Any]:
    """Bring everything up, run the scenario under load, and return the figures."""
    installation = Installation(directory / "home").changed(models=None, **{name: _port() for name in _PORTS})
    installation.save()
    cache = Path(os.environ.get("TAXIWAY_TEST_CACHE", Path(tempfile.gettempdir()) / "taxiway-cache"))
    cache.mkdir(exist_ok=True)
    (installation.home / "cache").symlink_to(cache)
    models, answers = directory / "models", directory / "answers"
    with process("--supervise", str(installation.home)):
        python = ensure_environment(LOCKED, cache, timeout=timedelta(minutes=10)).python
        subprocess.run([python, MAKE_MODELS, models], check=True, capture_output=True)
        wait_for(lambda: (now := read_state(installation.run)) and now.phase == "running", "the gateway and MLflow")
        example = load_spec(installation.models / "flight_delays.yaml", {"TAXIWAY_HOME": str(installation.home)})
        spec = ModelSpec.model_validate({**example.model_dump(), "model": MODEL, "rollout": rollout_of(size)})
        bench = Bench(open_services(installation, os.environ), installation, size, spec)
        for number in (FIRST, SECOND, BAD, BROKEN):
            bench.candidate(number, models)
        delivery, first = bench.approve(FIRST), bench.rollout(FIRST)
        first.start()
        first.finish()
        bench.promote(delivery)
        url = f"{installation.url('production')}/models/{MODEL}/invocations"
        with process("--load", url, str(size.rate), str(size.concurrency), str(answers)):
            wait_for(lambda: answers.exists() and answers.stat().st_size, "the first answers")
            scenario(bench, lambda: answers.stat().st_size // RECORD.size)
    return summarize(bench, [_answer(*record) for record in RECORD.iter_unpack(answers.read_bytes())])


def supervise(home: Path) -> int:
    """Keep the production gateway and MLflow running until SIGTERM, as `taxiway up` keeps all programs."""
    installation = Installation.load(home)
    with supervisor_lock(installation.run):
        log_events(installation)
        credentials = prepare(installation, os.environ)
        wanted = [program for program in programs(installation, credentials, os.environ) if program.name in PROGRAMS]
        asyncio.run(Supervisor(installation, lambda state: None).run(wanted))
    return 0


async def load(url: str, pace: Pace, file: Path) -> int:
    """Send single rows at the pace until SIGTERM, and write what came back to the file."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    rng = random.Random(1)
    columns = ["flight_id", "scheduled_departure", "x", "y"]
    rows = [[f"f{number}", "2013-02-01T10:00:00", rng.random(), rng.random()] for number in range(500)]
    bodies = [json.dumps({"dataframe_split": {"columns": columns, "data": [row]}}).encode() for row in rows]
    with file.open("wb") as output:

        def hear(answer: Answer) -> None:
            status = int(answer.outcome) if answer.outcome.isdigit() else 0
            if not status:
                print(f"{answer.due:.3f} {answer.outcome}", file=sys.stderr)
            output.write(RECORD.pack(answer.due, answer.seconds, status, answer.version or 0))

        token = os.environ.get("TAXIWAY_PRODUCTION_DATA_TOKEN", "")
        await send(url, (Batch(body, 1) for body in itertools.cycle(bodies)), pace, hear, stop, token=token)
    return 0


@contextmanager
def process(*words: str) -> Iterator[None]:
    """Run this file in a process of its own; it ends with SIGTERM."""
    started = subprocess.Popen([sys.executable, __file__, *words])
    try:
        yield
    finally:
        started.terminate()
        started.wait(_PATIENCE)


def wait_for(look: Callable[[], Any], what: str) -> None:
    """Wait until `look` finds something."""
    deadline = time.monotonic() + _PATIENCE
    while not look():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {_PATIENCE:g} s in vain for {what}")
        time.sleep(_POLL)


def _answer(due: float, seconds: float, status: int, version: int) -> Answer:
    return Answer(due, seconds, str(status or "no answer"), version or None, 1)


_PORTS = ("airflow", "mlflow", "staging", "production")


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
