"""A packaged model, served in the sandbox as in production, and asked from outside by trusted code."""

from __future__ import annotations

import http.client
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxiway.errors import PackageRejected
from taxiway.stages import scoring_protocol
from taxiway.stages.sandbox import SCRIPTS, Background, CommandLimits, Outcome, running

if TYPE_CHECKING:
    import pandas as pd

_OK = 200
_PATIENCE = timedelta(seconds=10)
_LONGEST_ANSWER = 64 * 1024 * 1024
_LONGEST_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered, and after how many seconds."""

    status: int
    content_type: str
    body: bytes
    seconds: float


class ServedModel:
    """A model that answers requests; every method raises PackageRejected when there is no answer.

    The server is as untrusted as the model: what it answers is bounded, and when it takes too long, the wall time of
    its sandbox ends it.
    """

    def __init__(self, path: Path, process: Background) -> None:
        self._connection = _Connection(path)
        self._process = process
        self.has_ended = False

    def wait_until_ready(self) -> float:
        """Wait until the model is loaded and has predicted once; returns the seconds."""
        return self._send("GET", "/ping").seconds

    def ask(self, body: bytes, content_type: str | None = scoring_protocol.JSON) -> Answer:
        """Send one scoring request and return the answer, whatever it is."""
        return self._send("POST", "/invocations", body, content_type)

    def predict(self, rows: pd.DataFrame) -> list[Any]:
        """Return one prediction per row; raises PackageRejected for anything else."""
        return self.predictions(self.ask(scoring_protocol.request(scoring_protocol.as_split(rows))), len(rows))

    def predictions(self, answer: Answer, rows: int | None = None) -> list[Any]:
        """Return the predictions of an answer, one for each of the rows (None: any number)."""
        if answer.status != _OK:
            message = answer.body[:_LONGEST_MESSAGE].decode(errors="replace")
            raise PackageRejected(f"status {answer.status} to {_rows(rows)}: {message}")
        try:
            found = scoring_protocol.predictions(answer.body)
        except ValueError as error:
            raise PackageRejected(f"the answer to {_rows(rows)} cannot be read: {error}") from error
        if rows is not None and len(found) != rows:
            raise PackageRejected(f"{len(found)} predictions for {_rows(rows)}")
        return found

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _send(self, method: str, path: str, body: bytes | None = None, content_type: str | None = None) -> Answer:
        if self.has_ended:
            raise PackageRejected("the server had ended before")
        headers = {} if content_type is None else {"Content-Type": content_type}
        began = time.perf_counter()
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            text = response.read(_LONGEST_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            raise self._no_answer(error) from error
        seconds = time.perf_counter() - began
        if len(text) > _LONGEST_ANSWER:
            self.close()
            raise PackageRejected(f"the answer is longer than {_LONGEST_ANSWER / 1e6:.0f} MB")
        return Answer(response.status, response.headers.get_content_type(), text, seconds)

    def _no_answer(self, error: Exception) -> PackageRejected:
        """Say why there was no answer: a process that dies closes its connections."""
        self.close()
        outcome = self._process.outcome(_PATIENCE)
        if outcome is None:
            return PackageRejected(f"no answer: {str(error) or type(error).__name__}")
        self.has_ended = True
        return PackageRejected(_ending(outcome))


@contextmanager
def serving(model: Path, python: Path, *, directory: Path, limits: CommandLimits) -> Iterator[ServedModel]:
    """Serve the model with the server of production until the block ends; it may still be loading.

    The model sees its environment and itself, no code of its repository. It is handed a socket that listens already:
    its address is out of its reach, so that it cannot lead the requests of trusted code somewhere else.
    """
    place, address = directory / "serving", directory / "socket"
    place.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        command: Sequence[str | Path] = [python, SCRIPTS / "serve.py", "--model", model, "--fd", str(listener.fileno())]
        with running(command, cwd=place, limits=limits, reads=(model,), pass_fds=(listener.fileno(),)) as process:
            listener.close()  # so that nobody listens any more when the server has ended
            served = ServedModel(address, process)
            try:
                yield served
            finally:
                served.close()
                print(process.stop().output)  # noqa: T201 (the server's own output belongs into the task's log)


class _Connection(http.client.HTTPConnection):
    """A connection that is kept, and opened again after the server has closed it."""

    def __init__(self, path: Path) -> None:
        super().__init__("model")
        self._path = os.fspath(path)

    def connect(self) -> None:
        """Connect to the Unix socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def _ending(outcome: Outcome) -> str:
    lines = " | ".join(outcome.output.strip().splitlines()[-3:])[-1000:]
    if outcome.limit:
        return f"the server was stopped at the limit: {outcome.limit}"
    return f"the server ended with exit code {outcome.exit_code}; it last printed: {lines or 'nothing'}"


def _rows(count: int | None) -> str:
    return "the request" if count is None else "1 row" if count == 1 else f"{count} rows"
