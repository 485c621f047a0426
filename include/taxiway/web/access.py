"""Who asks, and from where: every request has a signed-in user, and changes come from our own pages.

Airflow's session cookie is SameSite=lax and Airflow checks no origin, so the console does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Protocol
from urllib.parse import urlsplit

from fastapi import Depends, Request

from taxiway.bootstrap import Settings
from taxiway.errors import NotAllowed
from taxiway.ports import Clock, Registry
from taxiway.spec import ModelSpec
from taxiway.spec_files import SpecSet

CurrentUser = Callable[..., str | Awaitable[str]]
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class Installation(Protocol):
    """What the console needs of `bootstrap.Services`."""

    @property
    def settings(self) -> Settings: ...
    @property
    def registry(self) -> Registry: ...
    @property
    def clock(self) -> Clock: ...
    def specs(self) -> SpecSet: ...
    def spec(self, model: str) -> ModelSpec: ...


def identify(current_user: CurrentUser) -> Callable[..., None]:
    """Return the dependency of the whole app that remembers who asks; `current_user` refuses strangers."""

    user_of_request = Depends(current_user)

    def remember(request: Request, user: str = user_of_request) -> None:
        request.state.taxiway_user = user

    return remember


def same_origin(request: Request) -> None:
    """Raise NotAllowed for a change that a page of another site sent with the user's cookie.

    Browsers say where a request comes from in Sec-Fetch-Site (over HTTPS and on localhost) and in Origin (always);
    clients that are no browsers send neither, and carry no cookie that another site could use.
    """
    if request.method in _SAFE_METHODS:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    trusted = site == "same-origin" if site else origin is None or urlsplit(origin).netloc == request.url.netloc
    if not trusted:
        raise NotAllowed("the request came from a page of another site", next_step="use the form on this console.")


def signed_in(request: Request) -> str:
    """Return the name of the user, which `identify` has remembered."""
    return str(request.state.taxiway_user)


def installation(request: Request) -> Installation:
    """Return the services; raises SettingsError when this Airflow was not set up for Taxiway."""
    found: Installation = request.app.state.installation()
    return found


User = Annotated[str, Depends(signed_in)]
Services = Annotated[Installation, Depends(installation)]
