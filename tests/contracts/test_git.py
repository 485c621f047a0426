"""The Git port: the fake and the git command on real repositories keep the same promises."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from taxiway.adapters.git import Git
from taxiway.errors import ContractError, GitUnavailable, RepositoryError
from taxiway.ports import GitHost
from tests.conftest import free_port
from tests.fakes import NOW, FakeGit

NO_COMMIT = "0123456789" * 4
FILES = {"pyproject.toml": "[project]\n", "src/flight_delays/train.py": "# größer\n", ".gitattributes": "* text\n"}


class Repository(Protocol):
    """A repository that tests write to, and the port that reads it."""

    host: GitHost
    url: str
    missing: str
    unreachable: str

    def commit(self, files: Mapping[str, str], *, branch: str = "main") -> str:
        """Commit exactly these files to the branch and return the SHA."""

    def tag(self, name: str, sha: str) -> None:
        """Name a commit."""


class InMemory:
    """A repository of the fake."""

    def __init__(self) -> None:
        self.host = FakeGit()
        self.url, self.missing, self.unreachable = "file:///model.git", "file:///none.git", "https://nowhere/model.git"
        self.host.unreachable.add(self.unreachable)

    def commit(self, files: Mapping[str, str], *, branch: str = "main") -> str:
        """Commit to the fake."""
        return self.host.commit(self.url, files, branch=branch)

    def tag(self, name: str, sha: str) -> None:
        """Tag in the fake."""
        self.host.tag(self.url, name, sha)


class OnDisk:
    """A real repository: a work tree that is committed to, read by its URL."""

    def __init__(self, directory: Path) -> None:
        self.host = Git()
        self.tree = directory / "work tree"
        self.url = self.tree.as_uri()
        self.missing = (directory / "none.git").as_uri()
        self.unreachable = f"https://127.0.0.1:{free_port()}/model.git"
        self.tree.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        """Run git in the work tree as the model's author."""
        who = {"GIT_AUTHOR_NAME": "Ana", "GIT_AUTHOR_EMAIL": "ana@example.org", "GIT_AUTHOR_DATE": NOW.isoformat()}
        who |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in who.items()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        plain = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        command = ["git", "-c", "protocol.file.allow=always", *arguments]
        done = subprocess.run(
            command, cwd=self.tree, env={**inherited, **who, **plain}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str], *, branch: str = "main") -> str:
        """Commit exactly these files."""
        self.git("checkout", "--quiet", "-B", branch)
        self.git("rm", "--quiet", "-r", "--ignore-unmatch", ".")
        for name, content in files.items():
            (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
            (self.tree / name).write_text(content, encoding="utf-8")
        return self.commit_all()

    def commit_all(self) -> str:
        """Commit the work tree as it is."""
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "--message", "Change the model\n\nMore about it.")
        return self.git("rev-parse", "HEAD")

    def tag(self, name: str, sha: str) -> None:
        """Make an annotated tag."""
        self.git("tag", "--annotate", "--message", name, name, sha)


