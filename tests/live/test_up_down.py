"""The installation comes up, heals itself, and goes down without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import httpx
import psutil

from taxiway.supervisor.processes import marked
from taxiway.supervisor.state import read_state
from tests.live.conftest import LiveInstallation, wait_for

PROGRAMS = {
    "gateway-staging",
    "gateway-production",
    "mlflow",
    "airflow-api-server",
    "airflow-dag-processor",
    "airflow-scheduler",
    "airflow-triggerer",
}


def test_everything_is_up(installation: LiveInstallation) -> None:
    """`status` finds every program answering, and exits with 0."""
    done = installation.taxiway("status", "--json")
    status = json.loads(done.stdout)

    assert done.returncode == 0
    assert status["up"] is True
    assert {name: program["phase"] for name, program in status["programs"].items()} == dict.fromkeys(PROGRAMS, "ready")
    assert status["models"]["flight_delays"]["problems"] == []


def test_a_second_up_starts_nothing(installation: LiveInstallation) -> None:
    """`up` on a running installation says so and exits with 0; every process stays the same."""
    before = {name: program.pid for name, program in installation.programs().items()}

    done = installation.taxiway("up", "--detach")

    assert done.returncode == 0
    assert "already up" in done.stdout
    assert {name: program.pid for name, program in installation.programs().items()} == before


def test_everything_listens_on_loopback_only(installation: LiveInstallation) -> None:
    """No process of the installation can be reached from another machine."""
    ours = {process.pid for process in marked(installation.home)}
    listening = [item for item in psutil.net_connections(kind="inet") if item.status == psutil.CONN_LISTEN]
    addresses = {item.laddr.ip for item in listening if item.pid in ours}

    assert addresses == {"127.0.0.1"}


def test_people_log_in_and_strangers_do_not(installation: LiveInstallation) -> None:
    """Each tester and approver of the specs has a login of their own; without one Airflow answers nothing."""
    for person in ("ana", "ben", "carla", "dana"):
        assert installation.airflow(person).dags()

    assert httpx.get(f"{installation.settings.url('airflow')}/api/v2/dags").status_code == httpx.codes.UNAUTHORIZED


def test_secrets_are_not_in_logs(installation: LiveInstallation) -> None:
    """No log file has a token, a password or a key in it."""
    credentials = installation.credentials
    values = [*credentials.passwords.values(), credentials.staging_token, credentials.production_token]
    values += [credentials.airflow_secret, credentials.airflow_jwt_secret, credentials.airflow_fernet_key]
    logs = {path: path.read_text(errors="replace") for path in (installation.home / "logs").glob("*.log")}

    assert {path.name for path, text in logs.items() if any(value in text for value in values)} == set()


def test_what_dies_is_started_again(installation: LiveInstallation) -> None:
    """After SIGKILL of every program at once all are up again, in new processes and with no orphan left behind."""
    before = installation.programs()
    for program in before.values():
        if program.phase == "ready":
            assert program.pid is not None
            os.kill(program.pid, signal.SIGKILL)

    wait_for(
        lambda: all(
            program.phase == "ready" and program.restarts == before[name].restarts + 1
            for name, program in installation.programs().items()
            if name in PROGRAMS
        ),
        "every program's restart",
        seconds=600,
    )

    after = installation.programs()
    assert not {after[name].pid for name in PROGRAMS} & {before[name].pid for name in PROGRAMS}
    assert _strays(installation) == []
    assert installation.taxiway("status").returncode == 0


def test_up_after_the_supervisor_was_killed(installation: LiveInstallation) -> None:
    """`up` ends what a killed supervisor left behind: no second copy runs, and nothing that was stored is lost."""
    run_id = f"before-{time.time():.0f}"
    installation.airflow().trigger("flight_delays.retraining", run_id, {})
    build = installation.services.registry.open_build("flight_delays", run_id, {})
    state = read_state(installation.settings.run)
    assert state is not None
    before = {process.pid for process in marked(installation.home)}

    os.kill(state.pid, signal.SIGKILL)
    gateway = installation.settings.url("production")
    assert httpx.get(f"{gateway}/healthz").is_success  # it serves on
    installation.up()

    now = marked(installation.home)
    assert not {process.pid for process in now} & before
    assert _strays(installation) == []
    assert installation.airflow().run("flight_delays.retraining", run_id)["dag_run_id"] == run_id
    assert installation.services.registry.open_build("flight_delays", run_id, {}) == build


def test_down_leaves_nothing(installation: LiveInstallation) -> None:
    """After `down` no process is left; `status` says so and exits with 1, and another `down` finds nothing."""
    installation.down()

    done = installation.taxiway("status")

    assert done.returncode == 1
    assert "is down" in done.stdout
    assert "nothing to stop" in installation.taxiway("down").stdout


def test_ctrl_c_stops_everything(installation: LiveInstallation) -> None:
    """An `up` that stays in the foreground shows the addresses, and takes everything down when it is interrupted."""
    installation.down()
    with subprocess.Popen(installation.command("up"), stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        shown = []
        while not (shown and shown[-1].startswith("logs")):
            shown.append(up.stdout.readline())
            assert shown[-1], shown
        assert any(installation.settings.url("airflow") in line for line in shown)
        assert installation.taxiway("status").returncode == 0

        up.send_signal(signal.SIGINT)
        up.communicate(timeout=120)

    assert up.returncode == 0
    assert marked(installation.home) == []


def _strays(installation: LiveInstallation) -> list[psutil.Process]:
    """Return processes of the installation that descend from none of its programs."""
    pids = {program.pid for program in installation.programs().values()}
    return [
        process
        for process in marked(installation.home)
        if process.pid not in pids and not pids & {parent.pid for parent in process.parents()}
    ]
