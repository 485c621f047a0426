"""The gateway as a target of MLflow's deployment commands: the plug-in `taxiway` of `mlflow.deployments`.

    mlflow deployments predict -t taxiway://127.0.0.1:7001 --name flight_delays -I rows.json
    mlflow deployments list -t taxiway://127.0.0.1:7001
    mlflow.deployments.get_deploy_client("taxiway://127.0.0.1:7001").predict("flight_delays", inputs=frame)

A deployment is a model; MLflow loads this module into the caller's process. `taxiway+https://host/prefix` asks over
TLS. `get` wants the token of the gateway's control path in TAXIWAY_CONTROL_TOKEN; `predict` and `list` send the token
in TAXIWAY_DATA_TOKEN when it is set, for gateways that ask for one. Nothing is deployed from here: what serves was
tested, approved and signed, and only the model's pipeline does that.

Every failure is an MlflowException, as MLflow's interface asks for.
"""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Mapping
from datetime import date
from typing import Any, NoReturn
from urllib.parse import SplitResult, quote, urlsplit

import httpx
import pandas as pd
from mlflow.deployments import BaseDeploymentClient, PredictionsResponse
from mlflow.exceptions import MlflowException, get_error_code

from taxiway.stages.scoring_protocol import JSON, as_split, request

CONTROL_TOKEN, DATA_TOKEN = "TAXIWAY_CONTROL_TOKEN", "TAXIWAY_DATA_TOKEN"
_SCHEMES = {"taxiway": "http", "taxiway+https": "https"}
_FORMS = {"dataframe_split", "dataframe_records", "instances", "inputs"}
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
_INVALID, _MISSING, _NOT_HERE, _UNAVAILABLE = 400, 404, 501, 503


