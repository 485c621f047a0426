"""MLflow's REST API over httpx: JSON calls and the artifact proxy, with errors of Taxiway.

mlflow itself is not imported: a REST call costs a tenth of the CPU time of importing MlflowClient.
"""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from taxiway.errors import NotFoundError, PermanentError, RegistryUnavailable

_API = "/api/2.0/mlflow/"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_ASK_FOR_STATUS = "check that MLflow runs (`taxiway status`), then try again."
_COLLISION = "BAD_REQUEST"
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


class MlflowRest:
    """One MLflow server; safe to share between threads."""

    def __init__(self, url: str, timeout: httpx.Timeout = _TIMEOUT) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, timeout=timeout, transport=httpx.HTTPTransport(retries=1))
        weakref.finalize(self, self._http.close)

    def get(self, path: str, *, allow: str = "", **params: str | int) -> dict[str, Any]:
        """Call a reading endpoint, such as `runs/get`; empty when MLflow answers with the error code `allow`.

        Raises NotFoundError, PermanentError with MLflow's message, or RegistryUnavailable.
        """
        return self._document(self._send("GET", _API + path, params=params), allow)

    def post(self, path: str, body: Mapping[str, Any], *, method: str = "POST", allow: str = "") -> dict[str, Any]:
        """Call a writing endpoint; answers and raises as `get` does.

        Two clients that create the same alias or tag at once can collide in MLflow's database: one of them gets an
        IntegrityError though nothing is wrong, and its second try succeeds.
        """
        response = self._send(method, _API + path, json=body)
        if response.status_code == httpx.codes.BAD_REQUEST and _explain(response)[0] == _COLLISION:
            response = self._send(method, _API + path, json=body)
        return self._document(response, allow)

    def upload(self, path: str, source: Path) -> None:
        """Stream a file to the artifact store; the server replaces what was there when the body is complete."""
        with source.open("rb") as file:
            self._check(self._send("PUT", self._artifact(path), content=file))

    def upload_bytes(self, path: str, content: bytes) -> None:
        """Store bytes as an artifact."""
        self._check(self._send("PUT", self._artifact(path), content=content))

    def read(self, path: str) -> bytes:
        """Return an artifact's bytes; raises NotFoundError."""
        return self._check(self._send("GET", self._artifact(path))).content

    def download(self, path: str, destination: Path) -> None:
        """Stream an artifact to a file that appears only when it is complete; raises NotFoundError."""
        destination.parent.mkdir(parents=True, exist_ok=True)
        partial = destination.with_name(f".{uuid.uuid4().hex}.part")
        try:
            with self._http.stream("GET", self._artifact(path)) as response:
                if response.is_error:
                    response.read()
                self._check(response)
                with partial.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
            partial.replace(destination)
        except httpx.TransportError as error:
            raise self._unavailable(error) from error
        finally:
            partial.unlink(missing_ok=True)

    def entries(self, path: str) -> list[tuple[str, bool]]:
        """Return (name, is a directory) of everything directly below an artifact directory, sorted."""
        document = self._document(self._send("GET", _ARTIFACTS, params={"path": path}))
        return sorted((entry["path"], bool(entry.get("is_dir"))) for entry in document.get("files", []))

    def delete(self, path: str) -> None:
        """Remove an artifact; nothing happens when there is none."""
        self._check(self._send("DELETE", self._artifact(path)))

    @staticmethod
    def _artifact(path: str) -> str:
        return f"{_ARTIFACTS}/{quote(path)}"

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._unavailable(error) from error

    def _document(self, response: httpx.Response, allow: str = "") -> dict[str, Any]:
        if allow and response.is_client_error and _explain(response)[0] == allow:
            return {}
        document: dict[str, Any] = self._check(response).json()
        return document

    def _check(self, response: httpx.Response) -> httpx.Response:
        if not response.is_error:
            return response
        code, message = _explain(response)
        if response.status_code >= 500 or response.status_code == 429:
            raise RegistryUnavailable(
                f"MLflow answered {response.status_code}: {message}", where=self.url, next_step=_ASK_FOR_STATUS
            )
        if code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFoundError(message, where=self.url)
        raise PermanentError(f"MLflow answered {response.status_code}: {message}", where=self.url)

    def _unavailable(self, error: httpx.TransportError) -> RegistryUnavailable:
        detail = str(error) or type(error).__name__
        return RegistryUnavailable(f"MLflow did not answer: {detail}", where=self.url, next_step=_ASK_FOR_STATUS)


def _explain(response: httpx.Response) -> tuple[str, str]:
    """Return MLflow's error code and message; other bodies (a proxy's page) are cut short."""
    try:
        document = response.json()
        return str(document.get("error_code", "")), str(document.get("message") or document.get("detail", ""))
    except (ValueError, AttributeError):
        return "", response.text[:300]
