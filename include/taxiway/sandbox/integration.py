"""Serves a packaged model and runs a command beside it; runs with the model environment's python.

`integration.py MODEL COMMAND...` serves the model on a free loopback port with `serve.py`, the server of production,
gives the command MODEL_URL, and exits as the command does. Exit code 71: the model cannot be loaded; the end of stderr
says why. Both share one sandbox, because the loopback of a sandbox is its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DOES_NOT_LOAD = 71


def main() -> int:
    """Serve, run, stop; returns the exit code."""
    model, *command = sys.argv[1:]
    ready, announce = os.pipe()
    serve = [sys.executable, str(Path(__file__).with_name("serve.py")), "--model", model, "--port", "0"]
    server = subprocess.Popen([*serve, "--ready-file", f"/dev/fd/{announce}"], pass_fds=(announce,))
    os.close(announce)  # so that the pipe ends with the server
    try:
        with os.fdopen(ready) as announcement:
            url = announcement.readline().strip()
        if not url:
            return DOES_NOT_LOAD
        return subprocess.run(command, env={**os.environ, "MODEL_URL": url}, check=False).returncode
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
