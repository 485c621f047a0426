"""Finds and ends the processes of an installation by the mark that they inherit.

Every child of the supervisor gets TAXIWAY_SUPERVISED=<absolute home> in its environment, and so does everything
that it starts. The mark survives whatever a process does to its group, session or parent.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from pathlib import Path

import psutil

from taxiway.errors import SettingsError
from taxiway.supervisor.installation import HOST

MARK = "TAXIWAY_SUPERVISED"
_ROUNDS = 5
_BACKLOG = 1024  # connections that wait while nobody accepts them


def marked(home: Path) -> list[psutil.Process]:
    """Return the processes of the installation, without this process and its ancestors."""
    this = psutil.Process()
    spared = {this.pid, *(parent.pid for parent in this.parents())}
    return [process for process in psutil.process_iter() if process.pid not in spared and _has_mark(process, home)]


def sweep(home: Path, *, patience: float = 5.0) -> int:
    """End every process of the installation: TERM, then KILL after `patience` seconds; return how many there were."""
    return _end(lambda: marked(home), patience)


def sweep_orphans(home: Path, keep: Collection[int]) -> int:
    """Kill the processes of the installation that descend from none of the kept pids; return how many."""
    return _end(lambda: [process for process in marked(home) if not _descends(process, keep)], patience=0.0)


def port_owner(port: int) -> str | None:
    """Return who listens on the loopback port (`a process` when that cannot be told), or None when it is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return _listener(port) or "a process"
    return None


def listen(port: int) -> socket.socket:
    """Return a socket that listens on the loopback port; raises SettingsError when it is taken."""
    try:
        return socket.create_server((HOST, port), backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError(f"port {port} is taken by {_listener(port) or 'a process'}") from error


def _end(find: Callable[[], list[psutil.Process]], patience: float) -> int:
    """Repeat until nothing is found: a process may start another one while it is ended."""
    ended: set[int] = set()
    for _ in range(_ROUNDS):
        found = find()
        if not found:
            break
        ended |= {process.pid for process in found}
        if patience:
            _each(found, psutil.Process.terminate)
            _, found = psutil.wait_procs(found, timeout=patience)
        _each(found, psutil.Process.kill)
        psutil.wait_procs(found, timeout=5)
    return len(ended)


def _each(processes: list[psutil.Process], action: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        try:
            action(process)
        except psutil.NoSuchProcess:
            continue  # it has ended by itself


def _has_mark(process: psutil.Process, home: Path) -> bool:
    try:
        return process.environ().get(MARK) == str(home) and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False  # gone, or another user's: not ours


def _descends(process: psutil.Process, pids: Collection[int]) -> bool:
    try:
        return process.pid in pids or any(parent.pid in pids for parent in process.parents())
    except psutil.NoSuchProcess:
        return True  # gone meanwhile: nothing to end


def _listener(port: int) -> str | None:
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return None
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.Error:
                return f"pid {connection.pid}"
    return None
