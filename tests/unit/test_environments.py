"""Model environments: made once per lock, from wheels whose hashes hold, and from nothing else."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from taxiway.errors import BuildError, IndexUnavailable
from taxiway.stages.digests import file_digest
from taxiway.stages.environments import ModelEnvironment, ensure_environment
from tests.unit.tiny_repositories import lock_of, write_wheel

LONG = timedelta(minutes=2)


def wheel(directory: Path, code: str) -> Path:
    """Make a wheel of one module, `tiny_model_lib`, without an index."""
    info = "tiny_model_lib-1.0.dist-info"
    path = directory / "tiny_model_lib-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_model_lib.py", code)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model-lib\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"tiny_model_lib.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


def source_distribution(directory: Path, trace: Path) -> Path:
    """Make a source distribution that leaves a trace when its code runs."""
    path = directory / "tiny_model_lib-1.0.tar.gz"
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": f"open({str(trace)!r}, 'w').close()\n",
        "PKG-INFO": "Metadata-Version: 2.1\nName: tiny-model-lib\nVersion: 1.0\n",
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"tiny_model_lib-1.0/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    return path


def lock(directory: Path, package: Path) -> Path:
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    path = directory / "requirements.txt"
    path.write_text(f"tiny-model-lib @ {package.as_uri()} --hash=sha256:{digest}\n")
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return lock(tmp_path, wheel(tmp_path, "ANSWER = 42\n"))


class Index(SimpleHTTPRequestHandler):
    """A package index: the files of a folder, which says that its pages stay as they are for a day."""

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "max-age=86400")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def index(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve the folder as uv's only index for the block; afterwards it does not answer any more."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Index, directory=directory)) as server:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def published(directory: Path, version: str) -> str:
    """Put a version of the package on the index and return the lock that pins it."""
    page = directory / "tiny-model-lib"
    page.mkdir(parents=True, exist_ok=True)
    locked = lock_of(write_wheel(page, "tiny-model-lib", version, code="ANSWER = 42\n"))
    links = [f'<a href="{path.name}">{path.name}</a>' for path in page.glob("*.whl")]
    (page / "index.html").write_text(f"<html><body>{''.join(links)}</body></html>")
    return locked


def answer(environment: ModelEnvironment) -> str:
    code = "import tiny_model_lib, sys; print(tiny_model_lib.ANSWER, sys.prefix)"
    return subprocess.run([environment.python, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_environment_has_what_the_lock_says(good: Path, tmp_path: Path) -> None:
    """The interpreter sees the locked packages and no others, compiled already; the digest is the lock's."""
    environment = ensure_environment(good, tmp_path / "cache", timeout=LONG)
    value, prefix = answer(environment).split()
    assert value == "42"
    assert Path(prefix).is_relative_to(tmp_path / "cache")
    assert environment.digest == file_digest(good)
    site = next(environment.python.parents[1].glob("lib/python*/site-packages"))
    assert list(site.glob("__pycache__/tiny_model_lib.*.pyc"))
    taxiway = subprocess.run([environment.python, "-c", "import httpx"], capture_output=True, check=False, cwd=tmp_path)
    assert taxiway.returncode != 0


def test_an_environment_is_made_once(good: Path, tmp_path: Path) -> None:
    """The same lock gives the same environment without building again, and marks it as used now."""
    first = ensure_environment(good, tmp_path / "cache", timeout=LONG)
    directory = first.python.parents[1]
    (directory / "mark").touch()
    ready = directory / ".taxiway-ready"
    os.utime(ready, (0, 0))
    again = ensure_environment(good, tmp_path / "cache", timeout=timedelta(0))
    assert again == first
    assert (directory / "mark").exists()
    assert ready.stat().st_mtime > 0


def test_another_lock_is_another_environment(good: Path, tmp_path: Path) -> None:
    """A changed lock never reuses the environment of the old one."""
    first = ensure_environment(good, tmp_path / "cache", timeout=LONG)
    good.write_text(good.read_text() + "# changed\n")
    assert ensure_environment(good, tmp_path / "cache", timeout=LONG).python != first.python


