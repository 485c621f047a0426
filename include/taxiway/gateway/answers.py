"""How the gateway says no: always JSON, never a trace, nothing of what the caller sent, and with the request's id."""

from __future__ import annotations

import logging
import re
import traceback
import uuid
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from taxiway.errors import (
    DeliveryStopped,
    IntegrityError,
    NotFoundError,
    TargetUnavailable,
    TaxiwayError,
    TransientError,
)

_log = logging.getLogger(__name__)
REQUEST_ID = "X-Request-Id"
CONTROL = "/control/"
_GIVEN = re.compile(r"[\x21-\x7e]{1,128}")
_LATER = (429, 503)
_KEPT = ("Allow", "WWW-Authenticate")
_STATUS: tuple[tuple[type[TaxiwayError], int], ...] = (
    (IntegrityError, 403),
    (NotFoundError, 404),
    (DeliveryStopped, 409),
    (TransientError, 503),
    (TaxiwayError, 422),
)
_ID = web.RequestKey("id", str)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def request_id(request: web.Request) -> str:
    """Return the request's id: the caller's, or one of ours when the caller gave none; raises HTTPBadRequest."""
    given = request.headers.get(REQUEST_ID)
    if given and not _GIVEN.fullmatch(given):
        raise web.HTTPBadRequest(text=f"{REQUEST_ID} must be 1 to 128 printable ASCII characters")
    return _id(request)


def retry_after(status: int) -> dict[str, str]:
    """Return the header that tells a caller when to come again."""
    return {"Retry-After": "1"} if status in _LATER else {}


def kind_and_place(error: Exception) -> str:
    """Return what kind the error is and where it happened, for the log: its text may hold what the caller sent."""
    place = "".join(traceback.format_tb(error.__traceback__))
    return f"{type(error).__name__}\n{place}"


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every failure as JSON: on the data path in MLflow's words, on the control path with what to do next."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        response = _refusal(request, error.status, error.text or error.reason, kept=error.headers)
    except web.RequestPayloadError:
        response = _refusal(request, web.HTTPBadRequest.status_code, "the body did not arrive whole")
    except TaxiwayError as error:
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        if not isinstance(error, TargetUnavailable | NotFoundError):
            _log.warning("%s %s: %s", request.method, request.path, error)
        response = _refusal(request, status, error.what, where=error.where, next_step=error.next_step)
    except Exception as error:  # noqa: BLE001 (whatever it is, the caller gets JSON)
        response = _surprise(request, error)
    response.headers[REQUEST_ID] = _id(request)
    return response


def _id(request: web.Request) -> str:
    """Return the caller's id if it is one, else one that is made once."""
    if _ID not in request:
        given = request.headers.get(REQUEST_ID, "")
        request[_ID] = given if _GIVEN.fullmatch(given) else uuid.uuid4().hex
    return request[_ID]


def _surprise(request: web.Request, error: Exception) -> web.Response:
    _log.error("request %s (%s %s): %s", _id(request), request.method, request.path, kind_and_place(error))
    what = f"the gateway failed; its log tells more about request {_id(request)}"
    return _refusal(request, web.HTTPInternalServerError.status_code, what)


def _refusal(
    request: web.Request,
    status: int,
    what: str,
    *,
    where: str = "",
    next_step: str = "",
    kept: Mapping[str, str] | None = None,
) -> web.Response:
    headers = {name: value for name, value in (kept or {}).items() if name in _KEPT} | retry_after(status)
    if request.path.startswith(CONTROL):
        return web.json_response({"error": what, "where": where, "next": next_step}, status=status, headers=headers)
    code = re.sub(r"\W+", "_", web.Response(status=status).reason or "error").upper()
    return web.json_response({"error_code": code, "message": what}, status=status, headers=headers)
