"""Commands of a model repository: what they see, what they may use, and that nothing of them is left."""

from __future__ import annotations

import os
import socket
import sys
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from taxiway.stages import bubblewrap
from taxiway.stages.sandbox import (
    CommandLimits,
    Outcome,
    is_plain,
    network_environment,
    run,
    running,
    scrubbed_environment,
    weaknesses,
)

ROOMY = CommandLimits(wall=timedelta(seconds=60), memory_mb=2048, log_kb=64)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of another process")


Python = Callable[..., Outcome]
needs_bubblewrap = pytest.mark.skipif(bubblewrap.problem() is not None, reason=str(bubblewrap.problem()))


@pytest.fixture(params=[pytest.param(True, marks=needs_bubblewrap, id="bubblewrap"), pytest.param(False, id="without")])
def python(request: pytest.FixtureRequest) -> Python:
    """Runs Python code in the sandbox, with bubblewrap and without."""

    def python(code: str, directory: Path, *, limits: CommandLimits = ROOMY, **extra_env: str) -> Outcome:
        command = [sys.executable, "-c", code]
        return run(command, cwd=directory, limits=limits, extra_env=extra_env, confined=request.param)

    return python


def test_a_command_that_ends_well_succeeded(python: Python, tmp_path: Path) -> None:
    """Exit code 0 is a success; both outputs are kept in order; the directory is the one that was given."""
    code = "import os, sys; print(os.getcwd()); print('to stderr', file=sys.stderr)"
    outcome = python(code, tmp_path)
    assert outcome.succeeded
    assert outcome.output == f"{tmp_path}\nto stderr\n"
    assert outcome.limit is None


def test_a_command_that_fails_tells_its_exit_code(python: Python, tmp_path: Path) -> None:
    """Another exit code is no success, and no limit."""
    outcome = python("raise SystemExit(3)", tmp_path)
    assert (outcome.succeeded, outcome.exit_code, outcome.limit) == (False, 3, None)


def test_a_command_sees_no_secrets(python: Python, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the process's environment but a few harmless variables reaches the command."""
    for name in ("AIRFLOW__CORE__FERNET_KEY", "TAXIWAY_SIGNING_KEY", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "s3cret")
    outcome = python("import os; print('\\n'.join(f'{k}={v}' for k, v in os.environ.items()))", tmp_path, MODEL_URL="u")
    seen = dict(line.split("=", 1) for line in outcome.output.splitlines())
    assert "s3cret" not in outcome.output
    assert set(seen) <= {
        *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TAXIWAY_SUPERVISED", "PWD"),
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
        *("HOME", "TMPDIR", "PYTHONUNBUFFERED", "MLFLOW_DISABLE_TELEMETRY", "MODEL_URL"),
    }
    assert (seen["MODEL_URL"], seen["OMP_NUM_THREADS"]) == ("u", "1")


def test_the_private_home_is_gone_afterwards(python: Python, tmp_path: Path) -> None:
    """Home and temporary directory are the command's own, writable, and removed with what it left there."""
    code = (
        "import os, pathlib, tempfile; pathlib.Path.home().joinpath('x').touch(); "
        "print(os.environ['HOME'], tempfile.gettempdir())"
    )
    home, temporary = python(code, tmp_path).output.split()
    assert home == temporary
    assert home != str(Path.home())
    assert not Path(home).exists()


def test_the_wall_time_is_a_limit(python: Python, tmp_path: Path) -> None:
    """A command that does not end is stopped, and the limit is named."""
    limits = CommandLimits(wall=timedelta(seconds=1), memory_mb=2048, log_kb=64)
    outcome = python("import time; print('started', flush=True); time.sleep(600)", tmp_path, limits=limits)
    assert not outcome.succeeded
    assert outcome.limit == "wall time of 1 s"


@on_linux
def test_memory_is_a_limit(python: Python, tmp_path: Path) -> None:
    """A command that wants more memory than it may have does not get it."""
    limits = CommandLimits(wall=timedelta(seconds=60), memory_mb=512, log_kb=64)
    outcome = python("data = bytearray(2_000_000_000); print('got it')", tmp_path, limits=limits)
    assert not outcome.succeeded
    assert "MemoryError" in outcome.output


@on_linux
def test_children_have_the_same_limits(python: Python, tmp_path: Path) -> None:
    """What a command starts is limited like itself."""
    limits = CommandLimits(wall=timedelta(seconds=60), memory_mb=512, log_kb=64)
    code = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'bytearray(2_000_000_000)']))"
    outcome = python(code, tmp_path, limits=limits)
    assert not outcome.succeeded
    assert "MemoryError" in outcome.output


