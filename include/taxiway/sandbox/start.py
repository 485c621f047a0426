"""Starts a command under limits; the first process inside a sandbox, run with Taxiway's own python.

    start.py (exec | reap) [NAME=VALUE ...] -- COMMAND...

NAME=VALUE are limits of the kernel (AS, CORE, CPU, FSIZE, NPROC; see setrlimit(2)). `exec` becomes the command. `reap`
stays its parent, adopts what it leaves behind, kills that at the end, and exits as a shell would: 128 + signal.
Standard library only.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_NOT_FOUND = 127


def main() -> int:
    """Limit and start; returns the exit code when the command could not be started, or has been waited for."""
    mode, *arguments = sys.argv[1:]
    end = arguments.index("--")
    limits, command = arguments[:end], arguments[end + 1 :]
    return _start(limits, command) if mode == "exec" else _reap(limits, command)


def _start(limits: list[str], command: list[str]) -> int:
    for limit in limits:
        name, _, value = limit.partition("=")
        kind = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(kind)
        wanted = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        resource.setrlimit(kind, (wanted, wanted))
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, and what is ignored stays so
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 (no shell is wanted)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        return _NOT_FOUND


def _reap(limits: list[str], command: list[str]) -> int:
    _control(_PR_SET_CHILD_SUBREAPER, 1)
    _control(_PR_SET_PDEATHSIG, signal.SIGKILL)
    child = os.fork()
    if child == 0:
        _control(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os._exit(_start(limits, command))
    ended = 0
    while ended != child:
        ended, status = os.wait()
    while orphans := _children():
        for orphan in orphans:
            with suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.wait()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _control(option: int, value: int) -> None:
    """Call prctl(2), which only Linux has."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(option, value)


def _children() -> list[int]:
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


if __name__ == "__main__":
    sys.exit(main())
