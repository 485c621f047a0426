"""Checkout: the files of one commit of a model repository, and what they promise (docs/model-repository.md)."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from taxiway.domain.values import Commit
from taxiway.errors import ContractError
from taxiway.ports import GitHost
from taxiway.stages.locks import exclusive

LOCK = "requirements.txt"
_REQUIRED_PACKAGES = ("mlflow-skinny", "pandas", "pyarrow", "pytest")
_ENTRY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_NEXT = "see docs/model-repository.md for the contract, correct the repository and push again."


@dataclass(frozen=True, slots=True)
class Checkout:
    """The files of one commit on this machine; `entry` is `module:function` of the train function."""

    path: Path
    commit: Commit
    entry: str

    @property
    def lock(self) -> Path:
        """The lock of the model's environment."""
        return self.path / LOCK

    @property
    def python_path(self) -> str:
        """What the repository's code needs on PYTHONPATH."""
        return f"{self.path / 'src'}:{self.path}"


def ensure_checkout(git: GitHost, url: str, sha: str, cache: Path) -> Checkout:
    """Return the commit's files, fetched once per machine, after checking that they keep the contract.

    Raises RepositoryError when repository or commit is missing, ContractError when the contract is broken.
    """
    directory = cache / "checkouts" / hashlib.sha256(f"{url}@{sha}".encode()).hexdigest()[:32]
    description = directory / "commit.json"
    with exclusive(directory.with_suffix(".lock")):
        if not description.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            commit = git.checkout(url, sha, directory / "files")
            document = asdict(commit) | {"committed_at": commit.committed_at.isoformat()}
            description.write_text(json.dumps(document))
    document = json.loads(description.read_text())
    commit = Commit(**document | {"committed_at": datetime.fromisoformat(document["committed_at"])})
    return Checkout(directory / "files", commit, _check_contract(directory / "files", f"{url} at {sha[:12]}"))


def _check_contract(files: Path, where: str) -> str:
    """Return the entry of the train function; raises ContractError at the first broken promise."""
    entry = _entry(files / "pyproject.toml", where)
    lock = files / LOCK
    if not lock.is_file():
        raise ContractError(f"the repository has no {LOCK}: a lock with hashes", where=where, next_step=_NEXT)
    locked = set(re.findall(r"^([A-Za-z0-9._-]+)==", lock.read_text(encoding="utf-8"), re.MULTILINE))
    missing = [name for name in _REQUIRED_PACKAGES if name not in {item.lower().replace("_", "-") for item in locked}]
    if missing:
        raise ContractError(f"{LOCK} does not pin {', '.join(missing)}", where=where, next_step=_NEXT)
    for tests in ("tests/unit", "tests/integration"):
        if not (files / tests).is_dir():
            raise ContractError(f"the repository has no {tests}", where=where, next_step=_NEXT)
    return entry


def _entry(pyproject: Path, where: str) -> str:
    try:
        document: Mapping[str, Any] = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ContractError("the repository has no pyproject.toml", where=where, next_step=_NEXT) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ContractError(f"pyproject.toml cannot be read: {error}", where=where, next_step=_NEXT) from error
    section = document.get("tool", {}).get("taxiway")
    if section is None:
        advice = 'add [tool.taxiway] with train = "package.module:function".'
        raise ContractError("pyproject.toml has no [tool.taxiway]", where=where, next_step=advice)
    entry = section.get("train")
    if not isinstance(entry, str) or not _ENTRY.fullmatch(entry):
        raise ContractError(
            f"[tool.taxiway] train is {entry!r}, but must look like 'package.module:function'",
            where=where,
            next_step=_NEXT,
        )
    return entry
