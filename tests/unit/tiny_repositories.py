"""Model repositories small enough for unit tests: real uv and a real sandbox, but packages of one module each."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from taxiway.adapters.cyclonedx_sbom import CycloneDx
from taxiway.domain.evidence import Evidence
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build, BuildTools, Request, build, open_build
from taxiway.stages.evidence_store import evidence_of
from tests.fakes import FakeClock, FakeGit, FakeRegistry
from tests.unit.model_versions import example_spec

REQUIRED = ("mlflow-skinny", "pandas", "pyarrow", "pytest")
PYPROJECT = """
[build-system]
requires = ["uv_build"]
build-backend = "uv_build"

[project]
name = "tiny"
version = "1.0"

[tool.taxiway]
train = "tiny.train:train"
"""
SOURCES = {
    "pyproject.toml": PYPROJECT,
    "src/tiny/__init__.py": "",
    "src/tiny/train.py": "def train(frame, model_dir, params): ...\n",
    "tests/unit/test_tiny.py": "def test_nothing(): ...\n",
    "tests/integration/test_served.py": "def test_nothing(): ...\n",
}
OWN_BACKEND = PYPROJECT.replace('["uv_build"]', '[]\nbackend-path = ["."]').replace('"uv_build"', '"backend"')
"""A pyproject.toml whose build backend is the repository's own `backend.py`."""


def write_wheel(directory: Path, name: str, version: str = "1.0", *, code: str = "", metadata: str = "") -> Path:
    """Write a wheel of one module, without any tool."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    path = directory / f"{module}-{version}-py3-none-any.whl"
    files = {
        f"{module}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{metadata}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)
        archive.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD")))
    return path


def lock_of(*wheels: Path) -> str:
    """Return a lock that pins the wheels with their hashes."""
    lines = []
    for wheel in wheels:
        name, version, *_ = wheel.name.split("-")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"{name.replace('_', '-')}=={version} \\\n    --hash=sha256:{digest}\n")
    return "".join(lines)


def required_packages(directory: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make stand-ins of what every lock pins, which uv finds without an index; returns the lock."""
    directory.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(directory))
    return lock_of(*(write_wheel(directory, name) for name in REQUIRED))


@dataclass
class Workshop:
    """Where one repository's commits are built, on one machine."""

    cache: Path
    lock: str
    spec: ModelSpec = field(default_factory=example_spec)
    git: FakeGit = field(default_factory=FakeGit)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    clock: FakeClock = field(default_factory=FakeClock)

    def opened(self, changes: Mapping[str, str | None] | None = None, *, name: str = "commit-1") -> Build:
        """Commit the tiny repository with the changes (None: without that file) and open its build."""
        files: dict[str, str | None] = {**SOURCES, "requirements.txt": self.lock, **(changes or {})}
        kept = {path: content for path, content in files.items() if content is not None}
        self.git.commit(self.spec.repository.url, kept)
        request = Request(name, None, None, "commit", None)
        return open_build(self.spec, request, git=self.git, registry=self.registry, cache=self.cache, clock=self.clock)

    def build(self, of: Build) -> Evidence:
        """Run the build stage."""
        tools = BuildTools(self.git, self.registry, CycloneDx(), self.cache, self.clock)
        return build(self.spec, of, tools)

    def built(self, changes: Mapping[str, str | None] | None = None) -> Build:
        """Commit the tiny repository with the changes and build it."""
        of = self.opened(changes)
        self.build(of)
        return of

    def evidence(self, of: Build, stage: str = "build") -> Evidence:
        """Return the evidence that a stage left."""
        return evidence_of(self.registry, of.run_id, stage)

    def stored(self, of: Build) -> dict[str, bytes]:
        """Return the files of the build's run."""
        return self.registry.runs[of.run_id].files
