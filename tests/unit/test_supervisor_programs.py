"""Which programs there are, what each is told, and in which order they start."""

from __future__ import annotations

from pathlib import Path

import pytest

from taxiway.supervisor.credentials import Credentials, ensure_credentials
from taxiway.supervisor.installation import Installation
from taxiway.supervisor.programs import Program, programs

SHELL = {
    "PATH": "/usr/bin",
    "HOME": "/home/somebody",
    "LC_ALL": "C",
    "https_proxy": "http://proxy",
    "AWS_SECRET_ACCESS_KEY": "of-the-bucket",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://production",
    "GITHUB_TOKEN": "of-somebody",
    "PYTHONPATH": "/somewhere",
}
AIRFLOW = ("airflow-migrate", "airflow-api-server", "airflow-dag-processor", "airflow-scheduler", "airflow-triggerer")


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation.load(tmp_path)


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return ensure_credentials(tmp_path, ["ana"])


@pytest.fixture
def wanted(installation: Installation, credentials: Credentials) -> dict[str, Program]:
    return {program.name: program for program in programs(installation, credentials, SHELL)}


def test_the_programs(wanted: dict[str, Program]) -> None:
    """Two gateways, MLflow, and Airflow in four processes after its migration."""
    assert set(wanted) == {"gateway-staging", "gateway-production", "mlflow", *AIRFLOW}


def test_everything_carries_the_mark(wanted: dict[str, Program], installation: Installation) -> None:
    """`down` finds every process by the mark, also where a process title would overwrite it."""
    assert {program.environment["TAXIWAY_SUPERVISED"] for program in wanted.values()} == {str(installation.home)}
    assert {program.environment["SPT_NOENV"] for program in wanted.values()} == {"1"}


def test_mlflow_knows_no_secret(wanted: dict[str, Program], credentials: Credentials) -> None:
    """MLflow gets neither keys nor tokens nor passwords."""
    assert _secrets_in(wanted["mlflow"], credentials) == set()
    assert not {name for name in wanted["mlflow"].environment if name.endswith("_KEY")}


@pytest.mark.parametrize("name", ["staging", "production"])
def test_a_gateway_knows_its_own_token_only(wanted: dict[str, Program], credentials: Credentials, name: str) -> None:
    """A gateway can verify, but not sign, and cannot speak to the other one."""
    gateway = wanted[f"gateway-{name}"]

    assert _secrets_in(gateway, credentials) == {f"{name}_token"}
    assert "TAXIWAY_VERIFY_KEY" in gateway.environment
    assert "TAXIWAY_SIGNING_KEY" not in gateway.environment


@pytest.mark.parametrize("name", AIRFLOW)
def test_the_pipeline_knows_keys_and_tokens(wanted: dict[str, Program], credentials: Credentials, name: str) -> None:
    """Airflow's processes sign candidates and speak to both gateways; passwords stay in their file."""
    everything = {"airflow_secret", "airflow_jwt_secret", "airflow_fernet_key", "staging_token", "production_token"}

    assert _secrets_in(wanted[name], credentials) == everything
    assert "TAXIWAY_SIGNING_KEY" in wanted[name].environment


def test_the_shell_does_not_leak(wanted: dict[str, Program]) -> None:
    """Tokens and Airflow settings of whoever runs `up` reach no program; storage keys reach the pipeline only."""
    for program in wanted.values():
        values = set(program.environment.values())
        assert not values & {"of-somebody", "postgresql://production", "/somewhere"}
        assert ("of-the-bucket" in values) == program.name.startswith("airflow-")


def test_the_shell_reaches_programs_where_it_must(wanted: dict[str, Program]) -> None:
    """Search path, locale and proxy are passed on."""
    for program in wanted.values():
        assert program.environment["PATH"].endswith(":/usr/bin")
        assert {"HOME", "LC_ALL", "https_proxy"} <= set(program.environment)


def test_tasks_start_after_their_api(wanted: dict[str, Program]) -> None:
    """The scheduler starts no task before the API server can take its report."""
    assert "airflow-api-server" in wanted["airflow-scheduler"].after
    assert "airflow-migrate" in wanted["airflow-api-server"].after


def test_the_database_is_migrated_once(installation: Installation, credentials: Credentials) -> None:
    """Once the migration of this version has left its stamp, nothing waits for it any more."""
    migration = next(item for item in programs(installation, credentials, SHELL) if item.stamp)
    migration.stamp.parent.mkdir(parents=True)
    migration.stamp.touch()

    later = programs(installation, credentials, SHELL)

    assert "airflow-migrate" not in {name for program in later for name in (program.name, *program.after)}


def test_stop_order(wanted: dict[str, Program]) -> None:
    """What starts work stops first, the registry that everything needs stops last."""
    ranks = {name: program.stop_rank for name, program in wanted.items()}

    assert ranks["airflow-scheduler"] < ranks["airflow-api-server"] < ranks["gateway-production"] < ranks["mlflow"]


def test_serving_outlives_a_dead_supervisor(wanted: dict[str, Program]) -> None:
    """Production answers on when the supervisor is killed; nothing else does."""
    assert {name for name, program in wanted.items() if program.outlives} == {"gateway-staging", "gateway-production"}


def test_gateways_are_handed_their_sockets(wanted: dict[str, Program], installation: Installation) -> None:
    """The supervisor listens for the gateways, so that their processes can be exchanged; they bind no port."""
    ports = {name: program.port for name, program in wanted.items() if program.port is not None}

    assert ports == {
        "gateway-staging": installation.ports.staging,
        "gateway-production": installation.ports.production,
    }
    assert not [name for name in ports if "--port" in wanted[name].command]


def _secrets_in(program: Program, credentials: Credentials) -> set[str]:
    text = " ".join([*program.command, *program.environment.values()])
    named = {name: getattr(credentials, name) for name in credentials.__slots__ if name != "passwords"}
    return {name for name, value in {**named, **credentials.passwords}.items() if value in text}


def test_callers_tokens_go_where_they_are_needed(installation: Installation, credentials: Credentials) -> None:
    """A gateway learns the token of its own callers, the pipeline both, MLflow none; the rest is for gateways."""
    names = ("TAXIWAY_STAGING_DATA_TOKEN", "TAXIWAY_PRODUCTION_DATA_TOKEN", "TAXIWAY_SCORER_MEMORY_MB")
    shell = SHELL | dict.fromkeys(names, "1")
    told = {item.name: set(names) & set(item.environment) for item in programs(installation, credentials, shell)}

    assert told["mlflow"] == set()
    assert told["gateway-staging"] == {names[0], names[2]}
    assert told["gateway-production"] == {names[1], names[2]}
    assert {frozenset(told[name]) for name in AIRFLOW} == {frozenset(names[:2])}
