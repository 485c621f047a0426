"""Checkout: the files of one commit of a model repository, and what they promise (docs/model-repository.md)."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tomllib
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from taxiway.domain.values import Commit
from taxiway.errors import ContractError
from taxiway.ports import GitHost
from taxiway.stages.lock_file import LOCK, normalised, read_lock
from taxiway.stages.locks import exclusive

_REQUIRED_PACKAGES = ("mlflow-skinny", "pandas", "pyarrow", "pytest")
_ENTRY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_OUR_BACKEND = "uv_build"  # inside of uv: no lock has to pin it
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
    project = _project(files / "pyproject.toml", where)
    entry = _entry(project, where)
    lock = files / LOCK
    if not lock.is_file():
        raise ContractError(f"the repository has no {LOCK}: a lock with hashes", where=where, next_step=_NEXT)
    pinned = set(read_lock(lock, where))
    missing = _missing(_REQUIRED_PACKAGES, pinned)
    if missing:
        raise ContractError(f"{LOCK} does not pin {', '.join(missing)}", where=where, next_step=_NEXT)
    _check_build_system(project, pinned, where)
    for tests in ("tests/unit", "tests/integration"):
        if not (files / tests).is_dir():
            raise ContractError(f"the repository has no {tests}", where=where, next_step=_NEXT)
    return entry


def _project(pyproject: Path, where: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(pyproject.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ContractError("the repository has no pyproject.toml", where=where, next_step=_NEXT) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ContractError(f"pyproject.toml cannot be read: {error}", where=where, next_step=_NEXT) from error


def _entry(project: Mapping[str, Any], where: str) -> str:
    tools = project.get("tool")
    section = tools.get("taxiway") if isinstance(tools, dict) else None
    if not isinstance(section, dict):
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


def _check_build_system(project: Mapping[str, Any], pinned: Set[str], where: str) -> None:
    """The code is packaged without a network: by uv itself, or by a backend that the lock installs."""
    section = project.get("build-system")
    section = section if isinstance(section, dict) else {}
    backend, requires = section.get("build-backend"), section.get("requires")
    if not isinstance(backend, str) or not isinstance(requires, list):
        raise ContractError(
            "pyproject.toml has no [build-system] that says how the code becomes a wheel",
            where=where,
            next_step='add [build-system] with requires = ["uv_build"] and build-backend = "uv_build".',
        )
    always = [item for item in requires if isinstance(item, str) and ";" not in item]
    names = [found.group() for item in always if (found := _NAME.match(item.strip()))]
    missing = _missing([name for name in names if backend != _OUR_BACKEND or name != _OUR_BACKEND], pinned)
    if missing:
        raise ContractError(
            f"{LOCK} does not pin {', '.join(missing)}, which [build-system] requires",
            where=where,
            next_step=f"lock it as well, or use the build backend {_OUR_BACKEND}, which needs no package.",
        )


def _missing(wanted: Sequence[str], pinned: Set[str]) -> list[str]:
    return [name for name in wanted if normalised(name) not in pinned]
