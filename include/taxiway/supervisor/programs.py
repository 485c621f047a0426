"""The programs of an installation: commands, environments, order and readiness.

Least privilege: only Airflow's programs learn the signing key and the gateways' tokens; a gateway learns the public
key and its own token; MLflow learns neither. No program inherits more of the caller's environment than is listed here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from taxiway.bootstrap import PROJECT
from taxiway.supervisor.airflow_environment import airflow_environment
from taxiway.supervisor.credentials import Credentials
from taxiway.supervisor.installation import HOST, Installation
from taxiway.supervisor.processes import MARK

_SYSTEM = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SSH_AUTH_SOCK")
_SYSTEM_PREFIXES = ("LC_", "SSL_", "UV_", "GIT_", "REQUESTS_CA_", "CURL_CA_")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_STORAGE_PREFIXES = ("AWS_",)
_SCORER_MEMORY = "TAXIWAY_SCORER_MEMORY_MB"
GATEWAYS = ("staging", "production")
_DATA_TOKENS = {name: f"TAXIWAY_{name.upper()}_DATA_TOKEN" for name in GATEWAYS}


@dataclass(frozen=True, slots=True)
class Probe:
    """How to see that a program works: its URL answers 200; with `heartbeat`, that part of Airflow has beaten since."""

    url: str
    heartbeat: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """One program that the supervisor keeps running, or a step (no probe) that runs once and leaves `stamp`.

    `after` names the programs that must be ready before it starts; `stop_rank` orders the stop (lowest first);
    `grace` is how many seconds it gets to stop. A program that `outlives` its supervisor serves on after a crash.
    One with a `port` is handed the listening socket as `--fd N`: while it is dead, connections wait. Its process can be
    exchanged for a successor, which gets `--line N` (see `taxiway.supervisor.successor`).
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    probe: Probe | None = None
    after: tuple[str, ...] = ()
    stop_rank: int = 0
    grace: float = 5.0
    outlives: bool = False
    stamp: Path | None = None
    port: int | None = None


def programs(installation: Installation, credentials: Credentials, inherited: Mapping[str, str]) -> list[Program]:
    """Return all programs in the order they are shown; `inherited` is the caller's environment."""
    base = base_environment(installation, inherited)
    return [
        *(
            _gateway(name, installation, credentials, {**base, **_chosen(inherited, (own, _SCORER_MEMORY), ())})
            for name, own in _DATA_TOKENS.items()
        ),
        _mlflow(installation, base),
        *_airflow(installation, credentials, {**base, **data_tokens(inherited), **_storage(inherited)}),
    ]


