"""A rollout costs callers nothing: whatever a canary or a shadow answers, the champion answers them, and it is counted.

The scorers are real, and their processes small programs in place of models: each answers every request the same.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from taxiway.adapters.model_signing import KeyVerifier
from taxiway.adapters.prediction_log import ParquetPredictionLog
from taxiway.domain.values import Release, TrafficPlan, Window
from taxiway.errors import TargetUnavailable
from taxiway.gateway.config import Config
from taxiway.gateway.invocations import Answer, Call, Invocations
from taxiway.gateway.log import LogWriter
from taxiway.gateway.payload import JSON, read_rows
from taxiway.gateway.scorers import Scorer
from taxiway.gateway.serving import Deployed, ServedModel, Serving
from taxiway.stages.model_files import ModelFiles
from tests.fakes import FakeClock, FakeRegistry

MODEL, GOOD = "flights", [0.25, 0.75]
WORDS = "of the caller"
BODY = b'{"dataframe_records": [{"x": 1.0}, {"x": 2.0}]}'
ALWAYS = Window(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
PROGRAM = f"""#!{Path(sys.executable).resolve()}
import socket, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

given = dict(zip(sys.argv[1:], sys.argv[2:]))
answer = Path(given["--model"], "answer.json").read_bytes()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=int(given["--fd"]))
server.socket.listen()
Path(given["--ready-file"]).write_text("ready\\n")
server.serve_forever()
"""


class UnreliableClock(FakeClock):
    """Stands still, and fails as often as it is told."""

    failures = 0

    def now(self) -> datetime:
        """Return the time, or fail with a text that nobody may see."""
        if self.failures:
            self.failures -= 1
            raise LookupError(WORDS)
        return super().now()


class Gateway:
    """The scoring path of a gateway, with one scorer per version."""

    def __init__(self, directory: Path, verify_key: Path) -> None:
        self.directory = directory
        self.serving = Serving(
            Config("staging", directory, directory, "token"),
            registry=FakeRegistry(),
            verifier=KeyVerifier(verify_key),
        )
        self._log = LogWriter(directory / "log", segment_bytes=10**9, segment_age=Config.segment_age)
        self.clock = UnreliableClock()
        self._invocations = Invocations(self.serving, self._log, self.clock)
        self._served = self.serving.models[MODEL] = ServedModel()

    async def serve(self, version: int, predictions: str, *, queue: int = 64) -> None:
        """Serve a version that answers every request with the predictions."""
        files = ModelFiles(self.directory / str(version))
        program = files.directory / "bin" / "python"
        for directory in (files.model, program.parent):
            directory.mkdir(parents=True)
        program.write_text(PROGRAM)
        program.chmod(0o755)
        (files.model / "answer.json").write_text(f'{{"predictions": {predictions}}}')

        async def prepare() -> Path:
            return program

        config = Config("staging", self.directory, self.directory, "token", queue=queue)
        release = Release(MODEL, version, "run", "digest", "lock", "id", "at", "approval")
        scorer = Scorer(f"version {version}", files.model, prepare=prepare, place=self.directory, config=config)
        self._served.versions[version] = Deployed(release, files, scorer, desired=True)
        await scorer.settled()

    async def ask(self, plan: TrafficPlan, requests: int = 1) -> list[Answer]:
        """Send so many requests at once, and return the answers when the shadow is done too."""
        self._served.plan = plan
        rows = read_rows(BODY, JSON)
        calls = [Call(MODEL, f"caller-{number}", BODY, JSON, rows) for number in range(requests)]
        answers = await asyncio.gather(*map(self._invocations.answer, calls))
        await self._invocations.finish(patience=60)
        return answers

    def counted(self, version: int) -> set[tuple[str, str, int]]:
        """Return how often the version had which outcome in which role, as the metrics show it."""
        found = re.findall(
            rf'requests_total{{.*version="{version}",role="(.*)",outcome="(.*)"}} (\d+)',
            self.serving.observations.prometheus(),
        )
        return {(role, outcome, int(count)) for role, outcome, count in found}

    def logged(self) -> list[int]:
        """Return the versions whose answers the prediction log has, row by row."""
        return sorted(ParquetPredictionLog(self.directory / "log").read(MODEL, ALWAYS)["version"])


@pytest.fixture
async def gateway(keys: tuple[Path, Path]) -> AsyncIterator[Gateway]:
    """A gateway whose version 1 answers well; in a short directory, because sockets are in it."""
    with tempfile.TemporaryDirectory() as directory:
        gateway = Gateway(Path(directory), keys[1])
        try:
            await gateway.serve(1, json.dumps(GOOD))
            yield gateway
        finally:
            await gateway.serving.close()


STRANGE = {
    "an integer that no float holds": f"[{'9' * 401}, 1]",
    "one inside a list": f"[[{'9' * 401}], [1]]",
    "deeper than any array": f"[{'[' * 600}{']' * 600}, 1]",
    "too few": "[1]",
}


@pytest.mark.parametrize("predictions", STRANGE.values(), ids=STRANGE)
async def test_a_strange_answer_of_a_challenger_is_its_error_and_nobody_elses(
    gateway: Gateway, predictions: str
) -> None:
    """Callers get the champion's answer, the version gets an error, and the log has what callers got."""
    await gateway.serve(2, predictions)

    answers = await gateway.ask(TrafficPlan(stable=1, challenger=2, challenger_percent=100))
    answers += await gateway.ask(TrafficPlan(stable=1, shadow=2))

    assert [(200, 1, GOOD)] * 2 == [(answer.status, answer.version, answer.predictions) for answer in answers]
    assert gateway.counted(2) == {("canary", "error", 1), ("shadow", "error", 1)}
    assert gateway.counted(1) == {("champion", "ok", 2)}
    assert gateway.logged() == [1, 1, 1, 1]


