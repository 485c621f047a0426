"""Content digests of files and directories."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_digest(path: Path) -> str:
    """Return `sha256:<hex>` of the file's bytes."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def directory_digest(directory: Path) -> str:
    """Return `sha256:<hex>` over the manifest of all files: one line `<sha256>  <relative path>` each, by path."""
    manifest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        line = f"{file_digest(path).removeprefix('sha256:')}  {path.relative_to(directory).as_posix()}\n"
        manifest.update(line.encode())
    return "sha256:" + manifest.hexdigest()
