"""In-memory stand-ins for the ports; tests/contracts runs the same tests on them as on the real adapters.

Signer and Verifier have none: a real key pair costs a millisecond.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from taxiway.domain.values import Candidate, Commit, Notification, Window
from taxiway.errors import (
    DataError,
    GitUnavailable,
    NotFoundError,
    NotifierUnavailable,
    PermanentError,
    RepositoryError,
)

NOW = datetime(2013, 7, 1, 12, 0, tzinfo=UTC)


class FakeClock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, now: datetime = NOW) -> None:
        self._now = now

    def now(self) -> datetime:
        """Return the time that was set."""
        return self._now

    def set(self, now: datetime) -> None:
        """Make it that time."""
        self._now = now

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        self._now += by


class FakeNotifier:
    """Keeps what it was told in `sent`; while `failing` it takes nothing."""

    def __init__(self) -> None:
        self.sent: list[Notification] = []
        self.failing = False

    def notify(self, notification: Notification) -> None:
        """Record the message, or raise NotifierUnavailable."""
        if self.failing:
            raise NotifierUnavailable("the channel is down")
        self.sent.append(notification)


@dataclass
class FakeRun:
    """One build in the fake registry."""

    model: str
    build_id: str
    tags: dict[str, str]
    status: str = "RUNNING"
    metrics: dict[str, float] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


class FakeRegistry:
    """A registry in memory; `runs`, `versions` and `descriptions` are there for tests to look at."""

    def __init__(self) -> None:
        self.runs: dict[str, FakeRun] = {}
        self.versions: dict[str, list[Candidate]] = {}
        self.descriptions: dict[tuple[str, int], str] = {}
        self._aliases: dict[tuple[str, str], int] = {}

    def open_build(self, model: str, build_id: str, tags: Mapping[str, str]) -> str:
        """Return the run of the build, made when there is none."""
        for run_id, run in self.runs.items():
            if (run.model, run.build_id) == (model, build_id):
                run.status = "RUNNING"
                run.tags.update(tags)
                return run_id
        run_id = hashlib.sha256(f"{model} {build_id}".encode()).hexdigest()[:32]
        self.runs[run_id] = FakeRun(model, build_id, dict(tags))
        return run_id

    def close_build(self, run_id: str, *, succeeded: bool) -> None:
        """Set the run's status."""
        self._run(run_id).status = "FINISHED" if succeeded else "FAILED"

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Keep the figures."""
        self._run(run_id).metrics.update(metrics)

    def put_file(self, run_id: str, path: str, source: Path) -> None:
        """Keep the file's bytes."""
        self._run(run_id).files[path] = source.read_bytes()

    def put_directory(self, run_id: str, path: str, source: Path) -> None:
        """Keep exactly the files of the directory under the path."""
        files = self._run(run_id).files
        for stored in self._below(run_id, path):
            del files[stored]
        for file in source.rglob("*"):
            if file.is_file():
                files[f"{path}/{file.relative_to(source).as_posix()}"] = file.read_bytes()

    def put_json(self, run_id: str, path: str, document: object) -> None:
        """Keep the document as JSON text."""
        self._run(run_id).files[path] = json.dumps(document).encode()

    def get_file(self, run_id: str, path: str, destination: Path) -> None:
        """Write the bytes; raises NotFoundError."""
        content = self._content(run_id, path)
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_bytes(content)

    def get_directory(self, run_id: str, path: str, destination: Path) -> None:
        """Write the files below the path; raises NotFoundError."""
        stored = self._below(run_id, path)
        if not stored:
            raise NotFoundError(f"run {run_id} has no files below {path!r}")
        for name in stored:
            self.get_file(run_id, name, destination / name.removeprefix(f"{path}/"))

    def get_json(self, run_id: str, path: str) -> Any:
        """Return the document; raises NotFoundError."""
        return json.loads(self._content(run_id, path))

    def list_files(self, run_id: str, path: str) -> list[str]:
        """Return the paths directly below the path."""
        prefix = f"{path}/" if path else ""
        below = (name for name in self._run(run_id).files if name.startswith(prefix))
        return sorted(name for name in below if "/" not in name.removeprefix(prefix))

    def page(self, run_id: str, path: str) -> str:
        """Return an address that names run and file."""
        self._run(run_id)
        return f"memory://runs/{run_id}/{path}"

    def register(self, model: str, run_id: str, tags: Mapping[str, str], description: str) -> Candidate:
        """Return the run's version, made when it has none."""
        self._run(run_id)
        versions = self.versions.setdefault(model, [])
        for version in versions:
            if version.run_id == run_id:
                return self.candidate(model, version.version)
        versions.append(Candidate(model, len(versions) + 1, run_id, dict(tags)))
        self.descriptions[model, len(versions)] = description
        return versions[-1]

    def candidate(self, model: str, version: int) -> Candidate:
        """Return the version with its aliases; raises NotFoundError."""
        versions = self.versions.get(model, [])
        if not 1 <= version <= len(versions):
            raise NotFoundError(f"Model Version (name={model}, version={version}) not found")
        aliases = {alias for (name, alias), target in self._aliases.items() if (name, target) == (model, version)}
        return replace(versions[version - 1], aliases=frozenset(aliases))

    def candidates(self, model: str) -> list[Candidate]:
        """Return all versions, newest first."""
        return [self.candidate(model, version.version) for version in reversed(self.versions.get(model, []))]

    def find_candidate(self, model: str, tag: str, value: str) -> Candidate | None:
        """Return the newest version that has the tag."""
        return next((found for found in self.candidates(model) if found.tags.get(tag) == value), None)

    def by_alias(self, model: str, alias: str) -> Candidate | None:
        """Return the version of the alias."""
        version = self._aliases.get((model, alias))
        return None if version is None else self.candidate(model, version)

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point the alias; raises NotFoundError, or PermanentError for names that MLflow refuses."""
        if not re.fullmatch(r"[\w-]+", alias) or re.fullmatch(r"latest|v\d+", alias):
            raise PermanentError(f"Invalid alias name: {alias!r}")
        self.candidate(model, version)
        self._aliases[model, alias] = version

    def delete_alias(self, model: str, alias: str) -> None:
        """Forget the alias."""
        self._aliases.pop((model, alias), None)

    def set_tags(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        """Add to the version's tags; raises NotFoundError."""
        found = self.candidate(model, version)
        self.versions[model][version - 1] = replace(found, tags={**found.tags, **tags}, aliases=frozenset())

    def _run(self, run_id: str) -> FakeRun:
        if run_id not in self.runs:
            raise NotFoundError(f"Run with id={run_id} not found")
        return self.runs[run_id]

    def _content(self, run_id: str, path: str) -> bytes:
        files = self._run(run_id).files
        if path not in files:
            raise NotFoundError(f"No such artifact: {path!r}")
        return files[path]

    def _below(self, run_id: str, path: str) -> list[str]:
        return [name for name in self._run(run_id).files if name.startswith(f"{path}/")]


