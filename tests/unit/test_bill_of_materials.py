"""What an environment consists of: what was installed of the lock, with the hashes that the lock allows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from taxiway.domain.values import Component
from taxiway.stages.bill_of_materials import components_of
from taxiway.stages.environments import ensure_environment
from tests.unit.tiny_repositories import lock_of, write_wheel

ELSEWHERE = 'colorama==0.4.6 ; sys_platform == "win32" \\\n    --hash=sha256:' + "0" * 64 + "\n"


def components(directory: Path, lock: str) -> tuple[Component, ...]:
    """Install a lock from the wheels of the directory and list the environment."""
    path = directory / "requirements.txt"
    path.write_text(lock)
    environment = ensure_environment(path, directory / "cache", timeout=timedelta(minutes=2))
    return components_of(environment, path)


def hash_of(lock: str) -> str:
    """Return the hash in a lock of one package."""
    return lock.strip().rpartition("sha256:")[2]


@pytest.fixture(autouse=True)
def _without_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))


def test_installed_packages_are_listed_with_the_locks_hashes(tmp_path: Path) -> None:
    """Each package has its version and every hash of its lock entry, by its one normalised name."""
    one, two = lock_of(write_wheel(tmp_path, "a-tiny_Thing", "1.0")), lock_of(write_wheel(tmp_path, "other", "2.0"))
    two_hashes = two.rstrip() + " \\\n    --hash=sha256:" + "f" * 64 + "\n    # via something\n"

    found = components(tmp_path, two_hashes + one)

    assert found == (
        Component("a-tiny-thing", "1.0", (hash_of(one),)),
        Component("other", "2.0", tuple(sorted((hash_of(two), "f" * 64)))),
    )


def test_what_this_system_does_not_need_is_not_listed(tmp_path: Path) -> None:
    """A lock for many systems has more entries than one environment has packages."""
    found = components(tmp_path, lock_of(write_wheel(tmp_path, "tiny")) + ELSEWHERE)

    assert [component.name for component in found] == ["tiny"]


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("License-Expression: MIT OR Apache-2.0\n", "MIT OR Apache-2.0"),
        ("License: BSD\nClassifier: License :: OSI Approved :: MIT License\n", "BSD"),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License\n", "MIT License"),
        (f"License: {'all rights ' * 20}\nClassifier: Topic :: Text\n", None),
        ("", None),
    ],
)
def test_a_licence_is_what_the_package_calls_it(tmp_path: Path, metadata: str, licence: str | None) -> None:
    """The expression wins, then the name, then the classifier; a whole text is no name."""
    (found,) = components(tmp_path, lock_of(write_wheel(tmp_path, "tiny", metadata=metadata)))

    assert found.licence == licence


def test_another_reader_of_metadata_in_the_process_changes_nothing(tmp_path: Path) -> None:
    """Libraries of a task bring `importlib_metadata`, which takes over the reading and is stricter."""
    lock = lock_of(write_wheel(tmp_path, "tiny"))
    before = components(tmp_path, lock)

    __import__("importlib_metadata")

    assert components(tmp_path, lock) == before
