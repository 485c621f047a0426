"""Settings and services of an installation, read from one place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from taxiway.bootstrap import PROJECT, Services, settings
from taxiway.errors import NotFoundError, SettingsError

TOKEN = "a-very-secret-token"


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """The services of an installation with a copy of the project's specs."""
    shutil.copytree(PROJECT / "include" / "models", tmp_path / "models")
    environ = {"TAXIWAY_HOME": str(tmp_path), "TAXIWAY_MODELS": str(tmp_path / "models")}
    for name in ("STAGING", "PRODUCTION"):
        environ |= {f"TAXIWAY_{name}_URL": "http://127.0.0.1:1", f"TAXIWAY_{name}_TOKEN": TOKEN}
    return Services(settings(environ))


def test_a_spec_cannot_read_a_token(services: Services) -> None:
    """A spec that refers to a token is a problem: specs are shown to everybody who sees the DAG."""
    path = services.settings.models / "flight_delays.yaml"
    path.write_text(path.read_text().replace("flight-ops-ml", "${TAXIWAY_PRODUCTION_TOKEN}"))

    found = services.specs()

    assert {} == found.specs
    assert "TAXIWAY_PRODUCTION_TOKEN" in str(found.problems[0])
    assert TOKEN not in str(found.problems)


def test_an_unknown_model_or_environment_names_what_is_known(services: Services) -> None:
    """Asking for what does not exist is an error that lists the choices."""
    with pytest.raises(NotFoundError, match="tumors"):
        services.spec("tumors")
    with pytest.raises(NotFoundError, match="production, staging"):
        services.target("qa")


def test_without_a_home_nothing_is_guessed() -> None:
    """An installation without TAXIWAY_HOME is refused with what to do."""
    with pytest.raises(SettingsError, match="taxiway up"):
        settings({})


def test_memory_of_scorers_is_a_number_of_megabytes(tmp_path: Path) -> None:
    """The variable counts when it is a positive whole number; anything else is refused by name."""
    home = {"TAXIWAY_HOME": str(tmp_path)}
    assert settings(home).scorer_memory_mb == 4096
    assert settings({**home, "TAXIWAY_SCORER_MEMORY_MB": "512"}).scorer_memory_mb == 512
    for wrong in ("", "0", "-1", "4G", "1.5"):
        with pytest.raises(SettingsError, match="TAXIWAY_SCORER_MEMORY_MB is"):
            settings({**home, "TAXIWAY_SCORER_MEMORY_MB": wrong})
