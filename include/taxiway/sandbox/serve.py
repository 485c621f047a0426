"""Serves one packaged model over MLflow's scoring protocol; runs with the model environment's python.

    serve.py --model DIR (--port N | --fd N) [--ready-file FILE] [--queue N] [--lifeline]

POST /invocations (dataframe_split, dataframe_records, instances, inputs, text/csv) answers {"predictions": [...]};
GET /ping and /health answer 200. Errors are JSON {"error_code": ..., "message": ...} that never repeat what was sent.
One prediction runs at a time, `--queue` more may wait, the rest gets 429. When the model is loaded and has predicted
once, one line with the address is written to the ready file, which may be a pipe (/dev/fd/N). The process ends with
its parent; with `--lifeline` also when nobody holds the other end of its standard input any more, which works from
inside a namespace too, where the one that started it is no process that could be named.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import io
import json
import logging
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import mlflow.pyfunc
import uvicorn
from fastapi import FastAPI, Request, Response
from mlflow.pyfunc import scoring_server
from mlflow.utils.proto_json_utils import MlflowInvalidInputException
from scoring_frame import FrameMaker

_PR_SET_PDEATHSIG = 1
# Both are untyped in MLflow.
_invocations: Any = scoring_server.invocations
_predictions_to_json: Any = scoring_server.predictions_to_json
_PLAIN_JSON = ("application/json", "application/json; charset=utf-8")
_BACKLOG = 128
_KEEP_ALIVE_SECONDS = 300  # longer than any client keeps an idle connection, so that the client closes it
_SAMPLES = {"boolean": True, "string": "", "datetime": "2000-01-01T00:00:00"}
_PROTOCOL = (
    "the body must be text/csv, or JSON with exactly one of dataframe_split, dataframe_records, instances, inputs"
)
_HTTP_OK, _BAD_REQUEST, _TOO_MANY = 200, 400, 429


class Scorer:
    """Predicts one request after the other; a bounded number may wait."""

    def __init__(self, model: Any, queue: int) -> None:
        self._model = model
        self._schema = model.metadata.get_input_schema()
        self._maker = FrameMaker(model.metadata)
        self._queue = queue
        self._pending = 0
        self._thread = ThreadPoolExecutor(max_workers=1)

    async def invocations(self, request: Request) -> Response:
        """Answer one scoring request."""
        if self._pending > self._queue:
            return _refusal(_TOO_MANY, "REQUEST_LIMIT_EXCEEDED", "too many requests are waiting")
        self._pending += 1
        try:
            body = await request.body()
            content_type = request.headers.get("content-type", "")
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._score, body, content_type)
        finally:
            self._pending -= 1

    async def ping(self, _: Request) -> Response:
        """Answer that the model is loaded."""
        return Response("\n", media_type="application/json")

    def warm_up(self) -> None:
        """Predict one made-up row, so that the first caller does not pay for what libraries do lazily."""
        if self._schema is not None and self._schema.has_input_names() and not self._schema.is_tensor_spec():
            row = {column.name: _SAMPLES.get(getattr(column.type, "name", ""), 0) for column in self._schema.inputs}
            self._score(json.dumps({"dataframe_records": [row]}).encode(), "application/json")

    def _score(self, body: bytes, content_type: str) -> Response:
        try:
            frame = self._maker.frame(body) if content_type in _PLAIN_JSON else None
            if frame is not None:
                return Response(_to_json(self._model.predict(frame)), media_type="application/json")
            answer = _invocations(body, content_type, self._model, self._schema)
        except Exception as error:  # noqa: BLE001 (a model may raise anything, and MLflow repeats the data in its texts)
            _log(error)
            return _refusal(_BAD_REQUEST, "BAD_REQUEST", self._explain(error))
        if answer.status != _HTTP_OK:
            return _refusal(answer.status, "BAD_REQUEST", _PROTOCOL)
        return Response(answer.response, media_type=answer.mimetype)

    def _explain(self, error: Exception) -> str:
        """Say what to correct, in words that hold nothing of the request."""
        fitting = f"the rows must fit the model's input schema: {self._schema}"
        if isinstance(error, MlflowInvalidInputException) or "exactly one of the input fields" in str(error):
            return f"{_PROTOCOL}, and {fitting}"
        return fitting if "enforce schema" in str(error) else "the model cannot predict these rows"


def _to_json(predictions: Any) -> str:
    text = io.StringIO()
    _predictions_to_json(predictions, text)
    return text.getvalue()


def _refusal(status: int, code: str, message: str) -> Response:
    headers = {"Retry-After": "1"} if status == _TOO_MANY else {}
    content = json.dumps({"error_code": code, "message": message})
    return Response(content, status_code=status, media_type="application/json", headers=headers)


def _log(error: BaseException) -> None:
    """Name the kind and the place of an error; its text may hold the caller's data."""
    while error.__context__ is not None:
        error = error.__context__
    place = _innermost(error.__traceback__)
    print(f"{type(error).__name__} at {place}", file=sys.stderr, flush=True)


def _innermost(trace: TracebackType | None) -> str:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "an unknown place"


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent ends, however that happens (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_stdin() -> None:
    """End this process when its standard input ends; the model gets an empty one instead."""
    lifeline = os.dup(sys.stdin.fileno())
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())

    def wait() -> None:
        while os.read(lifeline, 1):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def _listen(port: int | None, fd: int | None) -> tuple[socket.socket, str]:
    """Return the listening socket and its address; who connects early is answered when the model is loaded."""
    if fd is not None:
        server = socket.socket(fileno=fd)
        address = f"fd:{fd}"
    else:
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port or 0))
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    server.listen(_BACKLOG)
    return server, address


def main() -> None:
    """Load the model, say so, and serve until SIGTERM; requests that have begun are answered first."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="directory of an MLflow model")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--port", type=int, help="port on 127.0.0.1; 0 takes a free one")
    place.add_argument("--fd", type=int, help="file descriptor of a socket that the caller has bound")
    parser.add_argument("--ready-file", type=Path, help="where to write the address once the model answers")
    parser.add_argument("--queue", type=int, default=64, help="how many requests may wait")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input ends")
    options = parser.parse_args()

    _end_with_parent()
    if options.lifeline:
        _end_with_stdin()
    sys.dont_write_bytecode = True  # the model directory must stay as it was signed
    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it warns at every request that has one column too many
    server, address = _listen(options.port, options.fd)
    scorer = Scorer(mlflow.pyfunc.load_model(str(options.model)), options.queue)
    scorer.warm_up()
    app = FastAPI(openapi_url=None)
    app.add_route("/invocations", scorer.invocations, methods=["POST"])
    app.add_route("/ping", scorer.ping)
    app.add_route("/health", scorer.ping)
    if options.ready_file is not None:
        options.ready_file.write_text(f"{address}\n")
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_keep_alive=_KEEP_ALIVE_SECONDS
    )
    asyncio.run(uvicorn.Server(config).serve(sockets=[server]))


if __name__ == "__main__":
    main()
