"""A hostile model repository: what it tries fails or is stopped, and disturbs nobody."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from taxiway.stages import bubblewrap
from taxiway.stages.sandbox import CommandLimits, Outcome, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and namespaces are Linux's")
needs_bubblewrap = pytest.mark.skipif(bubblewrap.problem() is not None, reason=str(bubblewrap.problem()))
SECRET = "s3cret-of-the-installation"


@dataclass(frozen=True)
class Installation:
    """A state directory with a secret, beside the workspace of the hostile command."""

    home: Path
    workspace: Path

    def attack(self, code: str, *, confined: bool = True, **limits: object) -> Outcome:
        """Run the code as a command of a model repository."""
        bounds = {"wall": timedelta(seconds=60), "memory_mb": 1024, "log_kb": 16, **limits}
        return run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=self.workspace,
            limits=CommandLimits(**bounds),  # type: ignore[arg-type]
            extra_env={"STATE": str(self.home), "TRUSTED": str(os.getpid())},
            confined=confined,
        )


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """An installation with a secret in its state directory and in the environment of its processes."""
    home, workspace = tmp_path / "home", tmp_path / "home" / "cache" / "workspace"
    workspace.mkdir(parents=True)
    (home / "secrets.json").write_text(SECRET)
    monkeypatch.setenv("TAXIWAY_STAGING_TOKEN", SECRET)
    return Installation(home, workspace)


@pytest.fixture(params=[pytest.param(True, marks=needs_bubblewrap, id="bubblewrap"), pytest.param(False, id="without")])
def attack(request: pytest.FixtureRequest, installation: Installation) -> Callable[..., Outcome]:
    """Attacks that must fail with bubblewrap and without."""

    def attack(code: str, **limits: object) -> Outcome:
        return installation.attack(code, confined=request.param, **limits)

    return attack


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of this user, with a secret in its environment."""
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env={"TOKEN": SECRET}) as process:
        yield process
        process.kill()


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """A server on loopback, as MLflow is one."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(SECRET.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def left_behind(mark: str) -> list[psutil.Process]:
    """Return what still runs with the mark in its command line, after some patience."""
    deadline = time.monotonic() + 10
    while found := [process for process in psutil.process_iter(["cmdline"]) if is_marked(process, mark)]:
        if time.monotonic() > deadline:
            return found
        time.sleep(0.02)
    return []


def is_marked(process: psutil.Process, mark: str) -> bool:
    try:
        return mark in " ".join(process.info["cmdline"] or ()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_environment_holds_no_secret(attack: Callable[..., Outcome]) -> None:
    """Its own environment has nothing of ours."""
    outcome = attack("import os; print(dict(os.environ))")
    assert outcome.succeeded
    assert SECRET not in outcome.output


@needs_bubblewrap
def test_other_processes_cannot_be_seen(installation: Installation, victim: subprocess.Popen[bytes]) -> None:
    """No environment of a parent or another process of this user can be read, and none can be signalled."""
    outcome = installation.attack(
        f"""
        import glob, os
        for path in glob.glob("/proc/[0-9]*/environ"):
            try:
                print(path, open(path, "rb").read())
            except OSError as error:
                print(path, error)
        print(len(glob.glob("/proc/[0-9]*")), "processes")
        for pid in ({victim.pid}, int(os.environ["TRUSTED"])):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                print("not there")
        """
    )
    assert SECRET not in outcome.output
    assert "2 processes" in outcome.output  # the first of the namespace, and itself
    assert outcome.output.count("not there") == 2
    assert victim.poll() is None


@needs_bubblewrap
def test_the_state_directory_cannot_be_seen(installation: Installation) -> None:
    """Keys, secrets, gateways and the workspaces of other models do not exist for it, by no road."""
    other = installation.home / "cache" / "other-workspace"
    other.mkdir()
    (other / "rows.csv").write_text(SECRET)
    outcome = installation.attack(
        """
        import os
        home = os.environ["STATE"]
        for folder, _, files in os.walk(home):
            print(folder, files)
        os.symlink(home + "/secrets.json", "link")
        for path in (home + "/secrets.json", "../../secrets.json", "link", "/proc/1/root" + home + "/secrets.json"):
            try:
                print(open(path).read())
            except OSError as error:
                print(type(error).__name__)
        for path in ("/root", "/home", "/etc/shadow", "/var", "/run", "/mnt"):
            print(path, os.path.exists(path))
        """
    )
    assert SECRET not in outcome.output
    assert outcome.output.count("Error") == 4
    assert "secrets.json" not in outcome.output
    assert "other-workspace" not in outcome.output
    assert [line for line in outcome.output.splitlines() if line.endswith("True") and "/root" not in line] == []


@needs_bubblewrap
def test_loopback_servers_cannot_be_reached(installation: Installation, server: HTTPServer) -> None:
    """MLflow, Airflow and the gateways listen on loopback: the sandbox has a loopback of its own."""
    code = f"""
        import urllib.request
        print(urllib.request.urlopen("http://127.0.0.1:{server.server_port}", timeout=5).read())
        """
    outcome = installation.attack(code)
    assert SECRET in installation.attack(code, confined=False).output  # the server is there
    assert not outcome.succeeded
    assert "Connection refused" in outcome.output


@needs_bubblewrap
def test_the_network_cannot_be_reached(installation: Installation) -> None:
    """There is no way out: no interface but loopback, no route, no socket of the host's name space."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{uuid.uuid4().hex}")
        listener.listen()
        name = listener.getsockname()
        outcome = installation.attack(
            f"""
            import socket
            print([name for _, name in socket.if_nameindex()])
            for family, address in ((socket.AF_INET, ("192.0.2.1", 80)), (socket.AF_UNIX, {name!r})):
                try:
                    socket.socket(family).connect(address)
                    print("reached", address)
                except OSError as error:
                    print(error.strerror)
            """
        )
    assert outcome.output.splitlines() == ["['lo']", "Network is unreachable", "Connection refused"]


