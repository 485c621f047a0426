"""Airflow's REST API as one user of it: for the CLI, the demo and tests (tasks and plug-ins are inside Airflow)."""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from taxiway.errors import NotFoundError, OrchestratorUnavailable, PermanentError

_PAGE = 100  # Airflow gives no more at once
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_ASK_FOR_STATUS = "check that Airflow runs (`taxiway status`), then try again."
# A question waits in the triggerer when it ends by itself, else without one.
_UNANSWERED = ("deferred", "awaiting_input")
# On SQLite, Airflow answers 500 when two of its own requests wait for each other for too long.
_PAUSES = (1.0, 2.0)


class AirflowApi:
    """A client that logs in when first needed, and again when its token has expired.

    Every method raises OrchestratorUnavailable when Airflow does not answer, NotFoundError when what was named does
    not exist, and PermanentError with Airflow's reason for any other refusal.
    """

    def __init__(self, url: str, username: str, password: str, *, pauses: Sequence[float] = _PAUSES) -> None:
        self.url = url.rstrip("/")
        self._credentials = {"username": username, "password": password}
        self._http = httpx.Client(base_url=self.url, timeout=_TIMEOUT, transport=httpx.HTTPTransport(retries=1))
        weakref.finalize(self, self._http.close)
        self._token = ""
        self._pauses = pauses

    # Runs

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, Any] | None = None) -> bool:
        """Start a run by name and return True; return False when there is a run of that name already."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf or {})}
        path = f"/api/v2/dags/{quote(dag_id)}/dagRuns"
        response = self.request("POST", path, json=body)
        if response.status_code == httpx.codes.CONFLICT:
            return False
        self._document(response)
        return True

    def retry(self, dag_id: str, run_id: str) -> None:
        """Run the failed tasks of a run again, and what did not run because of them."""
        self.post(f"{_run(dag_id, run_id)}/clear", {"dry_run": False, "only_failed": True})

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a run: `state`, `conf`, `start_date`, `end_date`, ..."""
        return self._object(_run(dag_id, run_id))

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return all runs of a DAG (`~`: of all DAGs), newest first."""
        return self._all(f"/api/v2/dags/{quote(dag_id)}/dagRuns", "dag_runs", order_by="-run_after")

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the run's task instances: `task_id`, `map_index`, `state`, `try_number`, ..."""
        return self._all(f"{_run(dag_id, run_id)}/taskInstances", "task_instances")

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", *, map_index: int = -1) -> Any:
        """Return a value that a task left."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}/xcomEntries/{quote(key)}"
        return self._object(path, map_index=map_index)["value"]

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int, *, map_index: int = -1) -> str:
        """Return the log of one try, one line per event, with the exceptions it recorded."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}/logs/{try_number}"
        content = self._object(path, map_index=map_index, full_content="true")["content"]
        return "\n".join(_line(entry) for entry in content)

    # People

    def pending_approvals(self) -> list[dict[str, Any]]:
        """Return what waits for a person: `subject`, `options`, `params`, `assigned_users`, `task_instance`, ...

        Airflow keeps listing questions of tasks that have ended meanwhile; these are left out.
        """
        details = self._all("/api/v2/dags/~/dagRuns/~/hitlDetails", "hitl_details", response_received="false")
        return [detail for detail in details if detail["task_instance"]["state"] in _UNANSWERED]

    def approve(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        option: str,
        params_input: Mapping[str, Any] | None = None,
        *,
        map_index: int = -1,
    ) -> dict[str, Any]:
        """Answer a question as this user; `params_input` is empty or has exactly the keys of its params.

        Airflow refuses a second answer, an unknown option, and users who are not assigned.
        """
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}/{map_index}/hitlDetails"
        body = {"chosen_options": [option], "params_input": dict(params_input or {})}
        answer: dict[str, Any] = self._document(self.request("PATCH", path, json=body))
        return answer

    # DAGs

    def health(self) -> dict[str, Any]:
        """Return the health of Airflow's components, such as {"scheduler": {"status": "healthy"}, ...}."""
        answer: dict[str, Any] = self._document(self._send("GET", "/api/v2/monitor/health", {}))
        return answer

    def dags(self) -> list[dict[str, Any]]:
        """Return all DAGs: `dag_id`, `is_paused`, `tags`, ..."""
        return self._all("/api/v2/dags", "dags", exclude_stale="true")

    def unpause(self, dag_id: str) -> None:
        """Let the DAG run."""
        self._document(self.request("PATCH", f"/api/v2/dags/{quote(dag_id)}", json={"is_paused": False}))

    def import_errors(self) -> list[dict[str, Any]]:
        """Return the DAG files that cannot be read: `filename`, `stack_trace`."""
        return self._all("/api/v2/importErrors", "import_errors")

    # Any route, such as those of plug-ins

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON answer of a route."""
        return self._document(self.request("GET", path, params=params))

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send JSON to a route and return its JSON answer."""
        return self._document(self.request("POST", path, json=dict(body or {})))

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """Replace what a route holds by JSON and return its JSON answer."""
        return self._document(self.request("PUT", path, json=dict(body)))

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send any request as this user and return the answer, whatever its status."""
        if not self._token:
            self._log_in()
        response = self._send(method, path, options)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            self._log_in()
            response = self._send(method, path, options)
        return response

    def _log_in(self) -> None:
        response = self._send("POST", "/auth/token", {"json": self._credentials})
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise PermanentError(
                f"Airflow does not accept user {self._credentials['username']!r} with this password",
                where=self.url,
                next_step="look at the users and passwords of this installation.",
            )
        self._token = self._document(response)["access_token"]

    def _send(self, method: str, path: str, options: Mapping[str, Any]) -> httpx.Response:
        """Send and return the answer; what failed on Airflow's side is sent again after each pause.

        Every call of this client may be repeated: runs are started by name, an answered approval stays as it is.
        """
        for pause in self._pauses:
            try:
                return self._send_once(method, path, options)
            except OrchestratorUnavailable:
                time.sleep(pause)
        return self._send_once(method, path, options)

    def _send_once(self, method: str, path: str, options: Mapping[str, Any]) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token and path != "/auth/token" else {}
        try:
            response = self._http.request(method, path, headers=headers, **options)
        except httpx.TransportError as error:
            detail = str(error) or type(error).__name__
            raise OrchestratorUnavailable(
                f"Airflow did not answer: {detail}", where=self.url, next_step=_ASK_FOR_STATUS
            ) from error
        if response.is_server_error or response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise OrchestratorUnavailable(
                f"Airflow answered {response.status_code}: {_reason(response)}",
                where=f"{self.url}{path}",
                next_step=_ASK_FOR_STATUS,
            )
        return response

    def _document(self, response: httpx.Response) -> Any:
        where = f"{response.request.method} {response.request.url}"
        if response.status_code == httpx.codes.NOT_FOUND:
            raise NotFoundError(_reason(response), where=where)
        if response.is_error:
            raise PermanentError(f"Airflow answered {response.status_code}: {_reason(response)}", where=where)
        if "json" not in response.headers.get("content-type", ""):
            # Airflow answers unknown paths outside of /api with its start page
            raise NotFoundError("Airflow has no such route, or its plug-in could not be loaded", where=where)
        return response.json()

    def _object(self, path: str, **params: Any) -> dict[str, Any]:
        document: dict[str, Any] = self.get(path, **params)
        return document

    def _all(self, path: str, key: str, **params: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = self._object(path, limit=_PAGE, offset=len(found), **params)
            found += page[key]
            if not page[key] or len(found) >= page["total_entries"]:
                return found


def _run(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='~')}"


def _reason(response: httpx.Response) -> str:
    """Return the `detail` that Airflow gives; other bodies are cut short."""
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:300]


def _line(entry: Any) -> str:
    if not isinstance(entry, Mapping):
        return str(entry)
    line = " ".join(str(entry[name]) for name in ("timestamp", "level", "event") if entry.get(name))
    raised = [f"{item.get('exc_type')}: {item.get('exc_value')}" for item in entry.get("error_detail") or []]
    return "\n".join([line, *raised])
