"""The API of the console: what the pages show, as JSON, and the sign-off."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic_core import to_json

from taxiway.web import snapshots
from taxiway.web.access import Services, User
from taxiway.web.answers import Answer, sign_off

router = APIRouter(prefix="/api")


@router.get("/models")
def models(services: Services) -> Response:
    """Return every model with its versions."""
    return _json(snapshots.overview(services.specs(), services.registry))


@router.get("/models/{model}/versions/{version}")
def version(model: str, version: int, services: Services, user: User) -> Response:
    """Return one version with its evidence, cases and sign-offs."""
    return _json(snapshots.version_details(services, model, version, user=user))


@router.put("/models/{model}/versions/{version}/sign-offs/me")
def put_sign_off(model: str, version: int, answer: Answer, services: Services, user: User) -> Response:
    """Record the answer of the signed-in tester, in place of an earlier one."""
    return _json(sign_off(services, model, version, answer, tester=user))


def _json(value: object) -> Response:
    """Return a snapshot as JSON (what is no number becomes null)."""
    return Response(to_json(value, inf_nan_mode="null"), media_type="application/json")
