"""What other processes ask of the supervisor: names of programs to exchange, through a named pipe.

Not a signal: one that a supervisor of another version does not know would end it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from taxiway.errors import SettingsError

_PIPE = "orders"
_MOST = 4096  # bytes; a shorter line is written and read whole


@contextmanager
def orders(run: Path, carry_out: Callable[[str], None]) -> Iterator[None]:
    """Hear what is ordered during the block; belongs to the running event loop."""
    path = run / _PIPE
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # also a writer, so that the pipe never ends

    def hear() -> None:
        for name in os.read(descriptor, _MOST).decode(errors="replace").split():
            carry_out(name)

    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, hear)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        path.unlink(missing_ok=True)


def order_exchange(run: Path, program: str) -> None:
    """Ask the supervisor to exchange the program's process; raises SettingsError when it does not listen."""
    try:
        descriptor = os.open(run / _PIPE, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        raise SettingsError(
            "the supervisor does not listen to orders",
            where=str(run / _PIPE),
            next_step="it may be of another version: `taxiway down`, then `taxiway up`.",
        ) from error
    with os.fdopen(descriptor, "wb", buffering=0) as pipe:
        pipe.write(f"{program}\n".encode())
