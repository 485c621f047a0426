"""What the supervisor tells other processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from taxiway.errors import SettingsError
from taxiway.supervisor.state import (
    ProgramState,
    SupervisorState,
    is_supervised,
    read_state,
    supervisor_lock,
    write_state,
)

HOLDER = """
import sys, time
from pathlib import Path
from taxiway.supervisor.state import supervisor_lock
with supervisor_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_supervisor_at_a_time(tmp_path: Path) -> None:
    """While one holds the lock everybody can see it, and a second supervisor is refused."""
    assert not is_supervised(tmp_path)
    with supervisor_lock(tmp_path):
        assert is_supervised(tmp_path)
        with pytest.raises(SettingsError, match="already up"), supervisor_lock(tmp_path):
            pass
    assert not is_supervised(tmp_path)


def test_a_killed_supervisor_lets_go(tmp_path: Path) -> None:
    """After SIGKILL the lock is free: nothing has to be cleaned up by hand."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert is_supervised(tmp_path)

    holder.kill()
    holder.communicate()

    assert not is_supervised(tmp_path)


def test_state_can_be_read_by_others(tmp_path: Path) -> None:
    """What was written comes back as it was."""
    state = SupervisorState(42).with_program("mlflow", ProgramState("ready", pid=43, restarts=2, seconds=1.5))

    write_state(tmp_path, state)

    assert read_state(tmp_path) == state


@pytest.mark.parametrize("text", [None, "", "{", '{"pid": 1}', '{"pid": 1, "programs": {"x": {"y": 1}}}'])
def test_no_readable_state(tmp_path: Path, text: str | None) -> None:
    """A file that is missing or of another version says nothing, and breaks nothing."""
    if text is not None:
        (tmp_path / "supervisor.json").write_text(text)

    assert read_state(tmp_path) is None