def test_a_half_built_environment_is_built_again(good: Path, tmp_path: Path) -> None:
    """What a killed build left behind is not taken for an environment."""
    directory = tmp_path / "cache/environments" / file_digest(good).removeprefix("sha256:")[:32]
    (directory / "bin").mkdir(parents=True)
    (directory / "bin/python").write_text("half")
    assert answer(ensure_environment(good, tmp_path / "cache", timeout=LONG)).startswith("42")


def test_concurrent_callers_share_one_build(good: Path, tmp_path: Path) -> None:
    """Callers that come at once all get the same complete environment."""
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: ensure_environment(good, tmp_path / "cache", timeout=LONG), range(3)))
    assert len(set(found)) == 1
    assert sorted(environment.reused for environment in found) == [False, True, True]
    assert answer(found[0]).startswith("42")


def test_a_changed_package_is_refused(tmp_path: Path) -> None:
    """A package that is not the one that was locked is not installed."""
    path = lock(tmp_path, wheel(tmp_path, "ANSWER = 42\n"))
    wheel(tmp_path, "ANSWER = 'evil'\n")
    with pytest.raises(BuildError, match=r"(?i)hash"):
        ensure_environment(path, tmp_path / "cache", timeout=LONG)


def test_a_package_without_hash_is_refused(tmp_path: Path) -> None:
    """A lock that does not pin every package by hash is no lock."""
    path = tmp_path / "requirements.txt"
    path.write_text(f"tiny-model-lib @ {wheel(tmp_path, '').as_uri()}\n")
    with pytest.raises(BuildError, match=r"(?i)hash"):
        ensure_environment(path, tmp_path / "cache", timeout=LONG)


def test_a_source_distribution_is_not_built(tmp_path: Path) -> None:
    """Installing runs no code of a package: source distributions are refused, even with the right hash."""
    trace = tmp_path / "trace"
    path = lock(tmp_path, source_distribution(tmp_path, trace))
    with pytest.raises(BuildError):
        ensure_environment(path, tmp_path / "cache", timeout=LONG)
    assert not trace.exists()


def test_a_failed_build_is_tried_again(tmp_path: Path) -> None:
    """After a build that failed or took too long, the next caller builds; both say what to do next."""
    path = lock(tmp_path, wheel(tmp_path, "ANSWER = 42\n"))
    with pytest.raises(BuildError, match="longer than 0 s") as failure:
        ensure_environment(path, tmp_path / "cache", timeout=timedelta(0))
    assert "limits.build" in failure.value.next_step
    assert answer(ensure_environment(path, tmp_path / "cache", timeout=LONG)).startswith("42")


def test_a_second_environment_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that was removed is made again from uv's cache while the index does not answer."""
    path = tmp_path / "requirements.txt"
    path.write_text(published(tmp_path / "index", "1.0"))
    with index(tmp_path / "index", monkeypatch):
        first = ensure_environment(path, tmp_path / "cache", timeout=LONG)
    shutil.rmtree(first.python.parents[1])

    again = ensure_environment(path, tmp_path / "cache", timeout=LONG)

    assert (again, again.reused) == (first, False)
    assert answer(again).startswith("42")


def test_what_the_cache_has_not_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that was published after uv last looked at the index is found all the same."""
    path = tmp_path / "requirements.txt"
    with index(tmp_path / "index", monkeypatch):
        for version in ("1.0", "2.0"):
            path.write_text(published(tmp_path / "index", version))

            assert answer(ensure_environment(path, tmp_path / "cache", timeout=LONG)).startswith("42")


def test_an_index_that_does_not_answer_is_worth_another_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Infrastructure that is away is no fault of the lock: the error is one that is retried."""
    path = tmp_path / "requirements.txt"
    path.write_text(published(tmp_path / "index", "1.0"))
    with index(tmp_path / "index", monkeypatch):
        pass

    with pytest.raises(IndexUnavailable, match="did not answer"):
        ensure_environment(path, tmp_path / "cache", timeout=LONG)