@on_linux
def test_a_file_cannot_fill_the_disk(python: Python, tmp_path: Path) -> None:
    """No file that a command writes becomes larger than the disk space that it may use."""
    limits = CommandLimits(wall=timedelta(seconds=60), memory_mb=2048, log_kb=64, disk_mb=256)
    code = "import os; os.truncate('big', 300_000_000)"
    (tmp_path / "big").touch()
    assert not python(code, tmp_path, limits=limits).succeeded
    assert (tmp_path / "big").stat().st_size == 0


def test_long_output_keeps_its_end(python: Python, tmp_path: Path) -> None:
    """Of a long output the end is kept, and what was left out is told."""
    limits = CommandLimits(wall=timedelta(seconds=60), memory_mb=2048, log_kb=1)
    outcome = python("print('a' * 5000 + 'the end')", tmp_path, limits=limits)
    first, rest = outcome.output.split("\n", 1)
    assert first == f"[... {5008 - 1024} bytes left out ...]"
    assert rest.endswith("athe end\n")
    assert len(rest) == 1024


def test_output_that_is_no_text_is_kept(python: Python, tmp_path: Path) -> None:
    """Bytes that are no UTF-8 do no harm."""
    outcome = python("import sys; sys.stdout.buffer.write(b'\\xff\\x00ok')", tmp_path)
    assert outcome.succeeded
    assert outcome.output.endswith("ok")


CHILDREN = {
    "ends by itself": ("", 60),
    "is stopped": ("time.sleep(600)", 2),
}


