"""The secrets of an installation, made once and kept in `<home>/secrets.json` (mode 0600)."""

from __future__ import annotations

import base64
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from taxiway.errors import SettingsError

ADMIN = "admin"
SERVICE = "taxiway"
_ROLES = {ADMIN: "admin", SERVICE: "op"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys that processes share, and the password of everybody who may log in to Airflow."""

    airflow_secret: str
    airflow_jwt_secret: str
    airflow_fernet_key: str
    staging_token: str
    production_token: str
    passwords: Mapping[str, str]


def ensure_credentials(home: Path, people: Iterable[str]) -> Credentials:
    """Return the installation's secrets; what is missing (all, or a new tester's password) is made and saved.

    The result has the passwords of the people named now; those of others stay in the file, for when they come back.
    Raises SettingsError when the file cannot be read or a name cannot be a user of Airflow.
    """
    path = home / "secrets.json"
    known = read_credentials(home) if path.exists() else _new()
    wanted = [ADMIN, SERVICE, *sorted(set(people))]
    for name in wanted:
        if any(sign in name for sign in ":,") or name != name.strip():
            raise SettingsError(f"{name!r} cannot be a user name: no colon, comma or outer spaces")
    passwords = {name: known.passwords.get(name) or secrets.token_urlsafe(18) for name in wanted}
    write_private(path, asdict(replace(known, passwords={**known.passwords, **passwords})))
    return replace(known, passwords=passwords)


def role_of(user: str) -> str:
    """Return a user's role in Airflow: testers and approvers are `user`s."""
    return _ROLES.get(user, "user")


def read_credentials(home: Path) -> Credentials:
    """Return the saved secrets; raises SettingsError when there are none."""
    path = home / "secrets.json"
    try:
        return Credentials(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise SettingsError("there is no installation", where=str(home), next_step="run `taxiway up`.") from error
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"the secrets cannot be read: {error}", where=str(path)) from error


def write_private(path: Path, document: object) -> None:
    """Write a JSON file that only its owner can read, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)


def _new() -> Credentials:
    return Credentials(
        airflow_secret=secrets.token_urlsafe(48),
        airflow_jwt_secret=secrets.token_urlsafe(48),
        airflow_fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        staging_token=secrets.token_urlsafe(48),
        production_token=secrets.token_urlsafe(48),
        passwords={},
    )
