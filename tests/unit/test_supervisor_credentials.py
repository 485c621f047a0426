"""The secrets of an installation."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway.errors import SettingsError
from taxiway.supervisor.credentials import ensure_credentials, read_credentials, role_of


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """The second start uses the secrets of the first; a new person gets a password, nobody's changes."""
    first = ensure_credentials(tmp_path, ["ana"])
    second = ensure_credentials(tmp_path, ["ana", "ben"])

    assert replace(second, passwords=first.passwords) == first
    assert {name: second.passwords[name] for name in first.passwords} == first.passwords
    assert set(second.passwords) == {"admin", "taxiway", "ana", "ben"}
    assert read_credentials(tmp_path) == second


def test_secrets_are_strong_and_differ(tmp_path: Path) -> None:
    """No secret is short and none is used twice."""
    made = ensure_credentials(tmp_path, ["ana", "ben"])
    secrets = [made.airflow_secret, made.airflow_jwt_secret, made.airflow_fernet_key]
    secrets += [made.staging_token, made.production_token, *made.passwords.values()]

    assert len(set(secrets)) == len(secrets)
    assert min(map(len, secrets)) >= 24


def test_only_the_owner_can_read_secrets(tmp_path: Path) -> None:
    """The file has mode 0600."""
    ensure_credentials(tmp_path, [])

    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600


def test_roles(tmp_path: Path) -> None:
    """Testers and approvers are plain users; only admin is an admin, also when a spec names it."""
    users = ensure_credentials(tmp_path, ["ana", "admin"]).passwords

    assert {name: role_of(name) for name in users} == {"admin": "admin", "taxiway": "op", "ana": "user"}


def test_who_is_no_longer_named_has_no_login(tmp_path: Path) -> None:
    """Somebody whom no spec names any more cannot log in; named again, the password is the old one."""
    first = ensure_credentials(tmp_path, ["ana", "ben"])

    assert "ben" not in ensure_credentials(tmp_path, ["ana"]).passwords
    assert ensure_credentials(tmp_path, ["ana", "ben"]) == first


@pytest.mark.parametrize("name", ["ana:admin", "ana,ben:admin", " ana"])
def test_a_name_cannot_smuggle_a_role(tmp_path: Path, name: str) -> None:
    """A name that Airflow's list of users would read as something else is refused."""
    with pytest.raises(SettingsError, match="cannot be a user name"):
        ensure_credentials(tmp_path, [name])


def test_no_installation(tmp_path: Path) -> None:
    """Without secrets there is no installation, and the error says how to get one."""
    with pytest.raises(SettingsError, match="taxiway up"):
        read_credentials(tmp_path)