@pytest.mark.parametrize(("then", "seconds"), CHILDREN.values(), ids=CHILDREN)
def test_nothing_of_the_group_is_left(python: Python, then: str, seconds: int, tmp_path: Path) -> None:
    """Children that a command leaves behind are gone when it has ended, by itself or at a limit."""
    mark = uuid.uuid4().hex
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', '{mark}'])\n"
        f"print(child.pid, flush=True)\n{then}"
    )
    limits = CommandLimits(wall=timedelta(seconds=seconds), memory_mb=2048, log_kb=64)
    assert int(python(code, tmp_path, limits=limits).output)
    deadline = time.monotonic() + 30
    while (left := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == []


def _marked(mark: str) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline", "status"])
    return [
        process
        for process in found
        if mark in (process.info["cmdline"] or ()) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.parametrize("confined", [pytest.param(True, marks=needs_bubblewrap), False])
def test_a_command_that_is_not_there_fails(confined: bool, tmp_path: Path) -> None:
    """A missing program is a failure that names it, with the exit code of a shell."""
    outcome = run(["no-such-program"], cwd=tmp_path, limits=ROOMY, confined=confined)
    assert (outcome.exit_code, outcome.output) == (127, "no-such-program: No such file or directory\n")


def test_a_command_that_is_killed_tells_the_signal(python: Python, tmp_path: Path) -> None:
    """A death by signal is a negative exit code."""
    assert python("import os; os.kill(os.getpid(), 11)", tmp_path).exit_code == -11


WAITS = "import time; print('started', flush=True); time.sleep(600)"


@pytest.mark.parametrize("confined", [pytest.param(True, marks=needs_bubblewrap), False])
def test_a_command_runs_beside_its_caller(confined: bool, tmp_path: Path) -> None:
    """It can be talked to through a socket that it was handed, and tells how it ended."""
    code = """
import socket, sys
with socket.socket(fileno=int(sys.argv[1])) as listener:
    caller, _ = listener.accept()
caller.sendall(b"for you")
"""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        (tmp_path / "place").mkdir()
        command, fd = [sys.executable, "-c", code, str(listener.fileno())], listener.fileno()
        with running(command, cwd=tmp_path / "place", limits=ROOMY, confined=confined, pass_fds=(fd,)) as process:
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(str(tmp_path / "socket"))
                assert caller.recv(100) == b"for you"
            outcome = process.outcome(timedelta(seconds=30))
    assert outcome is not None
    assert (outcome.succeeded, outcome.output) == (True, "")


def test_a_command_beside_its_caller_ends_with_the_block(tmp_path: Path) -> None:
    """What still runs when the caller is done, or fails, is gone."""
    mark = uuid.uuid4().hex
    with pytest.raises(ZeroDivisionError), running([sys.executable, "-c", WAITS, mark], cwd=tmp_path, limits=ROOMY):
        raise ZeroDivisionError
    assert _marked(mark) == []


def test_a_command_beside_its_caller_can_be_stopped(tmp_path: Path) -> None:
    """Stopped, it tells what it printed; until then it has no outcome."""
    code = "import pathlib; print('hello', flush=True); pathlib.Path('started').touch(); " + WAITS
    with running([sys.executable, "-c", code], cwd=tmp_path, limits=ROOMY) as process:
        deadline = time.monotonic() + 30
        while not (tmp_path / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.outcome(timedelta(0)) is None
        outcome = process.stop()
    assert (outcome.succeeded, outcome.limit, outcome.output[:6]) == (False, None, "hello\n")


def test_a_command_beside_its_caller_has_limits(tmp_path: Path) -> None:
    """Nobody has to wait for the limit: it stops the command, and is named."""
    limits = CommandLimits(wall=timedelta(seconds=1), memory_mb=2048, log_kb=64)
    with running([sys.executable, "-c", WAITS], cwd=tmp_path, limits=limits) as process:
        outcome = process.outcome(timedelta(seconds=30))
    assert outcome is not None
    assert outcome.limit == "wall time of 1 s"


def test_the_scrubbed_environment_is_a_list_of_what_may_pass() -> None:
    """Only named variables are inherited, and what the caller adds wins."""
    inherited = {"PATH": "/bin", "LANG": "C", "SECRET": "s", "TAXIWAY_SUPERVISED": "here", "TAXIWAY_STAGING_TOKEN": "t"}
    found = scrubbed_environment(Path("/private"), {"OMP_NUM_THREADS": "2"}, inherited=inherited)
    assert found["TAXIWAY_SUPERVISED"] == "here"
    assert (found["HOME"], found["TMPDIR"], found["OMP_NUM_THREADS"]) == ("/private", "/private", "2")
    assert not {"SECRET", "TAXIWAY_STAGING_TOKEN"} & set(found)


def test_the_network_environment_has_proxies_and_no_secret() -> None:
    """Proxies, certificates and uv's own settings pass; Taxiway's, Airflow's and cloud secrets do not."""
    passing = {"PATH": "/bin", "https_proxy": "p", "SSL_CERT_FILE": "c", "UV_INDEX_URL": "u", "HOME": "/h"}
    secrets = {"TAXIWAY_STAGING_TOKEN": "t", "AIRFLOW__CORE__FERNET_KEY": "k", "AWS_SECRET_ACCESS_KEY": "a"}
    assert network_environment(inherited=passing | secrets) == passing


def test_links_are_not_plain(tmp_path: Path) -> None:
    """A link in a result would show trusted code's files as the command's; a pipe would hold trusted code up."""
    results = {name: tmp_path / name for name in ("file", "link", "pipe", "folder", "missing")}
    results["file"].write_text("x")
    results["link"].symlink_to(tmp_path / "file")
    os.mkfifo(results["pipe"])
    results["folder"].mkdir()
    (results["folder"] / "deep").symlink_to("/")
    assert {name: is_plain(path) for name, path in results.items()} == {
        "file": True,
        "link": False,
        "pipe": False,
        "folder": False,
        "missing": False,
    }


def test_what_is_weaker_is_said() -> None:
    """Where bubblewrap does not work, its reason and what follows from it can be shown; else there is nothing."""
    problem = bubblewrap.problem()
    assert [text.startswith(str(problem)) for text in weaknesses()] == ([] if problem is None else [True])
