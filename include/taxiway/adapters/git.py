"""Git repositories by the git command: refs resolved, the files of one commit exported.

A model repository is untrusted: no hook, filter, submodule or configuration of it or of this machine takes part,
git never asks for a password, and only the protocols file, https and ssh are used. What a user may set up
for private repositories is an SSH key or a `~/.netrc`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from taxiway.domain.values import Commit
from taxiway.errors import ContractError, GitUnavailable, RepositoryError
from taxiway.stages.sandbox import network_environment
from taxiway.stages.workspaces import workspace

_SHA = re.compile(r"[0-9a-f]{40}")
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")
_UNREACHABLE = re.compile(
    r"could not resolve host|name resolution|name or service not known|connection (refused|reset|timed out|closed)|"
    r"failed to connect|couldn't connect|network is unreachable|no route to host|operation (timed out|too slow)|"
    r"early eof|unexpected disconnect|remote end hung up|returned error: (429|5\d\d)|rpc failed",
    re.IGNORECASE,
)
_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "file:https:ssh",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=20",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_OPTIONS = ("-c", "gc.auto=0", "-c", "maintenance.auto=false")
_SLOW = ("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=30")
_CHECK_URL = "check repository.url in the model spec, and that this machine may read the repository."


class Git:
    """Reads repositories with the git command of this machine; one call may take up to `timeout`."""

    def __init__(self, *, timeout: timedelta = timedelta(minutes=5)) -> None:
        self._timeout = timeout.total_seconds()

    def resolve(self, url: str, ref: str) -> str:
        """Return the full SHA of a branch, tag or SHA; raises RepositoryError when repository or ref is missing.

        A branch wins over a tag of the same name; an annotated tag gives its commit. A SHA must be a full one.
        """
        if ref.startswith("-") or not ref.isprintable() or " " in ref or not ref:
            raise RepositoryError(f"{ref!r} is no Git ref", where=_shown(url), next_step="name a branch, tag or SHA.")
        if _SHA.fullmatch(ref.lower()):
            with self._fetched(url, ref.lower()) as repository:
                return self._local(repository, url, "rev-parse", "FETCH_HEAD^{commit}").strip()
        names = (ref,) if ref.startswith("refs/") else (f"refs/heads/{ref}", f"refs/tags/{ref}")
        wanted = [candidate for name in names for candidate in (f"{name}^{{}}", name)]
        listed = self._remote(url, "ls-remote", "--", url, *wanted)
        found = {name: sha for sha, _, name in (line.partition("\t") for line in listed.splitlines())}
        for name in wanted:
            if name in found:
                return found[name]
        raise RepositoryError(
            f"there is no branch, tag or full SHA {ref!r}",
            where=_shown(url),
            next_step="push it, or check repository.branch in the model spec.",
        )

    def checkout(self, url: str, sha: str, destination: Path) -> Commit:
        """Write the files of the commit (no .git) to `destination`, which must not exist; it appears complete.

        Raises RepositoryError when repository or commit is missing, ContractError when the commit has submodules
        or links that lead out of it.
        """
        with self._fetched(url, sha) as repository:
            commit = self._describe(repository, url)
            self._refuse_submodules(repository, url)
            destination.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".checkout-") as scratch:
                files = Path(scratch) / "files"
                files.mkdir()
                self._local(repository, url, "read-tree", "FETCH_HEAD")
                self._local(repository, url, f"--work-tree={files}", "checkout-index", "--all", "--quiet")
                _refuse_links_out(files, f"{_shown(url)} at {sha[:12]}")
                files.rename(destination)
        return commit

    @contextmanager
    def _fetched(self, url: str, sha: str) -> Iterator[Path]:
        """Give a temporary bare repository whose FETCH_HEAD is exactly that commit, without its history."""
        if not _SHA.fullmatch(sha):
            raise RepositoryError(f"{sha!r} is no full SHA", where=_shown(url), next_step="resolve the ref first.")
        with workspace("git") as scratch:
            repository = scratch / "repository.git"
            self._run("init", "--quiet", "--bare", "--template=", str(repository))
            self._remote(
                url,
                f"--git-dir={repository}",
                *("fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", url, sha),
            )
            yield repository

    def _describe(self, repository: Path, url: str) -> Commit:
        form = "--format=%H%x00%ae%x00%s%x00%cI"
        shown = self._local(repository, url, "show", "--no-patch", "--no-notes", "--encoding=UTF-8", form, "FETCH_HEAD")
        sha, author, subject, committed_at = shown.strip("\n").split("\0")
        return Commit(sha, author, subject, datetime.fromisoformat(committed_at).astimezone(UTC))

    def _refuse_submodules(self, repository: Path, url: str) -> None:
        listed = self._local(repository, url, "ls-tree", "-r", "-z", "--full-tree", "FETCH_HEAD")
        for entry in listed.split("\0"):
            if entry.startswith("160000 "):
                raise ContractError(
                    f"{entry.partition(chr(9))[2]} is a submodule, which is not fetched",
                    where=_shown(url),
                    next_step="commit the files themselves, or install them as a package through the lock.",
                )

    def _remote(self, url: str, *arguments: str) -> str:
        """Run a command that talks to the repository's host; raises GitUnavailable or RepositoryError."""
        code, output, errors = self._run(*_SLOW, *arguments)
        if code == 0:
            return output
        where, detail = _shown(url), _PASSWORD.sub("***@", errors.strip())
        if _UNREACHABLE.search(errors):
            advice = "check the network and the Git host; it will be tried again."
            raise GitUnavailable(f"the Git host did not answer: {detail}", where=where, next_step=advice)
        if "not our ref" in errors or "unadvertised object" in errors:
            raise RepositoryError(
                f"there is no commit {arguments[-1]}", where=where, next_step="push it, then try again."
            )
        raise RepositoryError(f"the repository cannot be read: {detail}", where=where, next_step=_CHECK_URL)

    def _local(self, repository: Path, url: str, *arguments: str) -> str:
        """Run a command on the fetched commit; raises RepositoryError when its objects make no sense."""
        code, output, errors = self._run(f"--git-dir={repository}", *arguments)
        if code != 0:
            raise RepositoryError(
                f"the commit cannot be read: {errors.strip()}", where=_shown(url), next_step="name a commit."
            )
        return output

    def _run(self, *arguments: str) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr; at the timeout git and its helpers are killed."""
        process = subprocess.Popen(
            ["git", *_OPTIONS, *arguments],
            cwd="/",  # outside of any repository, whose configuration would count
            env={**network_environment(), **_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=self._timeout)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise GitUnavailable(
                f"git took longer than {self._timeout:g} s", next_step="check the network and the Git host."
            ) from error
        return process.returncode, output, errors


def _refuse_links_out(files: Path, where: str) -> None:
    root = files.resolve()
    for path in files.rglob("*"):
        if not path.is_symlink():
            continue
        try:
            inside = not path.readlink().is_absolute() and path.resolve().is_relative_to(root)
        except (OSError, RuntimeError):  # a loop of links
            inside = False
        if not inside:
            raise ContractError(
                f"{path.relative_to(files)} is a link that leads out of the repository",
                where=where,
                next_step="commit the file itself instead of a link.",
            )


def _shown(url: str) -> str:
    """Return the URL without the user and password that it may hold."""
    return _PASSWORD.sub("***@", url)