async def test_a_failure_of_the_gateway_over_a_challengers_answer_stays_inside(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """Callers get the champion's answer too when the gateway itself fails over a canary's; the log says where."""
    await gateway.serve(2, json.dumps(GOOD))
    gateway.clock.failures = 1

    (answer,) = await gateway.ask(TrafficPlan(stable=1, challenger=2, challenger_percent=100))

    assert (answer.status, answer.version) == (200, 1)
    assert gateway.counted(2) == {("canary", "error", 1)}
    assert "flights version 2 as canary: LookupError" in caplog.text
    assert WORDS not in caplog.text


async def test_numbers_whose_sum_is_no_number_are_answers_like_others(gateway: Gateway) -> None:
    """A canary's largest numbers reach the caller and count as answered; their mean is unknown."""
    await gateway.serve(2, "[1e308, 1e308]")

    (answer,) = await gateway.ask(TrafficPlan(stable=1, challenger=2, challenger_percent=100))

    assert (answer.status, answer.version, answer.predictions) == (200, 2, [1e308, 1e308])
    (seen,) = gateway.serving.observations.observe(MODEL, [2], ALWAYS.start)
    assert (seen.requests, seen.errors, seen.prediction_mean) == (1, 0, None)


async def test_an_answer_that_cannot_be_logged_is_an_error(gateway: Gateway) -> None:
    """What a version answered counts as answered only when it is in the log."""
    await gateway.serve(2, json.dumps(GOOD))
    (gateway.directory / "log").write_text("no directory can be made here")

    with pytest.raises(TargetUnavailable, match="logged"):
        await gateway.ask(TrafficPlan(stable=1, challenger=2, challenger_percent=100))

    assert gateway.counted(1) | gateway.counted(2) == {("champion", "error", 1), ("canary", "error", 1)}


async def test_copies_that_a_busy_shadow_is_not_sent_are_no_errors(gateway: Gateway) -> None:
    """Of requests that come at once, a shadow gets as many as it has places; the others are dropped copies."""
    await gateway.serve(2, json.dumps(GOOD), queue=1)

    answers = await gateway.ask(TrafficPlan(stable=1, shadow=2), requests=5)

    assert [answer.version for answer in answers] == [1] * 5
    assert gateway.counted(2) == {("shadow", "ok", 1), ("shadow", "dropped", 4)}
