"""The console as one FastAPI app that refuses strangers everywhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware

from taxiway.errors import TaxiwayError
from taxiway.web import api, pages, problems
from taxiway.web.access import CurrentUser, Installation, identify, same_origin

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def create_app(installation: Callable[[], Installation], *, current_user: CurrentUser) -> FastAPI:
    """Return the app; nothing is read before the first request.

    `installation` returns the services (`bootstrap.services`); its SettingsError becomes a page that says what is
    missing. `current_user` is a FastAPI dependency that returns the user's name or raises HTTPException 401.
    """
    app = FastAPI(
        title="Taxiway",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(identify(current_user)), Depends(same_origin)],
        exception_handlers={
            TaxiwayError: problems.taxiway_error,
            HTTPException: problems.http_error,
            RequestValidationError: problems.invalid_request,
            Exception: problems.unexpected,
        },
    )
    app.state.installation = installation
    app.add_middleware(BaseHTTPMiddleware, dispatch=_add_headers)
    app.include_router(api.router)
    app.include_router(pages.router)
    return app


async def _add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Forbid other sites to frame, and everybody to inject or cache."""
    response = await call_next(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response
