"""What `taxiway doctor` looks at on this machine: programs, sandbox, disk, keys and secrets."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from taxiway.errors import IntegrityError, SettingsError
from taxiway.ports import Signer, Verifier
from taxiway.stages.sandbox import weaknesses
from taxiway.supervisor.findings import Finding, weaker, wrong

_PYTHONS = ((3, 11), (3, 13))
_LEAST_GIT = (2, 20)
_GIGABYTE = 1024**3
_LEAST_FREE_GB, _COMFORTABLE_GB = 1, 10
_SECONDS = 30


def machine_findings(home: Path) -> Iterator[Finding]:
    """Look at the programs that Taxiway calls, the strength of the sandbox, and the room on the disk."""
    if not _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]:
        what = f"Python {sys.version_info[0]}.{sys.version_info[1]} is not supported"
        yield wrong("machine", what, "make .venv again with Python 3.11, 3.12 or 3.13.")
    yield from _program("git", "git", _LEAST_GIT, "install git.")
    yield from _program("uv", str(Path(sys.executable).with_name("uv")), (0, 9), "run `make install`.")
    for weakness in weaknesses():
        yield weaker("sandbox", weakness, "install bubblewrap 0.8 or newer, and allow user namespaces.")
    free = shutil.disk_usage(home).free / _GIGABYTE
    if free < _COMFORTABLE_GB:
        severity = wrong if free < _LEAST_FREE_GB else weaker
        advice = "make room: `cache/` below the home can be deleted when nothing runs."
        yield severity("disk", f"{home} has {free:.1f} GB left", advice)


def secret_findings(*files: Path) -> Iterator[Finding]:
    """Look whether files that hold secrets are there, and readable by their owner only."""
    for path in files:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            with path.open("rb"):
                pass
        except OSError as error:
            what = f"{path} cannot be read: {error.strerror}"
            yield wrong("secrets", what, "give it back to the user that runs Taxiway, or restore it.")
            continue
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield wrong("secrets", f"others may read {path} (mode {mode:o})", f"run `chmod 600 {path}`.")


def key_findings(signer: Signer, verifier: Verifier) -> Iterator[Finding]:
    """Sign something and verify it: both keys must be readable, and belong together."""
    try:
        verifier.verify_statement(signer.sign_statement({"kind": "test"}))
    except SettingsError as error:
        yield wrong("keys", f"{error.what} ({error.where})", error.next_step)
    except IntegrityError:
        what = "the public key is not that of the signing key: everything signed from now on is refused"
        yield wrong("keys", what, "delete the public key and run `taxiway up`, which derives it; or restore the pair.")


def _program(name: str, command: str, least: tuple[int, int], advice: str) -> Iterator[Finding]:
    try:
        done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        yield wrong("machine", f"{name} does not run: {error}", advice)
        return
    found = re.search(r"(\d+)\.(\d+)", done.stdout)
    if found is None or (int(found[1]), int(found[2])) < least:
        wanted = ".".join(map(str, least))
        yield wrong("machine", f"{done.stdout.strip() or name} is older than {wanted}", advice)