@needs_bubblewrap
def test_nothing_outside_of_the_workspace_can_be_written(installation: Installation) -> None:
    """Every place but the workspace, the private home and /tmp is read-only or not there; mounting is forbidden."""
    outcome = installation.attack(
        """
        import ctypes, os, pathlib, sys
        places = ["/", "/usr", "/usr/bin", "/etc", "/dev", "/proc", sys.base_prefix, sys.prefix]
        paths = [f"{place}/planted" for place in places]
        paths += ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/mtrr", "/proc/self/oom_score_adj"]
        for path in paths:
            try:
                open(path, "a").close()
                print("opened", path)
            except OSError:
                pass
        pathlib.Path(os.environ["STATE"], "planted").write_text("x")  # an empty folder of its own /tmp, or nothing
        libc = ctypes.CDLL(None, use_errno=True)
        print("mounted", libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))
        print("remounted", libc.mount(None, b"/usr", None, 32 | 4096, None))
        print("unshared", libc.unshare(0x10000000))
        pathlib.Path("result").write_text("x")
        pathlib.Path("/tmp/scratch").write_text("x")
        """
    )
    assert outcome.output.splitlines() == ["mounted -1", "remounted -1", "unshared -1"]
    assert outcome.succeeded
    assert [path.name for path in installation.workspace.iterdir()] == ["result"]
    assert not (installation.home / "planted").exists()
    assert not Path("/tmp/scratch").exists()  # noqa: S108 (its /tmp was its own)


def test_a_fork_bomb_is_stopped(attack: Callable[..., Outcome]) -> None:
    """More processes than allowed end all of them, and the limit is named."""
    mark = uuid.uuid4().hex
    outcome = attack(
        f"""
        import subprocess, sys, time
        sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(300)", "{mark}"]
        for number in range(80):  # a bomb of limited size
            subprocess.Popen(sleeper, start_new_session=number % 2 == 0)
        time.sleep(300)
        """,
        processes=30,
    )
    assert outcome.limit == "30 processes"
    assert left_behind(mark) == []


DISK = {
    "many files": "for n in itertools.count(): open(str(n), 'wb').write(b'x' * 1_000_000)",
    "home": "for n in itertools.count(): open(f'{os.environ[\"HOME\"]}/{n}', 'wb').write(b'x' * 1_000_000)",
    "deleted files": "for n in itertools.count(): f = open('x', 'wb', 0); os.unlink('x'); f.write(b'x' * 1_000_000); "
    "kept.append(f)",
    "files in memory": "for n in itertools.count(): f = os.memfd_create('x'); os.write(f, b'x' * 1_000_000)",
    "empty files": "for n in itertools.count(): open(str(n), 'wb').close()",
}


@pytest.mark.parametrize("code", DISK.values(), ids=DISK)
def test_the_disk_cannot_be_filled(attack: Callable[..., Outcome], code: str, installation: Installation) -> None:
    """Whatever it writes in whatever way is summed up, and at the limit it is stopped."""
    slowly = code.replace(": ", ": time.sleep(0.0005); ", 1)  # no faster than 2 GB/s, whatever this machine can
    outcome = attack(f"import itertools, os, time\nkept = []\n{slowly}", disk_mb=16)
    assert outcome.limit == "16 MB of disk"


