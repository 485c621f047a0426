"""Workspaces: private directories for work in progress, of which nothing stays behind, whoever is killed when."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from taxiway.errors import SettingsError


@contextmanager
def workspace(purpose: str) -> Iterator[Path]:
    """Yield a new directory that only this user can read, and remove it at the end.

    Its maker holds a lock on it, which the kernel releases when the process is killed: whoever makes the next
    workspace on this machine removes what has no holder any more. Raises SettingsError when the place is not ours.
    """
    root = _root()
    _sweep(root)
    while True:
        made = tempfile.TemporaryDirectory(dir=root, prefix=f"{purpose}-", ignore_cleanup_errors=True)
        with made as name, _held(Path(name)) as held:
            if held:  # otherwise a sweep came between making and holding: make another
                yield Path(name)
                return


def _root() -> Path:
    root = Path(tempfile.gettempdir(), f"taxiway-{os.getuid()}")
    root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    if found.st_uid != os.getuid() or root.is_symlink() or found.st_mode & 0o077:
        raise SettingsError(
            "the directory for workspaces belongs to somebody else, or others may enter it",
            where=str(root),
            next_step="remove it, or set TMPDIR to a directory of your own.",
        )
    return root


def _sweep(root: Path) -> None:
    """Remove the workspaces of processes that have ended."""
    for left in root.iterdir():
        with _held(left) as held:
            if held:
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _held(directory: Path) -> Iterator[bool]:
    """Hold the directory for the block; tells False when another process does, or when it is gone."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        yield False
        return
    try:
        yield _lock(handle, directory)
    finally:
        os.close(handle)


def _lock(handle: int, directory: Path) -> bool:
    with suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), directory.stat())  # not one that was removed meanwhile
    return False