class FakeGit:
    """Git repositories in memory: `commit` and `tag` make them, URLs in `unreachable` do not answer."""

    def __init__(self) -> None:
        self.unreachable: set[str] = set()
        self._refs: dict[str, dict[str, str]] = {}
        self._commits: dict[tuple[str, str], tuple[Commit, dict[str, str]]] = {}

    def commit(
        self,
        url: str,
        files: Mapping[str, str],
        *,
        branch: str = "main",
        author: str = "ana@example.org",
        message: str = "Change the model",
    ) -> str:
        """Add a commit with exactly these files to the branch and return its SHA."""
        content = json.dumps([url, dict(files), len(self._commits)])
        sha = hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest()
        self._commits[url, sha] = Commit(sha, author, message, NOW), dict(files)
        self._refs.setdefault(url, {})[f"refs/heads/{branch}"] = sha
        return sha

    def tag(self, url: str, name: str, sha: str) -> None:
        """Name a commit."""
        self._refs[url][f"refs/tags/{name}"] = sha

    def resolve(self, url: str, ref: str) -> str:
        """Return the SHA of the ref."""
        refs = self._repository(url)
        if (url, ref.lower()) in self._commits:
            return ref.lower()
        for name in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}"):
            if name in refs:
                return refs[name]
        raise RepositoryError(f"there is no branch, tag or full SHA {ref!r}", where=url)

    def checkout(self, url: str, sha: str, destination: Path) -> Commit:
        """Write the commit's files."""
        self._repository(url)
        if (url, sha) not in self._commits:
            raise RepositoryError(f"there is no commit {sha}", where=url)
        commit, files = self._commits[url, sha]
        destination.mkdir(parents=True)
        for name, content in files.items():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            (destination / name).write_text(content, encoding="utf-8")
        return commit

    def _repository(self, url: str) -> dict[str, str]:
        if url in self.unreachable:
            raise GitUnavailable("the Git host did not answer", where=url)
        if url not in self._refs:
            raise RepositoryError("the repository cannot be read", where=url)
        return self._refs[url]


class FakeData:
    """A dataset that is a frame (None: it was never delivered); its timestamps are aware UTC."""

    def __init__(self, frame: pd.DataFrame | None, *, timestamp: str, key: str) -> None:
        self.frame = frame
        self._timestamp = timestamp
        self._key = key

    def newest(self) -> datetime:
        """Return just after the newest timestamp."""
        times = self._rows([])[self._timestamp].dropna()
        if times.empty:
            raise DataError("the dataset has no rows")
        newest: datetime = times.max().floor("us").to_pydatetime()
        return newest + timedelta(microseconds=1)

    def read(self, window: Window, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the rows of the window."""
        rows = self._rows(columns or [])
        times = rows[self._timestamp]
        rows = rows[(times >= window.start) & (times < window.end)].sort_values([self._timestamp, self._key])
        rows = rows.astype({self._timestamp: "datetime64[us, UTC]"}).reset_index(drop=True)
        return rows if columns is None else rows[list(columns)]

    def _rows(self, columns: Sequence[str]) -> pd.DataFrame:
        if self.frame is None:
            raise DataError("there is no dataset")
        missing = {*columns, self._timestamp, self._key} - set(self.frame.columns)
        if missing:
            raise DataError(f"the dataset has no column {', '.join(sorted(missing))}")
        return self.frame