@needs_bubblewrap
def test_shared_memory_is_bounded(installation: Installation) -> None:
    """Shared memory is private, and a part of the memory limit."""
    outcome = installation.attack("open('/dev/shm/x', 'wb').write(bytes(400_000_000))")
    assert "No space left on device" in outcome.output
    assert not outcome.succeeded


def test_a_huge_log_keeps_only_its_end(attack: Callable[..., Outcome]) -> None:
    """An output of 200 MB is neither stored nor printed; its end is."""
    outcome = attack("for _ in range(200): print('x' * 1_000_000)\nprint('the end')", disk_mb=64)
    assert outcome.succeeded
    assert outcome.output.endswith("the end\n")
    assert len(outcome.output) < 17_000


def test_a_log_without_end_ends_with_the_wall_time(attack: Callable[..., Outcome]) -> None:
    """Output that never ends holds nobody up."""
    outcome = attack("while True: print('x' * 10_000)", wall=timedelta(seconds=1))
    assert outcome.limit == "wall time of 1 s"


DAEMON = """
import os, subprocess, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for descriptor in range(3, 64):
            try:
                os.close(descriptor)
            except OSError:
                pass
        if {quiet}:
            null = os.open("/dev/null", os.O_RDWR)
            for standard in range(3):
                os.dup2(null, standard)
        os.execve(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(300)", "{mark}"], dict())
    os._exit(0)
os.wait()
{then}
"""


@pytest.mark.parametrize("then", ["", "time.sleep(300)", "os.kill(os.getpid(), 9)"], ids=["ends", "hangs", "dies"])
@pytest.mark.parametrize("quiet", [True, False], ids=["quiet", "holding the output"])
def test_a_daemon_does_not_stay(attack: Callable[..., Outcome], then: str, quiet: bool) -> None:
    """A process that left its group, its parent and its environment ends with the command all the same."""
    mark = uuid.uuid4().hex
    started = time.monotonic()
    outcome = attack(DAEMON.format(mark=mark, then=then, quiet=quiet), wall=timedelta(seconds=2))
    assert time.monotonic() - started < 100  # nobody waited for the daemon
    assert outcome.limit == ("wall time of 2 s" if "sleep" in then else None)
    assert left_behind(mark) == []


def test_cpu_time_is_summed_over_processes(attack: Callable[..., Outcome]) -> None:
    """Many short processes may not use more than one long one."""
    outcome = attack(
        """
        import subprocess, sys
        while True:
            subprocess.run([sys.executable, "-S", "-c", "for _ in range(5_000_000): pass"])
        """,
        cpu=timedelta(seconds=2),
    )
    assert outcome.limit == "CPU time of 2 s"


def test_memory_is_summed_over_processes(attack: Callable[..., Outcome]) -> None:
    """Each process is small, all together are not: the limit is theirs together."""
    outcome = attack(
        """
        import os, time
        for _ in range(8):
            if os.fork() == 0:
                data = b"x" * 60_000_000
                time.sleep(300)
        time.sleep(300)
        """,
        memory_mb=256,
    )
    assert outcome.limit == "256 MB of memory"


def test_memory_that_is_shared_counts_once(attack: Callable[..., Outcome]) -> None:
    """Workers that read what their parent has loaded do not use it up again."""
    outcome = attack(
        """
        import os, time
        data = b"x" * 100_000_000
        workers = [os.fork() for _ in range(4)] if os.getpid() else []
        time.sleep(1)
        """,
        memory_mb=512,
    )
    assert outcome.limit is None


@needs_bubblewrap
def test_the_command_ends_with_who_started_it(installation: Installation) -> None:
    """When the task process is killed, nothing of the model repository goes on."""
    mark = uuid.uuid4().hex
    code = f"""
        import sys, time
        from datetime import timedelta
        from pathlib import Path
        from taxiway.stages.sandbox import CommandLimits, run
        child = "import time, pathlib; pathlib.Path('started').touch(); time.sleep(300)"
        limits = CommandLimits(wall=timedelta(seconds=300), memory_mb=1024, log_kb=1)
        run([sys.executable, "-c", child, "{mark}"], cwd=Path({str(installation.workspace)!r}), limits=limits)
        """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(installation.home)}
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=environment) as task:
        deadline = time.monotonic() + 30
        while not (installation.workspace / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (installation.workspace / "started").exists()
        task.kill()
    assert left_behind(mark) == []
