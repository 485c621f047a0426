"""The pages of the console."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from taxiway.errors import NotFoundError
from taxiway.stages.uat import MAX_COMMENTS
from taxiway.web import figures, snapshots
from taxiway.web.access import Services, User
from taxiway.web.answers import Answer, sign_off

router = APIRouter(default_response_class=HTMLResponse)
_RECENT = 8
_STATIC: Mapping[str, str] = MappingProxyType(
    {
        "console.css": "text/css",
        "console.js": "text/javascript",
        "icon.svg": "image/svg+xml",
        "icon-dark.svg": "image/svg+xml",
    }
)


@router.get("/")
def overview(request: Request, services: Services, user: User) -> Response:
    """Show every model: who serves, who is on the way, and for whom it waits."""
    shown = snapshots.overview(services.specs(), services.registry)
    return render(request, "overview.html", overview=shown, user=user, recent=_RECENT)


@router.get("/models/{model}")
def model(request: Request, model: str, services: Services, user: User) -> Response:
    """Show all versions of one model."""
    shown = snapshots.Overview((snapshots.model_summary(services.spec(model), services.registry),), ())
    return render(request, "overview.html", overview=shown, user=user, recent=None)


@router.get("/models/{model}/versions/{version}")
def version(request: Request, model: str, version: int, services: Services, user: User) -> Response:
    """Show one version: what to test, the sign-offs and the evidence."""
    details = snapshots.version_details(services, model, version, user=user)
    return render(request, "version.html", details=details, user=user, max_comments=MAX_COMMENTS)


@router.post("/models/{model}/versions/{version}/sign-off")
def answer(
    request: Request, model: str, version: int, answer: Annotated[Answer, Form()], services: Services, user: User
) -> Response:
    """Record the answer of the form and go back to the version."""
    sign_off(services, model, version, answer, tester=user)
    return RedirectResponse(f"{request.scope['root_path']}/models/{model}/versions/{version}#uat", 303)


@router.get("/static/{name}")
def static(name: str) -> Response:
    """Return a file of the console's looks."""
    if name not in _STATIC:
        raise NotFoundError(f"there is no file {name!r}")
    content = files("taxiway.web").joinpath("static", name).read_bytes()
    return Response(content, media_type=_STATIC[name], headers={"Cache-Control": "max-age=300"})


def render(request: Request, template: str, status: int = 200, **context: object) -> HTMLResponse:
    """Return a page; `base` is where the console is mounted, `airflow` is the root above it."""
    base = request.scope["root_path"]
    page = _templates().get_template(template)
    places = {"base": base, "airflow": base.rpartition("/")[0], "path": request.url.path}
    return HTMLResponse(page.render(**places, status=status, **context), status)


def is_api(request: Request) -> bool:
    """Tell whether the request is for the API, so that errors are JSON."""
    path: str = request.scope["path"]
    return path.removeprefix(request.scope["root_path"]).startswith("/api/")


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("taxiway.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "answer": figures.answer,
        "shown": figures.shown,
        "label": figures.label,
        "tables": figures.tables,
        "moment": _moment,
        "short": _short,
    }
    return environment


def _moment(value: datetime | str) -> str:
    """Return a time as people read it, in UTC; a text that is no time stays as it is."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return str(value)
    return f"{time.astimezone(UTC):%d %b %Y, %H:%M} UTC" if time.tzinfo else f"{time:%d %b %Y, %H:%M}"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
