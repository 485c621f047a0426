"""The demo's Git history: what the data scientists of the example model push, in the order of the story.

Each commit is found again by its message, so a repeat pushes nothing; the same times give the same SHAs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from taxiway.bootstrap import PROJECT
from taxiway.errors import RepositoryError
from taxiway.stages.sandbox import network_environment

BRANCH = "main"
AUTHOR = "data-science@example.com"
EXAMPLE = PROJECT / "examples" / "flight_delays"
FIRST = "Predict late arrivals from schedule, weather and plane"
EXPLAIN = "Explain what the probability is good for"
BANDS = "Group distances into bands of 10 miles"
SIMPLIFY = "Simplify the features: keep route, calendar and plane"

Change = Callable[[Path], None]
"""Changes the files of a work tree."""

_LITTER = shutil.ignore_patterns("__pycache__", ".*_cache", ".venv")
_ISOLATED = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class BareRepository:
    """A bare Git repository on this machine that commits are pushed to."""

    path: Path

    @property
    def url(self) -> str:
        """Return the address that a model spec names."""
        return f"file://{self.path}"

    def commit(
        self, message: str, change: Change, *, at: datetime, branch: str = BRANCH, base: str | None = None
    ) -> str:
        """Push one commit to the branch and return its SHA; the existing one when the branch has this message.

        A new branch starts at `base` (empty when None). Raises RepositoryError when git fails or nothing changed.
        """
        if existing := self.find(message, branch=branch):
            return existing
        if not self.path.exists():
            self._create()
        with tempfile.TemporaryDirectory(prefix="taxiway-commit-") as directory:
            work = Path(directory) / "work"
            start = branch if self._has(branch) else base
            _git("clone", "--quiet", "--no-checkout", str(self.path), str(work))
            if start:
                _git("checkout", "--quiet", "-B", branch, f"origin/{start}", cwd=work)
            else:
                _git("symbolic-ref", "HEAD", f"refs/heads/{branch}", cwd=work)
            change(work)
            _git("add", "--all", cwd=work)
            _git("commit", "--quiet", "--message", message, cwd=work, identity=_identity(at))
            _git("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}", cwd=work)
            return _git("rev-parse", "HEAD", cwd=work).strip()

    def find(self, message: str, *, branch: str = BRANCH) -> str | None:
        """Return the SHA of the branch's newest commit with exactly this subject line, or None."""
        if not self._has(branch):
            return None
        lines = _git("log", "--format=%H %s", branch, cwd=self.path).splitlines()
        commits = (line.split(" ", 1) for line in lines)
        return next((sha for sha, subject in commits if subject == message), None)

    def _has(self, branch: str) -> bool:
        return self.path.exists() and bool(_git("branch", "--list", branch, cwd=self.path).strip())

    def _create(self) -> None:
        """Make the repository appear complete, so that a killed start leaves nothing half-made."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.path.parent, prefix=".repository-") as directory:
            new = Path(directory) / "new.git"
            _git("init", "--quiet", "--bare", f"--initial-branch={BRANCH}", str(new))
            new.rename(self.path)


def first(repository: BareRepository, *, at: datetime) -> str:
    """Push the example model as it is in `examples/flight_delays`; returns the SHA."""
    return repository.commit(FIRST, copy_of(EXAMPLE), at=at)


def explain(repository: BareRepository, *, at: datetime) -> str:
    """Push a change of the README only; returns the SHA."""
    advice = "\nUse the probability to order flights by risk; it is no forecast of how many flights a day are late.\n"
    return repository.commit(EXPLAIN, append("README.md", advice), at=at)


def group_distances(repository: BareRepository, *, at: datetime) -> str:
    """Push the change that passes every test and fails on rows that only callers send: without a distance.

    The data always has a distance, so nothing but production can show it. Returns the SHA.
    """
    features = "src/flight_delays/features.py"
    as_they_are = '    columns += [frame[name].to_numpy(dtype="float64") for name in NUMERIC]\n'
    in_bands = '    frame = frame.assign(distance=frame["distance"].floordiv(10).astype("int64"))\n'
    return repository.commit(BANDS, replace(features, as_they_are, in_bands + as_they_are), at=at)


def simplify(repository: BareRepository, *, at: datetime) -> str:
    """Push the well-meant change that makes the model clearly worse while its own tests pass; returns the SHA."""
    features = "src/flight_delays/features.py"
    without_hour = replace(features, '"weekday", "dep_hour", "distance"', '"weekday", "distance"')
    without_weather = replace(features, "(*SCHEDULE, *WEATHER, *PLANE)", "(*SCHEDULE, *PLANE)")
    return repository.commit(SIMPLIFY, all_of(without_hour, without_weather), at=at)


def copy_of(directory: Path) -> Change:
    """Return the change that adds every file of the directory, without what tools left there."""

    def change(work: Path) -> None:
        shutil.copytree(directory, work, dirs_exist_ok=True, ignore=_LITTER)

    return change


def append(file: str, text: str) -> Change:
    """Return the change that adds text to the end of a file."""

    def change(work: Path) -> None:
        with (work / file).open("a", encoding="utf-8") as end:
            end.write(text)

    return change


def replace(file: str, before: str, after: str) -> Change:
    """Return the change that replaces a text; it raises RepositoryError when the file has it not exactly once."""

    def change(work: Path) -> None:
        text = (work / file).read_text(encoding="utf-8")
        if text.count(before) != 1:
            raise RepositoryError(f"{before!r} occurs {text.count(before)} times, not once", where=file)
        (work / file).write_text(text.replace(before, after), encoding="utf-8")

    return change


def all_of(*changes: Change) -> Change:
    """Return the change that makes all of them, in this order."""

    def change(work: Path) -> None:
        for each in changes:
            each(work)

    return change


def _identity(at: datetime) -> dict[str, str]:
    return {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "Data Science"), ("EMAIL", AUTHOR), ("DATE", at.isoformat()))
    }


def _git(*arguments: str, cwd: Path | None = None, identity: Mapping[str, str] | None = None) -> str:
    environment = {**network_environment(), **_ISOLATED, **(identity or {})}
    done = subprocess.run(["git", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RepositoryError(
            f"git {arguments[0]} failed: {(done.stderr or done.stdout).strip()}",
            where=str(cwd or ""),
            next_step="see what git says; the repository is as it was before.",
        )
    return done.stdout
