"""Errors as answers: a status that fits, and a text that says what went wrong and what to do next."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from taxiway.errors import (
    IntegrityError,
    NotAllowed,
    NotFoundError,
    PermanentError,
    SettingsError,
    SpecError,
    TransientError,
    WrongState,
)
from taxiway.web.pages import is_api, render

_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")
_STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (NotAllowed, 403, "Not allowed"),
    (NotFoundError, 404, "Not found"),
    (WrongState, 409, "Not possible now"),
    (IntegrityError, 409, "Not to be trusted"),
    (SettingsError, 503, "Taxiway is not set up here"),
    (SpecError, 503, "Taxiway is not set up here"),
    (TransientError, 503, "Not reachable right now"),
    (PermanentError, 422, "This cannot be done"),
)
_TITLES = {401: "Please sign in", 403: "Not allowed", 404: "Not found"}


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, as pages and API say it; `where` and `next_step` may be empty."""

    title: str
    detail: str
    where: str = ""
    next_step: str = ""


async def taxiway_error(request: Request, error: Exception) -> Response:
    """Answer one of our errors."""
    status, title = next((status, title) for kind, status, title in _STATUS if isinstance(error, kind))
    texts = (_redacted(str(getattr(error, name))) for name in ("what", "where", "next_step"))
    return _answer(request, status, Problem(title, *texts))


async def http_error(request: Request, error: Exception) -> Response:
    """Answer what the framework or the sign-in refused."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = str(error.detail) if isinstance(error, HTTPException) else ""
    advice = "sign in to Airflow, then come back." if status == 401 else ""
    return _answer(request, status, Problem(_TITLES.get(status, "This did not work"), detail, next_step=advice))


async def invalid_request(request: Request, error: Exception) -> Response:
    """Answer values that are not what the API asks for; they are named, not repeated."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    detail = "; ".join(f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in found)
    return _answer(request, 422, Problem("This cannot be read", detail, next_step="correct it and send it again."))


async def unexpected(request: Request, _error: Exception) -> Response:
    """Answer a defect of ours without its details, which are in the server's log."""
    detail = "Something went wrong on our side; the log of Airflow's API server has the details."
    return _answer(request, 500, Problem("This did not work", detail))


def _answer(request: Request, status: int, problem: Problem) -> Response:
    if is_api(request):
        return JSONResponse(asdict(problem), status)
    return render(request, "problem.html", status, problem=problem)


def _redacted(text: str) -> str:
    return _PASSWORD.sub("", text)
