"""The demo's Git history: made once, the same everywhere."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from taxiway.adapters.git import Git
from taxiway.demo import commits
from taxiway.demo.commits import BareRepository
from taxiway.errors import RepositoryError

APRIL, SEPTEMBER = datetime(2013, 4, 1, tzinfo=UTC), datetime(2013, 9, 1, tzinfo=UTC)


@pytest.fixture
def repository(tmp_path: Path) -> BareRepository:
    return BareRepository(tmp_path / "demo" / "model.git")


def files(repository: BareRepository, sha: str, tmp_path: Path) -> dict[str, bytes]:
    """Return the files of a commit by path."""
    directory = tmp_path / sha
    Git().checkout(repository.url, sha, directory)
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_the_first_commit_is_the_example(repository: BareRepository, tmp_path: Path) -> None:
    """The first commit has the example's files and nothing that tools leave behind."""
    sha = commits.first(repository, at=APRIL)

    found = files(repository, sha, tmp_path)
    assert found["requirements.txt"] == (commits.EXAMPLE / "requirements.txt").read_bytes()
    assert found["src/flight_delays/train.py"] == (commits.EXAMPLE / "src" / "flight_delays" / "train.py").read_bytes()
    assert not [path for path in found if "cache" in path]


def test_author_and_time_are_given(repository: BareRepository, tmp_path: Path) -> None:
    """The commit is by the data scientists, at the time of the story."""
    sha = commits.first(repository, at=APRIL)

    commit = Git().checkout(repository.url, sha, tmp_path / "files")
    assert (commit.author, commit.committed_at, commit.message) == (commits.AUTHOR, APRIL, commits.FIRST)


def test_a_repeat_pushes_nothing(repository: BareRepository) -> None:
    """A commit that the branch has is found again, whatever came after it."""
    first = commits.first(repository, at=APRIL)
    later = commits.explain(repository, at=SEPTEMBER)

    assert commits.first(repository, at=SEPTEMBER) == first
    assert commits.explain(repository, at=APRIL) == later
    assert Git().resolve(repository.url, "main") == later


def test_the_same_times_give_the_same_history(repository: BareRepository, tmp_path: Path) -> None:
    """Two demos on two machines have the same commits."""
    other = BareRepository(tmp_path / "other.git")

    histories = [(commits.first(one, at=APRIL), commits.simplify(one, at=SEPTEMBER)) for one in (repository, other)]

    assert histories[0] == histories[1]


def test_the_worse_commit_drops_hour_and_weather(repository: BareRepository, tmp_path: Path) -> None:
    """The worse commit changes the features and nothing else."""
    before = files(repository, commits.first(repository, at=APRIL), tmp_path)
    after = files(repository, commits.simplify(repository, at=SEPTEMBER), tmp_path)

    assert {path for path in after if after[path] != before.get(path)} == {"src/flight_delays/features.py"}
    scope: dict[str, tuple[str, ...]] = {}
    exec(after["src/flight_delays/features.py"], scope)  # noqa: S102 (our own file, as the commit changed it)
    assert scope["FEATURES"] == ("carrier", "origin", "dest", "month", "weekday", "distance", "plane_age", "seats")


def test_a_branch_starts_at_its_base(repository: BareRepository, tmp_path: Path) -> None:
    """A new branch has what its base has, and the base stays as it is."""
    first = commits.first(repository, at=APRIL)

    other = repository.commit("Say more", commits.append("README.md", "more"), at=APRIL, branch="more", base="main")

    assert files(repository, other, tmp_path)["README.md"].endswith(b"more")
    assert Git().resolve(repository.url, "main") == first


def test_a_change_that_does_not_fit_is_refused(repository: BareRepository) -> None:
    """A text to replace that is not there (any more) is an error, and nothing is pushed."""
    first = commits.first(repository, at=APRIL)

    with pytest.raises(RepositoryError, match="0 times"):
        repository.commit("Change", commits.replace("README.md", "no such text", ""), at=SEPTEMBER)
    assert Git().resolve(repository.url, "main") == first


def test_the_users_git_configuration_plays_no_part(
    repository: BareRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signing, hooks and names that a user configured for other repositories do not touch the demo's."""
    home = tmp_path / "home"
    home.mkdir()
    settings = ["commit.gpgsign=true", "user.email=someone@example.com", "init.defaultBranch=trunk"]
    for setting in settings:
        command = ["git", "config", "--file", str(home / ".gitconfig"), *setting.split("=")]
        subprocess.run(command, check=True)
    monkeypatch.setenv("HOME", str(home))

    sha = commits.first(repository, at=APRIL)

    assert Git().resolve(repository.url, "main") == sha


def test_the_hasty_commit_answers_everything_but_a_missing_distance(repository: BareRepository, tmp_path: Path) -> None:
    """The mistake shows on rows that the data never has: a flight without a distance."""
    commits.first(repository, at=APRIL)
    features = files(repository, commits.group_distances(repository, at=SEPTEMBER), tmp_path)
    scope: dict[str, Any] = {}
    exec(features["src/flight_delays/features.py"], scope)  # noqa: S102 (our own file, as the commit changed it)
    row = {name: ["x"] if name in scope["CATEGORICAL"] else [250.0] for name in scope["FEATURES"]}
    categories = {name: ["x"] for name in scope["CATEGORICAL"]}

    encoded = scope["encode"](pd.DataFrame(row), categories)

    assert encoded[0, scope["FEATURES"].index("distance")] == 25
    with pytest.raises(ValueError, match=r"[Cc]annot convert"):
        scope["encode"](pd.DataFrame({**row, "distance": [np.nan]}), categories)
