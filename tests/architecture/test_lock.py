"""The locks are whole: every direct requirement is pinned to a version that it allows, and every pin has hashes."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.sources import PROJECT, place, project_files

_PIN = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", re.MULTILINE)
_PIN_WITH_HASH = re.compile(_PIN.pattern + r".*\\\n +--hash=sha256:")
PROJECTS = [path for path in project_files() if path.name == "pyproject.toml"]


@pytest.mark.parametrize("pyproject", PROJECTS, ids=place)
def test_lock_is_in_step_with_its_project(pyproject: Path) -> None:
    """Each direct requirement is pinned within its bounds (else: `make lock`)."""
    pins = _pins(pyproject.with_name("requirements.txt"))
    broken = [
        f"{requirement}: locked {sorted(pins.get(canonicalize_name(requirement.name), set())) or 'nothing'}"
        for requirement in _direct_requirements(pyproject)
        if not _is_pinned(requirement, pins)
    ]

    assert broken == []


@pytest.mark.parametrize("pyproject", PROJECTS, ids=place)
def test_every_pin_has_hashes(pyproject: Path) -> None:
    """A lock has only exact versions with hashes: no URL, no index, no path."""
    blocks = re.split(r"\n(?=[^\s#])", pyproject.with_name("requirements.txt").read_text(encoding="utf-8").strip())
    loose = [block.splitlines()[0] for block in blocks if not _PIN_WITH_HASH.match(block)]

    assert loose == []


def test_project_has_what_make_needs() -> None:
    """The lock pins uv, hatchling and editables: `make install` builds without fetching anything unlocked."""
    assert {"uv", "hatchling", "editables"} <= set(_pins(PROJECT / "requirements.txt"))


def _is_pinned(requirement: Requirement, pins: dict[str, set[str]]) -> bool:
    versions = pins.get(canonicalize_name(requirement.name), set())
    return bool(versions) and all(requirement.specifier.contains(version) for version in versions)


def _direct_requirements(pyproject: Path) -> list[Requirement]:
    document = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    lines = [*document["project"]["dependencies"], *itertools.chain(*document.get("dependency-groups", {}).values())]
    return [Requirement(line) for line in lines]


def _pins(lock: Path) -> dict[str, set[str]]:
    """Return name -> versions; a lock for several platforms may pin one name more than once."""
    pins: dict[str, set[str]] = {}
    for name, version in _PIN.findall(lock.read_text(encoding="utf-8")):
        pins.setdefault(canonicalize_name(name), set()).add(version)
    return pins
