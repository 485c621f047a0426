"""The serving target on Taxiway's own gateway, over its control and data path."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

import httpx
import pandas as pd

from taxiway.domain.observation import VersionObservation
from taxiway.domain.values import (
    Prediction,
    Release,
    TargetStatus,
    TrafficPlan,
    VersionStatus,
)
from taxiway.errors import (
    DataError,
    DeliveryStopped,
    IntegrityError,
    NotFoundError,
    PermanentError,
    SettingsError,
    TargetUnavailable,
)
from taxiway.stages.scoring_protocol import JSON, as_split, request

_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
_DEPLOY_TIMEOUT = httpx.Timeout(1800.0, connect=5.0)  # the gateway may have to build the model's environment
_ASK_FOR_STATUS = "check that the gateway runs (`taxiway status`), then try again."
_REFUSALS: Mapping[int, type[PermanentError]] = {
    httpx.codes.UNAUTHORIZED: SettingsError,
    httpx.codes.FORBIDDEN: IntegrityError,
    httpx.codes.NOT_FOUND: NotFoundError,
    httpx.codes.CONFLICT: DeliveryStopped,
    httpx.codes.UNPROCESSABLE_ENTITY: DeliveryStopped,
}


class GatewayTarget:
    """One gateway, such as staging or production; safe to share between threads.

    `token` opens its control path, `data_token` its data path when that is closed.
    """

    def __init__(self, url: str, token: str, data_token: str = "") -> None:
        self._url = url.rstrip("/")
        self._token = {"Authorization": f"Bearer {token}"}
        self._data_token = {"Authorization": f"Bearer {data_token}"} if data_token else {}
        # The gateway is on this machine or network: no proxy of the environment may come between.
        self._http = httpx.Client(base_url=self._url, timeout=_TIMEOUT, trust_env=False)
        weakref.finalize(self, self._http.close)

    def deploy(self, release: Release) -> None:
        """Load the version next to the others and return once it is ready; no traffic moves.

        Raises IntegrityError, DeliveryStopped, NotFoundError when the stored files are gone, SettingsError for a wrong
        token, TargetUnavailable when gateway or registry do not answer.
        """
        path = f"{release.model}/versions/{release.version}"
        self._control("PUT", path, json=release.to_json(), timeout=_DEPLOY_TIMEOUT)

    def set_traffic(self, model: str, plan: TrafficPlan) -> None:
        """Switch to the plan in one atomic change; raises DeliveryStopped when a version in it is not ready."""
        self._control("PUT", f"{model}/traffic", json=asdict(plan))

    def status(self, model: str) -> TargetStatus:
        """Return what is desired and what is observed; plan None when the model is not served."""
        document = self._control("GET", model)
        plan = TrafficPlan(**document["plan"]) if document["plan"] else None
        return TargetStatus(model, plan, tuple(VersionStatus(**version) for version in document["versions"]))

    def observe(self, model: str, since: datetime) -> list[VersionObservation]:
        """Return what each version did since the moment."""
        found = self._control("GET", f"{model}/observations", params={"since": since.isoformat()})
        return [VersionObservation.from_json(observation) for observation in found]

    def predict(self, model: str, frame: pd.DataFrame) -> Prediction:
        """Send the rows as one request; times go as ISO 8601, missing values as null.

        Raises NotFoundError when the model is not served, DataError when the model or the gateway refuse the rows.
        """
        response = self._send(
            "POST",
            f"/models/{model}/invocations",
            content=request(as_split(frame)),
            headers={"Content-Type": JSON, **self._data_token},
        )
        values = self._document(response, otherwise=DataError)["predictions"]
        version = int(response.headers["X-Taxiway-Model-Version"])
        return Prediction(version, response.headers["X-Request-Id"], tuple(values))

    def undeploy(self, model: str, version: int) -> None:
        """Stop a version that has no traffic; nothing happens when it is not deployed."""
        self._control("DELETE", f"{model}/versions/{version}")

    def _control(self, method: str, path: str, **options: Any) -> Any:
        response = self._send(method, f"/control/models/{path}", headers=self._token, **options)
        return self._document(response, otherwise=DeliveryStopped)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.TransportError as error:
            what = f"the gateway does not answer: {str(error) or type(error).__name__}"
            raise TargetUnavailable(what, where=self._url, next_step=_ASK_FOR_STATUS) from error

    def _document(self, response: httpx.Response, *, otherwise: type[PermanentError]) -> Any:
        """Return the JSON answer; raises what the status means, `otherwise` for a refusal of no special kind."""
        try:
            document = response.json()
        except ValueError as error:
            what = f"the gateway answered {response.status_code} without JSON"
            raise TargetUnavailable(what, where=self._url, next_step=_ASK_FOR_STATUS) from error
        if response.is_success:
            return document
        what = document.get("error") or document.get("message") or f"status {response.status_code}"
        where = document.get("where") or self._url
        if response.is_server_error or response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise TargetUnavailable(what, where=where, next_step=document.get("next") or _ASK_FOR_STATUS)
        kind = _REFUSALS.get(response.status_code, otherwise)
        raise kind(what, where=where, next_step=document.get("next") or "")
