"""What `taxiway up` remembers of its options."""

from __future__ import annotations

from pathlib import Path

import pytest

from taxiway.bootstrap import PROJECT
from taxiway.errors import SettingsError
from taxiway.supervisor.installation import Installation, Ports


def test_defaults(tmp_path: Path) -> None:
    """A home that was never used has the documented ports and the project's specs."""
    installation = Installation.load(tmp_path)

    assert installation.ports == Ports(airflow=8080, mlflow=5000, staging=7001, production=7002)
    assert installation.models == PROJECT / "include" / "models"


def test_options_are_remembered(tmp_path: Path) -> None:
    """What one `up` was told, the next command knows; an option that is not given keeps its value."""
    Installation.load(tmp_path / "home").changed(models=tmp_path, airflow=18080, mlflow=None).save()

    later = Installation.load(tmp_path / "home")

    assert (later.models, later.ports.airflow, later.ports.mlflow) == (tmp_path, 18080, 5000)
    assert later.url("airflow") == "http://127.0.0.1:18080"


def test_a_home_has_one_name(tmp_path: Path) -> None:
    """A link to a home means the same home: its processes are found by that name."""
    (tmp_path / "link").symlink_to(tmp_path)

    assert Installation.load(tmp_path / "link").home == Installation.load(tmp_path).home


def test_equal_ports_are_refused(tmp_path: Path) -> None:
    """Two services cannot have one port."""
    with pytest.raises(SettingsError, match="8080, 8080, 7001, 7002"):
        Installation.load(tmp_path).changed(mlflow=8080)


@pytest.mark.parametrize("text", ["{", "[]", '{"models": "/x", "ports": {"fax": 1}}'])
def test_unreadable_settings_are_named(tmp_path: Path, text: str) -> None:
    """A broken settings file is an error that names the file."""
    (tmp_path / "installation.json").write_text(text)

    with pytest.raises(SettingsError, match=r"installation\.json"):
        Installation.load(tmp_path)
