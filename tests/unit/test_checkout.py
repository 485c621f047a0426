"""What a model repository has to keep, and the one clear error for each promise that it breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from taxiway.domain.evidence import Verdict
from taxiway.errors import ContractError, RepositoryError
from taxiway.stages.build import Request, open_build
from taxiway.stages.checkout import Checkout, ensure_checkout
from taxiway.stages.evidence_store import evidence_of
from tests.fakes import FakeClock, FakeGit, FakeRegistry
from tests.unit.model_versions import example_spec

URL = "https://git.example/model.git"
LOCK = "mlflow-skinny==3.17.2\npandas==2.3.3\npyarrow==25.0.1\npytest==9.2.0\n"
GOOD = {
    "pyproject.toml": '[tool.taxiway]\ntrain = "model.train:train"\n',
    "requirements.txt": LOCK,
    "tests/unit/test_model.py": "",
    "tests/integration/test_model.py": "",
}


def checkout(files: dict[str, str], cache: Path) -> Checkout:
    """Check out a repository with these files."""
    git = FakeGit()
    return ensure_checkout(git, URL, git.commit(URL, files, author="ana@example.org"), cache)


def test_a_good_repository_is_checked_out(tmp_path: Path) -> None:
    """Files, author and the train function's entry are there; the lock is found."""
    found = checkout(GOOD, tmp_path)

    assert ("model.train:train", "ana@example.org") == (found.entry, found.commit.author)
    assert LOCK == found.lock.read_text()


def test_a_checkout_is_made_once(tmp_path: Path) -> None:
    """The second stage that needs the files does not ask the Git host again."""
    git = FakeGit()
    sha = git.commit(URL, GOOD)
    first = ensure_checkout(git, URL, sha, tmp_path)
    git.unreachable.add(URL)

    assert first == ensure_checkout(git, URL, sha, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pyproject.toml": None}, "has no pyproject.toml"),
        ({"pyproject.toml": "[project"}, "pyproject.toml cannot be read"),
        ({"pyproject.toml": "[project]\n"}, r"has no \[tool.taxiway\]"),
        ({"pyproject.toml": "[tool.taxiway]\ntrain = 'train'\n"}, "must look like 'package.module:function'"),
        ({"requirements.txt": None}, "no requirements.txt"),
        ({"requirements.txt": "pandas==2.3.3\n"}, "does not pin mlflow-skinny, pyarrow, pytest"),
        ({"tests/unit/test_model.py": None}, "has no tests/unit"),
        ({"tests/integration/test_model.py": None}, "has no tests/integration"),
    ],
)
def test_a_broken_promise_is_named(tmp_path: Path, change: dict[str, str | None], message: str) -> None:
    """Each missing or wrong part of the contract is one error that names it and the commit."""
    files = {name: content for name, content in {**GOOD, **change}.items() if content is not None}

    with pytest.raises(ContractError, match=message) as raised:
        checkout(files, tmp_path)
    assert URL in raised.value.where


def test_an_unknown_commit_leaves_nothing_behind(tmp_path: Path) -> None:
    """A commit that does not exist is an error each time it is asked for."""
    git = FakeGit()
    git.commit(URL, GOOD)

    for _ in range(2):
        with pytest.raises(RepositoryError):
            ensure_checkout(git, URL, "0" * 40, tmp_path)


@pytest.mark.parametrize(("files", "ref"), [({**GOOD, "requirements.txt": ""}, None), (GOOD, "no-such-branch")])
def test_a_commit_that_cannot_be_built_leaves_a_run_that_says_why(
    tmp_path: Path, files: dict[str, str], ref: str | None
) -> None:
    """The refused build is a failed run in the registry, with the error in the words of the task."""
    git, registry, spec = FakeGit(), FakeRegistry(), example_spec()
    git.commit(spec.repository.url, files)
    request = Request("commit-1", ref, None, "manual", "ana")

    with pytest.raises((ContractError, RepositoryError)) as refused:
        open_build(spec, request, git=git, registry=registry, cache=tmp_path, clock=FakeClock())

    ((run_id, run),) = registry.runs.items()
    evidence = evidence_of(registry, run_id, "failed/checkout")
    assert run.status == "FAILED"
    assert evidence.verdict is Verdict.FAILED
    assert evidence.reasons == (f"{refused.type.__name__}: {refused.value}",)