def base_environment(installation: Installation, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return what every program gets: the listed system variables, the mark, and the installation's addresses.

    SPT_NOENV keeps Airflow's process titles from overwriting the environment that shows the mark.
    """
    path = f"{Path(sys.executable).parent}:{inherited.get('PATH', '/usr/local/bin:/usr/bin:/bin')}"
    return {
        **_chosen(inherited, (*_SYSTEM, *_PROXIES, *(name.lower() for name in _PROXIES)), _SYSTEM_PREFIXES),
        "PATH": path,
        "PYTHONPATH": str(PROJECT / "include"),
        "PYTHONUNBUFFERED": "1",
        "SPT_NOENV": "1",
        MARK: str(installation.home),
        "TAXIWAY_HOME": str(installation.home),
        "TAXIWAY_MODELS": str(installation.models),
        "TAXIWAY_ENVIRONMENTS": str(PROJECT / "include" / "environments.yaml"),
        "TAXIWAY_MLFLOW_URL": installation.url("mlflow"),
        "TAXIWAY_AIRFLOW_URL": installation.url("airflow"),
        "TAXIWAY_STAGING_URL": installation.url("staging"),
        "TAXIWAY_PRODUCTION_URL": installation.url("production"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MPLCONFIGDIR": str(installation.home / "cache" / "matplotlib"),  # its list of fonts, else in the user's home
    }


def platform_environment(installation: Installation, credentials: Credentials) -> dict[str, str]:
    """Return what only the pipeline may know: both keys and both gateways' tokens."""
    return {
        "TAXIWAY_SIGNING_KEY": str(installation.keys / "platform.key"),
        "TAXIWAY_VERIFY_KEY": str(installation.keys / "platform.pub"),
        "TAXIWAY_STAGING_TOKEN": credentials.staging_token,
        "TAXIWAY_PRODUCTION_TOKEN": credentials.production_token,
    }


def data_tokens(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return what callers of the gateways must know, where the caller's environment closes their data paths."""
    return _chosen(inherited, tuple(_DATA_TOKENS.values()), ())


def _storage(inherited: Mapping[str, str]) -> dict[str, str]:
    return _chosen(inherited, (), _STORAGE_PREFIXES)


def _gateway(name: str, installation: Installation, credentials: Credentials, base: Mapping[str, str]) -> Program:
    return Program(
        name=f"gateway-{name}",
        command=(sys.executable, "-m", "taxiway.gateway", "--environment", name),
        environment={
            **base,
            "TAXIWAY_VERIFY_KEY": str(installation.keys / "platform.pub"),
            f"TAXIWAY_{name.upper()}_TOKEN": getattr(credentials, f"{name}_token"),
        },
        probe=Probe(f"{installation.url(name)}/healthz"),
        stop_rank=2,
        grace=35.0,  # it answers what has begun, for up to 30 s
        outlives=True,
        port=getattr(installation.ports, name),
    )


def _mlflow(installation: Installation, base: Mapping[str, str]) -> Program:
    store = installation.mlflow_home
    options = {
        "--host": HOST,
        "--port": str(installation.ports.mlflow),
        "--workers": "1",
        "--backend-store-uri": f"sqlite:///{store / 'mlflow.db'}",
        "--default-artifact-root": "mlflow-artifacts:/",
        "--artifacts-destination": str(store / "artifacts"),
    }
    return Program(
        name="mlflow",
        command=(sys.executable, "-m", "mlflow", "server", "--serve-artifacts", *_arguments(options)),
        environment={**base, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        probe=Probe(f"{installation.url('mlflow')}/health"),
        stop_rank=3,
        grace=10.0,
    )


def _airflow(installation: Installation, credentials: Credentials, base: Mapping[str, str]) -> list[Program]:
    environment = {
        **base,
        **airflow_environment(installation, credentials),
        **platform_environment(installation, credentials),
    }
    airflow = (sys.executable, "-m", "airflow")
    stamp = installation.airflow_home / f"migrated-{version('apache-airflow')}"
    url = installation.url("airflow")
    migrate = Program("airflow-migrate", (*airflow, "db", "migrate"), environment, stamp=stamp)
    steps = [] if stamp.exists() else [migrate]
    migrated = tuple(step.name for step in steps)

    def part(name: str, *arguments: str, beats: bool = True, **more: Any) -> Program:
        # The API of the tasks is made when it is first asked, which takes seconds: better now than in the first task.
        heartbeat = Probe(f"{url}/api/v2/monitor/health", name.replace("-", "_"))
        probe = heartbeat if beats else Probe(f"{url}/execution/health")
        after = (*migrated, *more.pop("after", ()))
        return Program(f"airflow-{name}", (*airflow, name, *arguments), environment, probe, after, **more)

    # Tasks report to the API server, so the scheduler starts none before it answers; in its grace they may finish.
    api = ("airflow-api-server",)
    return [
        *steps,
        part("api-server", beats=False, stop_rank=1),
        part("dag-processor"),
        part("scheduler", "--skip-serve-logs", after=api, grace=10.0),
        part("triggerer", "--skip-serve-logs", after=api),
    ]


def _arguments(options: Mapping[str, str]) -> list[str]:
    return [word for option in options.items() for word in option]


def _chosen(inherited: Mapping[str, str], names: tuple[str, ...], prefixes: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in inherited.items() if name in names or name.startswith(prefixes)}
