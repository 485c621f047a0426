"""The Airflow client's own decisions, against a small server that answers as Airflow does; tests/live has Airflow."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from taxiway.adapters.airflow_api import AirflowApi
from taxiway.errors import NotFoundError, OrchestratorUnavailable, PermanentError
from tests.conftest import free_port

RUN = "/api/v2/dags/flight_delays.ci/dagRuns"


@dataclass
class Airflow:
    """What the server answers per (method, path), the token it accepts, and what it was asked."""

    url: str = ""
    token: str = "first"
    logins: int = 0
    answers: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    def answer(self, method: str, target: str, body: Any, authorization: str) -> tuple[int, Any]:
        """Return status and document (a text is sent as HTML)."""
        path = urlsplit(target).path
        self.asked.append((method, target, body))
        if path == "/auth/token":
            self.logins += 1
            return (201, {"access_token": self.token}) if body["password"] == "right" else (401, {"detail": "no"})
        if path != "/api/v2/monitor/health" and authorization != f"Bearer {self.token}":
            return 401, {"detail": "Not authenticated"}
        if path == "/api/v2/dags":
            offset = int(parse_qs(urlsplit(target).query)["offset"][0])
            return 200, {"dags": [{"dag_id": f"d{n}"} for n in range(offset, min(offset + 2, 5))], "total_entries": 5}
        return self.answers.get((method, path), (200, "<html>the start page</html>"))


@pytest.fixture
def airflow() -> Iterator[Airflow]:
    found = Airflow()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            status, document = found.answer(self.command, self.path, body, self.headers.get("Authorization", ""))
            html = isinstance(document, str)
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if html else "application/json")
            self.end_headers()
            self.wfile.write((document if html else json.dumps(document)).encode())

        do_GET = do_POST = do_PATCH = do_PUT = answer

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def api(airflow: Airflow) -> AirflowApi:
    return AirflowApi(airflow.url, "ana", "right", pauses=(0.0,))


def test_it_logs_in_once_and_again_when_the_token_expired(api: AirflowApi, airflow: Airflow) -> None:
    """The token is used until Airflow refuses it; then a new one is fetched and the call repeated."""
    airflow.answers["GET", "/taxiway/api/me"] = (200, {"user": "ana"})
    assert api.get("/taxiway/api/me") == api.get("/taxiway/api/me") == {"user": "ana"}
    assert airflow.logins == 1
    airflow.token = "second"
    assert api.get("/taxiway/api/me") == {"user": "ana"}
    assert airflow.logins == 2


def test_a_wrong_password_is_permanent(airflow: Airflow) -> None:
    """A wrong password names the user and is not tried again."""
    with pytest.raises(PermanentError, match="'ana'"):
        AirflowApi(airflow.url, "ana", "wrong").dags()
    assert airflow.logins == 1


def test_a_run_is_started_once(api: AirflowApi, airflow: Airflow) -> None:
    """The first trigger of a name starts a run; a repeat is no error."""
    airflow.answers["POST", RUN] = (200, {"dag_run_id": "commit-abc"})
    assert api.trigger("flight_delays.ci", "commit-abc", {"sha": "abc"})
    assert airflow.asked[-1] == (
        "POST",
        RUN,
        {"dag_run_id": "commit-abc", "logical_date": None, "conf": {"sha": "abc"}},
    )
    airflow.answers["POST", RUN] = (409, {"detail": "exists"})
    assert not api.trigger("flight_delays.ci", "commit-abc", {"sha": "abc"})


def test_bad_parameters_are_permanent(api: AirflowApi, airflow: Airflow) -> None:
    """What Airflow refuses is told in its own words."""
    airflow.answers["POST", RUN] = (400, {"detail": "Invalid input for param n: 99 is greater than the maximum"})
    with pytest.raises(PermanentError, match="99 is greater"):
        api.trigger("flight_delays.ci", "commit-abc")


def test_what_does_not_exist_is_not_found(api: AirflowApi, airflow: Airflow) -> None:
    """A 404 is NotFoundError, and so is Airflow's start page in place of a plug-in's answer."""
    airflow.answers["GET", f"{RUN}/none"] = (404, {"detail": "The DagRun was not found"})
    with pytest.raises(NotFoundError, match="DagRun"):
        api.run("flight_delays.ci", "none")
    with pytest.raises(NotFoundError, match="plug-in"):
        api.get("/taxiway/api/none")


def test_no_answer_and_server_errors_are_transient(api: AirflowApi, airflow: Airflow) -> None:
    """An Airflow that is down or broken is worth another try."""
    airflow.answers["GET", f"{RUN}/x"] = (503, "<html>busy</html>")
    with pytest.raises(OrchestratorUnavailable, match="503"):
        api.run("flight_delays.ci", "x")
    with pytest.raises(OrchestratorUnavailable):
        AirflowApi(f"http://127.0.0.1:{free_port()}", "ana", "right", pauses=()).health()


def test_health_needs_no_login(api: AirflowApi, airflow: Airflow) -> None:
    """The health of Airflow can be seen before anybody logs in."""
    airflow.answers["GET", "/api/v2/monitor/health"] = (200, {"scheduler": {"status": "healthy"}})
    assert api.health()["scheduler"]["status"] == "healthy"
    assert airflow.logins == 0


def test_lists_are_read_to_their_end(api: AirflowApi) -> None:
    """All pages of a list are read, also when Airflow gives fewer entries at once than were asked for."""
    assert [dag["dag_id"] for dag in api.dags()] == ["d0", "d1", "d2", "d3", "d4"]


def test_only_what_waits_is_pending(api: AirflowApi, airflow: Airflow) -> None:
    """Questions of tasks that have ended meanwhile are left out."""
    states = ("deferred", "awaiting_input", "failed", None)
    details = [{"subject": state, "task_instance": {"state": state}} for state in states]
    path = "/api/v2/dags/~/dagRuns/~/hitlDetails"
    airflow.answers["GET", path] = (200, {"hitl_details": details, "total_entries": 4})
    assert [detail["subject"] for detail in api.pending_approvals()] == ["deferred", "awaiting_input"]


def test_an_answer_is_sent_as_airflow_wants_it(api: AirflowApi, airflow: Airflow) -> None:
    """An answer goes to the task instance with the option in a list; run ids with odd characters are quoted."""
    path = "/api/v2/dags/d.delivery/dagRuns/manual__1%2B2/taskInstances/ask/-1/hitlDetails"
    airflow.answers["PATCH", path] = (200, {"responded_at": "now"})
    assert api.approve("d.delivery", "manual__1+2", "ask", "Approve", {"comment": "ok"}) == {"responded_at": "now"}
    assert airflow.asked[-1][2] == {"chosen_options": ["Approve"], "params_input": {"comment": "ok"}}


def test_a_log_is_text_with_its_exceptions(api: AirflowApi, airflow: Airflow) -> None:
    """Each event of a log is a line, plain or structured, and recorded exceptions follow theirs."""
    content = [
        {"timestamp": "12:00", "level": "info", "event": "training"},
        {"event": "Task failed", "error_detail": [{"exc_type": "GateFailed", "exc_value": "roc_auc 0.5"}]},
        "a plain line",
    ]
    path = f"{RUN}/commit-abc/taskInstances/train/logs/1"
    airflow.answers["GET", path] = (200, {"content": content, "continuation_token": None})
    lines = api.task_log("flight_delays.ci", "commit-abc", "train", 1).splitlines()
    assert lines == ["12:00 info training", "Task failed", "GateFailed: roc_auc 0.5", "a plain line"]