@pytest.fixture(params=["fake", "git"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    return InMemory() if request.param == "fake" else OnDisk(tmp_path)


@pytest.fixture
def real(tmp_path: Path) -> OnDisk:
    return OnDisk(tmp_path)


def contents(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_text(encoding="utf-8") for path in files}


def test_names_resolve_to_a_commit(repository: Repository) -> None:
    """A branch gives its newest commit, a tag and a full SHA theirs, in whatever case."""
    first = repository.commit(FILES)
    repository.tag("v1", first)
    second = repository.commit({**FILES, "extra": ""})
    branched = repository.commit(FILES, branch="feature/main")
    for ref, sha in {
        "main": second,
        "refs/heads/main": second,
        "feature/main": branched,
        "v1": first,
        first: first,
        second.upper(): second,
    }.items():
        assert repository.host.resolve(repository.url, ref) == sha


def test_a_branch_wins_over_a_tag(repository: Repository) -> None:
    """What is both a branch and a tag is the branch."""
    first = repository.commit(FILES)
    second = repository.commit({**FILES, "extra": ""})
    repository.tag("main", first)
    assert repository.host.resolve(repository.url, "main") == second


@pytest.mark.parametrize("ref", ["none", NO_COMMIT, "ain", "-main", "--upload-pack=touch x", "ma*", "", "a b", "a\n"])
def test_a_missing_ref_is_an_error(ref: str, repository: Repository) -> None:
    """What is no branch, tag or full SHA raises RepositoryError, and is never taken for an option or a pattern."""
    repository.commit(FILES)
    with pytest.raises(RepositoryError):
        repository.host.resolve(repository.url, ref)


def test_a_missing_repository_is_an_error(repository: Repository, tmp_path: Path) -> None:
    """A repository that does not exist raises RepositoryError that names it."""
    with pytest.raises(RepositoryError, match=r"none\.git"):
        repository.host.resolve(repository.missing, "main")
    with pytest.raises(RepositoryError, match=r"none\.git"):
        repository.host.checkout(repository.missing, NO_COMMIT, tmp_path / "files")


def test_a_silent_host_is_transient(repository: Repository, tmp_path: Path) -> None:
    """A host that does not answer is worth another try."""
    with pytest.raises(GitUnavailable):
        repository.host.resolve(repository.unreachable, "main")
    with pytest.raises(GitUnavailable):
        repository.host.checkout(repository.unreachable, NO_COMMIT, tmp_path / "files")


def test_checkout_writes_the_files_of_the_commit(repository: Repository, tmp_path: Path) -> None:
    """The files of exactly that commit appear, without .git, and the commit's author, subject and time come back."""
    sha = repository.commit(FILES)
    repository.commit({"other": ""})
    commit = repository.host.checkout(repository.url, sha, tmp_path / "new/place")
    assert contents(tmp_path / "new/place") == FILES
    assert not (tmp_path / "new/place/.git").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["place"]
    assert (commit.sha, commit.author, commit.message) == (sha, "ana@example.org", "Change the model")
    assert (commit.committed_at, commit.committed_at.utcoffset()) == (NOW, timedelta(0))


def test_a_missing_commit_is_an_error(repository: Repository, tmp_path: Path) -> None:
    """A commit that does not exist raises RepositoryError and leaves nothing behind."""
    repository.commit(FILES)
    with pytest.raises(RepositoryError):
        repository.host.checkout(repository.url, NO_COMMIT, tmp_path / "new/place")
    assert not (tmp_path / "new").exists() or list((tmp_path / "new").iterdir()) == []


def test_every_kind_of_file(real: OnDisk, tmp_path: Path) -> None:
    """Bytes, the executable bit, odd names, links inside and files that an archive would leave out all arrive."""
    (real.tree / ".gitattributes").write_text("left_out export-ignore\nsubst export-subst\n*.crlf text eol=lf\n")
    (real.tree / "left_out").write_text("here")
    (real.tree / "subst").write_text("$Format:%H$")
    (real.tree / "binary").write_bytes(bytes(range(256)))
    (real.tree / "run.sh").write_text("#!/bin/sh\n")
    (real.tree / "run.sh").chmod(0o755)
    (real.tree / "größe und\nZeile").write_text("odd")
    (real.tree / "deep").mkdir()
    (real.tree / "deep/link").symlink_to("../run.sh")
    real.host.checkout(real.url, real.commit_all(), tmp_path / "files")
    files = tmp_path / "files"
    assert (files / "left_out").read_text() == "here"
    assert (files / "subst").read_text() == "$Format:%H$"
    assert (files / "binary").read_bytes() == bytes(range(256))
    assert os.access(files / "run.sh", os.X_OK)
    assert (files / "größe und\nZeile").read_text() == "odd"
    assert (files / "deep/link").readlink() == Path("../run.sh")


LINKS = {
    "absolute": {"link": "/etc/passwd"},
    "above": {"link": "../outside"},
    "deep above": {"src/link": "../../outside"},
    "through a link": {"here": ".", "link": "here/../outside"},
    "loop": {"a": "b", "b": "a"},
}


@pytest.mark.parametrize("links", LINKS.values(), ids=LINKS)
def test_links_that_lead_out_are_refused(links: dict[str, str], real: OnDisk, tmp_path: Path) -> None:
    """A link to anything outside of the commit's files is refused, and nothing is left behind."""
    for name, target in links.items():
        (real.tree / name).parent.mkdir(exist_ok=True)
        (real.tree / name).symlink_to(target)
    sha = real.commit_all()
    with pytest.raises(ContractError, match="link"):
        real.host.checkout(real.url, sha, tmp_path / "new/files")
    assert list((tmp_path / "new").iterdir()) == []


def test_submodules_are_refused(real: OnDisk, tmp_path: Path) -> None:
    """A commit with a submodule is refused by name, and nothing is fetched for it."""
    (tmp_path / "other").mkdir()
    other = OnDisk(tmp_path / "other")
    other.commit(FILES)
    real.git("submodule", "--quiet", "add", other.url, "vendored/other")
    with pytest.raises(ContractError, match="vendored/other is a submodule"):
        real.host.checkout(real.url, real.commit_all(), tmp_path / "files")


def test_hooks_and_configuration_take_no_part(real: OnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's hooks, filters, templates and rewritten URLs change nothing and run nothing."""
    trace = tmp_path / "trace"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        (hooks / hook).write_text(f"#!/bin/sh\necho {hook} >> '{trace}'\n")
        (hooks / hook).chmod(0o755)
    (tmp_path / ".gitconfig").write_text(
        f"[core]\n hooksPath = {hooks}\n autocrlf = true\n[init]\n templateDir = {tmp_path}\n"
        f'[filter "trace"]\n smudge = "echo filter >> {trace}; cat"\n[url "file:///nowhere/"]\n insteadOf = file://\n'
    )
    sha = real.commit({"a.txt": "one\n", ".gitattributes": "*.txt filter=trace\n"})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / ".gitconfig"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert real.host.resolve(real.url, "main") == sha
    real.host.checkout(real.url, sha, tmp_path / "files")
    assert (tmp_path / "files/a.txt").read_bytes() == b"one\n"
    assert not trace.exists()


@pytest.mark.parametrize(
    "url", ["ext::touch {trace}", "--upload-pack=touch {trace}", "http://127.0.0.1/x.git", "", "fd::3"]
)
def test_other_protocols_are_refused(url: str, tmp_path: Path) -> None:
    """Only files, https and ssh are read; a URL is never taken for an option or a command."""
    url = url.format(trace=tmp_path / "trace")
    with pytest.raises(RepositoryError):
        Git().resolve(url, "main")
    with pytest.raises(RepositoryError):
        Git().checkout(url, NO_COMMIT, tmp_path / "files")
    assert list(tmp_path.iterdir()) == []


def test_a_password_in_a_url_is_not_told(tmp_path: Path) -> None:
    """Errors show the URL without the user and password in it."""
    with pytest.raises(GitUnavailable) as failure:
        Git().resolve(f"https://ana:s3cret@127.0.0.1:{free_port()}/model.git", "main")
    assert "s3cret" not in str(failure.value)
    assert "/model.git" in str(failure.value)


def test_a_call_ends_at_its_timeout(real: OnDisk) -> None:
    """A command that takes longer than the timeout is stopped, and worth another try."""
    real.commit(FILES)
    with pytest.raises(GitUnavailable, match="longer"):
        Git(timeout=timedelta(0)).resolve(real.url, "main")


def test_a_commit_in_another_zone(real: OnDisk, tmp_path: Path) -> None:
    """The time of a commit is given in UTC."""
    real.git("commit", "--quiet", "--allow-empty", "--message", "x", "--date", "2013-01-01T00:00:00+05:30")
    sha = real.git("rev-parse", "HEAD")
    commit = real.host.checkout(real.url, sha, tmp_path / "files")
    assert commit.committed_at == datetime(2013, 7, 1, 12, tzinfo=UTC)
    assert contents(tmp_path / "files") == {}
