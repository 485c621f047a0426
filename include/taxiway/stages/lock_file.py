"""The lock of a model's environment: a `requirements.txt` of pinned packages, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from taxiway.errors import ContractError

LOCK = "requirements.txt"

_PIN = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)\s*(\[[^\]]*\])?\s*(==|@\s*https?://)", re.ASCII)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def read_lock(lock: Path, where: str) -> dict[str, tuple[str, ...]]:
    """Return the SHA-256 hashes (hex, sorted) of each locked package, by its normalised name.

    Raises ContractError for any line that pins no package: an option would make uv, which has no sandbox, read another
    file or ask another index.
    """
    found: dict[str, tuple[str, ...]] = {}
    for entry in lock.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ").splitlines():
        if not entry.strip() or entry.lstrip().startswith("#"):
            continue
        pin = _PIN.match(entry)
        if pin is None:
            raise ContractError(
                f"{lock.name} has a line that pins no package: {entry.strip()[:100]!r}",
                where=where,
                next_step="keep to what `uv pip compile --generate-hashes` writes: exact versions with hashes.",
            )
        name = normalised(pin["name"])
        found[name] = tuple(sorted({*found.get(name, ()), *_HASH.findall(entry)}))
    return found


def normalised(name: str) -> str:
    """Return the one spelling of a package's name that all others mean."""
    return re.sub(r"[-_.]+", "-", name).lower()
