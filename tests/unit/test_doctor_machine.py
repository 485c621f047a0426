"""What the doctor says about this machine and an installation's files, and how the command tells it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from taxiway.adapters.model_signing import PRIVATE_KEY, PUBLIC_KEY, KeySigner, KeyVerifier, generate_keys
from taxiway.cli import app
from taxiway.supervisor.credentials import ensure_credentials
from taxiway.supervisor.doctor import Diagnosis
from taxiway.supervisor.doctor_view import print_diagnosis
from taxiway.supervisor.findings import weaker, wrong
from taxiway.supervisor.machine_checks import key_findings, machine_findings, secret_findings


def test_this_machine_can_run_taxiway(tmp_path: Path) -> None:
    """Where the tests run, nothing is wrong: Python, git and uv are there, and the disk is not full."""
    assert [finding for finding in machine_findings(tmp_path) if finding.severity == "wrong"] == []


def test_a_machine_without_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that cannot be found is wrong, with how to get it."""
    monkeypatch.setenv("PATH", str(tmp_path))

    (finding,) = [finding for finding in machine_findings(tmp_path) if finding.what.startswith("git")]

    assert (finding.severity, finding.next_step) == ("wrong", "install git.")


@pytest.mark.parametrize(("version", "count"), [("2.19.9", 1), ("2.20.0", 0), ("nonsense", 1)])
def test_an_old_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, count: int) -> None:
    """A git that is too old for what Taxiway asks of it is named with its version."""
    (tmp_path / "git").write_text(f"#!/bin/sh\necho git version {version}\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert len([finding for finding in machine_findings(tmp_path) if "older than 2.20" in finding.what]) == count


@pytest.mark.parametrize(("mode", "says"), [(0o600, None), (0o400, None), (0o640, "mode 640"), (0o604, "mode 604")])
def test_secrets_are_for_their_owner_only(tmp_path: Path, mode: int, says: str | None) -> None:
    """A secret that its group or everybody may read is wrong, and the command that closes it is named."""
    path = tmp_path / "secrets.json"
    path.write_text("{}")
    path.chmod(mode)

    found = list(secret_findings(path))

    assert [finding.next_step for finding in found] == ([f"run `chmod 600 {path}`."] if says else [])
    assert all(says in finding.what for finding in found if says)


def test_a_missing_secret(tmp_path: Path) -> None:
    """A file that is not there is named."""
    (finding,) = secret_findings(tmp_path / "secrets.json")

    assert "secrets.json cannot be read: No such file" in finding.what


def test_keys_that_belong_together(tmp_path: Path) -> None:
    """A pair is fine; another public key, an unreadable one and a missing private key are each named."""
    private, public = generate_keys(tmp_path / "ours")
    _, other = generate_keys(tmp_path / "other")
    (tmp_path / "empty").touch()

    def found(private: Path, public: Path) -> list[str]:
        return [finding.what for finding in key_findings(KeySigner(private), KeyVerifier(public))]

    assert found(private, public) == []
    assert ["is not that of the signing key" in what for what in found(private, other)] == [True]
    assert ["the public key cannot be read" in what for what in found(private, tmp_path / "empty")] == [True]
    assert ["the signing key cannot be read" in what for what in found(tmp_path / "none", public)] == [True]


def test_the_command_on_an_installation_that_is_down(tmp_path: Path) -> None:
    """It says that nothing was compared and how to start, finds what is wrong with the files, and exits with 1."""
    home = _installed(tmp_path)
    (home / "secrets.json").chmod(0o644)

    result = CliRunner().invoke(app, ["doctor", "--home", str(home), "--json"])

    document = json.loads(result.stdout)
    said = {finding["what"] for finding in document["findings"] if finding["severity"] == "wrong"}
    assert result.exit_code == 1
    assert document["well"] is False
    assert said == {"Taxiway is down", f"others may read {home / 'secrets.json'} (mode 644)"}


def test_the_command_names_keys_that_do_not_match(tmp_path: Path) -> None:
    """A public key that was replaced is found before the next release is refused because of it."""
    home = _installed(tmp_path)
    generate_keys(tmp_path / "other")
    (tmp_path / "other" / PUBLIC_KEY).replace(home / "keys" / PUBLIC_KEY)

    result = CliRunner().invoke(app, ["doctor", "--home", str(home)], env={"COLUMNS": "200"})

    assert result.exit_code == 1
    assert "the public key is not that of the signing key" in result.stdout
    assert "2 things are wrong." in result.stdout


def test_the_command_without_an_installation(tmp_path: Path) -> None:
    """It says how to get one."""
    result = CliRunner().invoke(app, ["doctor", "--home", str(tmp_path / "home")])

    assert result.exit_code == 1
    assert "taxiway up" in result.stderr


def test_what_is_only_weaker_is_shown_and_is_well() -> None:
    """A weak sandbox alone is no failure, but nobody can miss it."""
    diagnosis = Diagnosis((weaker("sandbox", "no [bubblewrap]", "install it."),))
    console = Console(record=True, width=120)

    print_diagnosis(diagnosis, console)

    text = console.export_text()
    assert diagnosis.is_well
    assert "weaker" in text
    assert "no [bubblewrap]" in text
    assert "Next: install it." in text
    assert "Nothing is wrong; 1 could be stronger." in text


def test_what_is_wrong_comes_first() -> None:
    """The order of the table is that of urgency."""
    diagnosis = Diagnosis((weaker("sandbox", "weak"), wrong("keys", "broken")))
    console = Console(record=True, width=120)

    print_diagnosis(diagnosis, console)

    text = console.export_text()
    assert not diagnosis.is_well
    assert text.index("broken") < text.index("weak")
    assert "1 thing is wrong." in text


def _installed(directory: Path) -> Path:
    """Return a home as `taxiway up` leaves it."""
    home = directory / "home"
    ensure_credentials(home, ["ana"])
    private, _ = generate_keys(home / "keys")
    assert private.name == PRIVATE_KEY
    (home / "airflow").mkdir()
    (home / "airflow" / "passwords.json").write_text("{}")
    (home / "airflow" / "passwords.json").chmod(0o600)
    return home
