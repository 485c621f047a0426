"""Who the gateway lets in, and how it says no: tokens, limits, readiness; no model is needed for any of it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pandas as pd
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from taxiway.adapters.gateway_target import GatewayTarget
from taxiway.adapters.model_signing import KeyVerifier
from taxiway.adapters.system_clock import SystemClock
from taxiway.errors import NotFoundError, SettingsError
from taxiway.gateway.answers import errors_as_json
from taxiway.gateway.app import create_app
from taxiway.gateway.config import Config
from tests.gateway_process import MAX_REQUEST_BYTES, TOKEN, DirectoryRegistry, GatewayProcess

pytestmark = pytest.mark.timeout(120)
DATA_TOKEN = "token-of-the-callers"
JSON = {"Content-Type": "application/json"}
INVOCATIONS = "/models/flights/invocations"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> Iterator[GatewayProcess]:
    """A gateway with a closed data path, that holds two large requests at a time, and waits 2 s for a body."""
    options = ("--data-token", DATA_TOKEN, "--max-held-bytes", str(3 * MAX_REQUEST_BYTES), "--receive-seconds", "2")
    registry = tmp_path_factory.mktemp("registry")
    process = GatewayProcess(tmp_path_factory.mktemp("gateway"), registry, keys[1], *options)
    try:
        process.start()
        yield process
    finally:
        process.remove()


def _post(gateway: GatewayProcess, token: str | None, *, body: str = "{}", **headers: str) -> httpx.Response:
    shown = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.post(gateway.url + INVOCATIONS, content=body, headers=JSON | shown | headers, trust_env=False)


@pytest.mark.parametrize("token", [None, "wrong", TOKEN, "t\u00f6ken"])
def test_closed_data_path_wants_its_own_token(gateway: GatewayProcess, token: str | None) -> None:
    """Without the callers' token nobody is answered; that of the control path opens nothing here."""
    shown = {} if token is None else {"Authorization": f"Bearer {token}".encode()}
    answer = httpx.post(gateway.url + INVOCATIONS, content="{}", headers={**JSON, **shown}, trust_env=False)  # type: ignore[arg-type]

    assert (answer.status_code, set(answer.json())) == (401, {"error_code", "message"})
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["X-Request-Id"]


def test_target_shows_the_right_token_on_each_path(gateway: GatewayProcess) -> None:
    """With both tokens both paths open; the callers' token alone controls nothing, and nothing is sent without."""
    frame = pd.DataFrame({"x": [1.0]})
    target = GatewayTarget(gateway.url, TOKEN, DATA_TOKEN)
    assert target.status("flights").plan is None
    with pytest.raises(NotFoundError, match="not served"):
        target.predict("flights", frame)
    with pytest.raises(SettingsError):
        GatewayTarget(gateway.url, DATA_TOKEN, DATA_TOKEN).status("flights")
    with pytest.raises(SettingsError):
        GatewayTarget(gateway.url, TOKEN).predict("flights", frame)


def test_one_token_for_both_paths_is_refused(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    """A gateway whose callers could deploy does not start."""
    config = Config("staging", tmp_path, tmp_path, token=TOKEN, data_token=TOKEN)
    registry, verifier = DirectoryRegistry(tmp_path), KeyVerifier(keys[1])
    with pytest.raises(SettingsError, match="every caller could deploy"):
        create_app(config, registry=registry, verifier=verifier, clock=SystemClock())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("{", {}, 400),
        ("{}", {"Content-Type": "text/plain"}, 415),
        ("x,y\n1,a\rsecret\n", {"Content-Type": "text/csv"}, 400),
        ('{"inputs": ' + "[" * 40_000, {}, 400),
        ('{"inputs": ' + "9" * 9_000 + "}", {}, 400),
        ("s" * (MAX_REQUEST_BYTES + 1), {}, 413),
        ('{"inputs": {"x": [1]}}', {}, 404),
    ],
)
def test_every_refusal_has_the_request_id(
    gateway: GatewayProcess, body: str, headers: dict[str, str], status: int
) -> None:
    """Refusals carry the caller's id, or one of ours for a caller without; they are JSON without a trace."""
    named = _post(gateway, DATA_TOKEN, body=body, **{"X-Request-Id": "caller-1", **headers})
    unnamed = _post(gateway, DATA_TOKEN, body=body, **headers)

    assert (named.status_code, unnamed.status_code) == (status, status)
    assert (named.headers["X-Request-Id"], len(unnamed.headers["X-Request-Id"])) == ("caller-1", 32)
    assert set(named.json()) == {"error_code", "message"}
    assert "secret" not in named.text
    assert "Traceback" not in named.text


def test_bytes_on_their_way_are_bounded(gateway: GatewayProcess) -> None:
    """Who comes when memory is full is told to come again; bodies that do not arrive give their room back."""
    with ExitStack() as stack:
        slow = [stack.enter_context(_announcing(gateway, MAX_REQUEST_BYTES)) for _ in range(2)]
        refused = _until_refused(gateway)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert refused.headers["X-Request-Id"]
        assert [connection.recv(1000).split(b"\r\n")[0] for connection in slow] == [b"HTTP/1.1 408 Request Timeout"] * 2

    assert _post(gateway, DATA_TOKEN, body=json.dumps({"inputs": "x" * 90_000})).status_code == 404


def test_a_body_announced_too_large_is_refused_at_once(gateway: GatewayProcess) -> None:
    """Nothing of it has to be sent for that."""
    with _announcing(gateway, MAX_REQUEST_BYTES + 1) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_gateway_without_plans_is_ready(gateway: GatewayProcess) -> None:
    """Readiness is about what has traffic; both health pages are open to everybody."""
    ready = httpx.get(f"{gateway.url}/readyz", trust_env=False)

    assert (ready.status_code, ready.json()) == (200, {"environment": "staging", "ready": True, "models": {}})
    assert httpx.get(f"{gateway.url}/healthz", trust_env=False).status_code == 200


async def test_a_surprise_is_json_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """An exception that nobody expected tells the caller nothing but where to ask; its text is not logged either."""

    async def fail(request: web.Request) -> web.Response:
        raise LookupError(await request.text())

    app = web.Application(middlewares=[errors_as_json])
    app.router.add_post(INVOCATIONS, fail)
    async with TestClient(TestServer(app)) as client:
        answer = await client.post(INVOCATIONS, data="secret", headers={"X-Request-Id": "caller-1"})
        document = await answer.json()

    assert (answer.status, answer.headers["X-Request-Id"]) == (500, "caller-1")
    assert document["message"] == "the gateway failed; its log tells more about request caller-1"
    assert "secret" not in str(document) + caplog.text
    assert "request caller-1 (POST /models/flights/invocations): LookupError" in caplog.text


def _announcing(gateway: GatewayProcess, size: int) -> socket.socket:
    """Open a request of that size, and send nothing of its body."""
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=30)
    head = [f"POST {INVOCATIONS} HTTP/1.1", "Host: gateway", f"Authorization: Bearer {DATA_TOKEN}"]
    head += ["Content-Type: application/json", f"Content-Length: {size}", "", ""]
    connection.sendall("\r\n".join(head).encode())
    return connection


def _until_refused(gateway: GatewayProcess) -> httpx.Response:
    """Send requests that find room only until the slow ones have been noticed."""
    while (answer := _post(gateway, DATA_TOKEN, body="x" * 90_000)).status_code == 400:
        pass
    return answer
