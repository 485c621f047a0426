"""Workspaces: private, removed at the end, and removed by the next one when their maker was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from taxiway.errors import SettingsError
from taxiway.stages.workspaces import workspace

_MAKER = """
import sys
from taxiway.stages.workspaces import workspace
with workspace("doomed") as directory:
    (directory / "half").write_text("written")
    print(directory, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path) -> Iterator[Path]:
    """All workspaces of the test are made below tmp_path."""
    before, tempfile.tempdir = tempfile.tempdir, str(tmp_path)
    yield tmp_path
    tempfile.tempdir = before


def start_maker(place: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start another process that holds a workspace; return it and the workspace."""
    process = subprocess.Popen(
        [sys.executable, "-c", _MAKER],
        env={**os.environ, "TMPDIR": str(place)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_it_is_private_and_gone_afterwards() -> None:
    """Nobody else may enter, and nothing is left, also when the block raises."""
    made: list[Path] = []
    with suppress(ZeroDivisionError), workspace("train") as directory:
        made.append(directory)
        (directory / "deep").mkdir()
        assert directory.stat().st_mode & 0o077 == 0
        raise ZeroDivisionError

    assert [False] == [directory.exists() for directory in made]


def test_what_a_killed_process_left_is_removed_by_the_next(place: Path) -> None:
    """SIGKILL leaves a workspace behind; the next workspace on this machine takes it away."""
    process, left = start_maker(place)
    with process:
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert (left / "half").exists()

    with workspace("next") as directory:
        assert [directory] == list(directory.parent.iterdir())


def test_a_workspace_in_use_is_left_alone(place: Path) -> None:
    """Another process's workspace stays as long as that process lives."""
    process, held = start_maker(place)

    with process:
        with workspace("next"):
            assert (held / "half").read_text() == "written"
        process.communicate("")

    assert not held.exists()


def test_a_place_that_others_can_enter_is_refused(place: Path) -> None:
    """A directory that anybody prepared under the expected name is an error that names it."""
    (place / f"taxiway-{os.getuid()}").mkdir(mode=0o777)
    (place / f"taxiway-{os.getuid()}").chmod(0o777)

    with pytest.raises(SettingsError, match="others may enter"), workspace("train"):
        pass
