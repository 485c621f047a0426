"""The gateway's state file."""

from __future__ import annotations

from pathlib import Path

import pytest

from taxiway.domain.values import Release, TrafficPlan
from taxiway.errors import SettingsError
from taxiway.gateway.state import Desired, load_state, save_state

RELEASE = Release("flight_delays", 3, "run", "sha256:1", "sha256:2", "id", "at", "approved")


def test_state_survives(tmp_path: Path) -> None:
    """What was saved last is read again, with and without a plan."""
    path = tmp_path / "gateway" / "state.json"
    state = {
        "flight_delays": Desired({3: RELEASE}, TrafficPlan(stable=3)),
        "other": Desired({3: RELEASE}, None),
    }
    save_state(path, {})
    save_state(path, state)

    assert load_state(path) == state
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]


def test_no_state_yet(tmp_path: Path) -> None:
    """A new gateway serves nothing."""
    assert load_state(tmp_path / "state.json") == {}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"models": {"m": {}}}', '{"models": {"m": {"releases": [{}], "plan": null}}}']
)
def test_damaged_state_is_not_guessed(tmp_path: Path, text: str) -> None:
    """A file that nobody can read stops the gateway instead of emptying it."""
    path = tmp_path / "state.json"
    path.write_text(text)

    with pytest.raises(SettingsError, match="state cannot be read"):
        load_state(path)


def test_half_written_file_is_ignored(tmp_path: Path) -> None:
    """A crash before the rename leaves the old state in force."""
    path = tmp_path / "state.json"
    save_state(path, {"flight_delays": Desired({3: RELEASE}, None)})
    path.with_suffix(".tmp").write_text('{"models": {')

    assert load_state(path) == {"flight_delays": Desired({3: RELEASE}, None)}
