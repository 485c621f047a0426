"""Content digests of files and directories."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path


def file_digest(path: Path) -> str:
    """Return `sha256:<hex>` of the file's bytes."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def directory_digest(directory: Path, *, leave_out: Sequence[str] = ()) -> str:
    """Return `sha256:<hex>` over the manifest of all files: one line `<sha256>  <relative path>` each, by path.

    `leave_out` are patterns of relative paths that do not count; their `*` matches slashes too.
    """
    manifest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        name = path.relative_to(directory).as_posix()
        if not any(fnmatchcase(name, pattern) for pattern in leave_out):
            manifest.update(f"{file_digest(path).removeprefix('sha256:')}  {name}\n".encode())
    return "sha256:" + manifest.hexdigest()