class TaxiwayClient(BaseDeploymentClient):
    """One gateway, at `taxiway://host:port` or `taxiway+https://host`."""

    def __init__(self, target_uri: str) -> None:
        super().__init__(target_uri)  # type: ignore[no-untyped-call]
        self._url = _address(target_uri)
        # A gateway without TLS is on this machine or network: no proxy of the environment may come between.
        self._http = httpx.Client(timeout=_TIMEOUT, trust_env=self._url.startswith("https:"))
        weakref.finalize(self, self._http.close)

    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> PredictionsResponse:
        """Ask the model for predictions; the response also names the version that answered, and the request.

        `inputs` is a frame (its key and timestamp columns, if any, go to the prediction log), an array, a list, a dict
        of columns, or a complete body of the scoring protocol such as {"dataframe_records": [...], "params": {...}}.
        """
        path = f"/models/{_model(deployment_name, endpoint)}/invocations"
        headers = {"Content-Type": JSON, **_bearer(os.environ.get(DATA_TOKEN))}
        response = self._send("POST", path, headers, _body(inputs))
        return PredictionsResponse(
            self._document(response, "predictions"),
            model_version=response.headers.get("X-Taxiway-Model-Version"),
            request_id=response.headers.get("X-Request-Id"),
        )

    def list_deployments(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """Return the models of this gateway, each with the state of its versions (starting, ready, failed)."""
        _no_endpoint(endpoint)
        response = self._send("GET", "/healthz", _bearer(os.environ.get(DATA_TOKEN)))
        models = self._document(response, "models")["models"]
        return [{"name": model, "versions": versions} for model, versions in models.items()]

    def get_deployment(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        """Return who gets the model's traffic (None: nobody), and each version's digest and state."""
        path = f"/control/models/{_model(name, endpoint)}"
        token = os.environ.get(CONTROL_TOKEN)
        if not token:
            advice = f"Set {CONTROL_TOKEN} to the token of its control path (`taxiway status --secrets` shows it)."
            raise _error(f"The gateway at {self._url} tells this only to those who operate it. {advice}")
        document = self._document(self._send("GET", path, _bearer(token)), "versions")
        if not document["versions"]:
            raise _error(f"Model {name!r} is not deployed at {self._url}.", _MISSING)
        return {"name": name, "traffic": document["plan"], "versions": document["versions"]}

    def create_deployment(
        self,
        name: str,
        model_uri: str,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> NoReturn:
        """Refuse: a version is deployed by its delivery."""
        _refuse_delivery(name)

    def update_deployment(
        self,
        name: str,
        model_uri: str | None = None,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> NoReturn:
        """Refuse: another version takes over through its delivery, or through a rollback."""
        _refuse_delivery(name)

    def delete_deployment(
        self, name: str, config: Mapping[str, Any] | None = None, endpoint: str | None = None
    ) -> NoReturn:
        """Refuse: the version that serves is replaced, never just taken away."""
        raise _error(
            f"Model {name!r} is not taken out of service from here. To go back to the version before, run "
            f"`taxiway rollback {name}`, or start the DAG {name}.rollback in Airflow.",
            _NOT_HERE,
        )

    def _send(self, method: str, path: str, headers: Mapping[str, str], content: bytes | None = None) -> httpx.Response:
        """Return a success; raises MlflowException with what the gateway says."""
        try:
            response = self._http.request(method, self._url + path, headers=headers, content=content)
        except httpx.TransportError as error:
            what = f"The gateway at {self._url} does not answer: {str(error) or type(error).__name__}"
            raise _error(what, _UNAVAILABLE) from error
        if response.is_success:
            return response
        raise _error(f"The gateway at {self._url} refuses: {_explanation(response)}", response.status_code)

    def _document(self, response: httpx.Response, key: str) -> dict[str, Any]:
        """Return the JSON object of a success, which has the key; raises MlflowException for anything else."""
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict) or key not in document:
            raise _error(f"What answers at {self._url} is no gateway: it is a success without {key}.", _UNAVAILABLE)
        return document


def run_local(*_: object, **__: object) -> NoReturn:
    """Refuse: MLflow itself serves a model that is only tried (and documents other arguments than it sends)."""
    raise _error("To try a model on this machine, run `mlflow models serve --model-uri MODEL_URI`.", _NOT_HERE)


def target_help() -> str:
    """Return what `mlflow deployments help -t taxiway` prints."""
    return __doc__ or ""


def _refuse_delivery(name: str) -> NoReturn:
    raise _error(
        f"Model {name!r} is not deployed from here, because what serves was tested, approved and signed. Start the DAG "
        f"{name}.delivery in Airflow with the version, or commit to the model's repository. To go back to the version "
        f"before, run `taxiway rollback {name}`.",
        _NOT_HERE,
    )


def _address(target_uri: str) -> str:
    """Return the gateway's URL; raises MlflowException."""
    try:
        found = urlsplit(target_uri)
        url = f"{_SCHEMES.get(found.scheme, 'http')}://{found.netloc}{found.path.rstrip('/')}"
        httpx.URL(url).host.encode("idna")  # as a request does
        is_one = found.scheme in _SCHEMES and found.hostname and found.port != 0 and not _has_more(found)
    except (ValueError, httpx.InvalidURL):
        is_one = False
    if not is_one:
        forms = "taxiway://HOST:PORT or taxiway+https://HOST[:PORT][/PREFIX]"
        raise _error(f"The target must be {forms}, such as taxiway://127.0.0.1:7001 or taxiway://[::1]:7001.")
    return url


def _has_more(found: SplitResult) -> bool:
    return bool(found.username is not None or found.password is not None or found.query or found.fragment)


def _model(name: str | None, endpoint: str | None) -> str:
    _no_endpoint(endpoint)
    if not name:
        raise _error("Name the model, with --name or as `deployment_name`.")
    return quote(name, safe="")


def _no_endpoint(endpoint: str | None) -> None:
    if endpoint is not None:
        raise _error("This target has no endpoints: name the model, with --name or as `deployment_name`.")


def _body(inputs: Any) -> bytes:
    """Return the request in MLflow's scoring protocol."""
    if isinstance(inputs, pd.DataFrame):
        return request(as_split(inputs))
    document = inputs if isinstance(inputs, dict) and _FORMS & inputs.keys() else {"inputs": inputs}
    return json.dumps(document, default=_plain).encode()


def _plain(value: Any) -> Any:
    """Return an array as lists and a time as ISO 8601; raises MlflowException for what JSON cannot tell."""
    if isinstance(value, date):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise _error(f"The inputs have a {type(value).__name__}, which cannot be sent.")


def _bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.strip()}"} if token else {}


def _explanation(response: httpx.Response) -> str:
    try:
        document = response.json()
    except ValueError:
        document = None
    words = document if isinstance(document, dict) else {}
    what = words.get("message") or words.get("error") or f"status {response.status_code}"
    return f"{what} (next: {words['next']})" if words.get("next") else str(what)


def _error(message: str, status: int = _INVALID) -> MlflowException:
    return MlflowException(message, error_code=get_error_code(status))
