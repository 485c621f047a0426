"""Shows on the terminal how the installation starts, and where to find everything once it is up."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from taxiway.supervisor.installation import Installation
from taxiway.supervisor.state import ProgramState, SupervisorState

_COLOURS = {
    "ready": "green",
    "done": "green",
    "starting": "yellow",
    "waiting": "dim",
    "down": "red",
    "stopping": "yellow",
    "stopped": "dim",
}


class StartDisplay:
    """A live table on a terminal, elsewhere a line per program; once everything is ready, the addresses."""

    def __init__(self, console: Console, installation: Installation) -> None:
        self._console = console
        self._installation = installation
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._said: set[str] = set()
        self._is_up = False
        self._is_stopping = False

    def __enter__(self) -> StartDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, state: SupervisorState) -> None:
        """Show the state; lines that were printed before are not repeated."""
        if self._live:
            self._live.update(program_table(state.programs), refresh=True)
        else:
            self._print_news(state)
        if state.phase == "running" and not self._is_up:
            self._is_up = True
            self._finish(state)
        if state.phase == "stopping" and not self._is_stopping:
            self._is_stopping = True
            self._console.print("Stopping; a second Ctrl-C does not wait for what is still running.")

    def _print_news(self, state: SupervisorState) -> None:
        for name, program in state.programs.items():
            line = f"{name}: {program.phase} {_figure(program)}".strip()
            if program.phase in ("ready", "done", "down") and line not in self._said:
                self._said.add(line)
                self._console.print(line, highlight=False)

    def _finish(self, state: SupervisorState) -> None:
        """Replace the live table by the final one; from here on only news are printed."""
        if self._live:
            self._live.stop()
            self._live = None
            self._console.print(program_table(state.programs))
            self._said = {
                f"{name}: {program.phase} {_figure(program)}".strip() for name, program in state.programs.items()
            }
        self._console.print(address_table(self._installation))


def program_table(programs: Mapping[str, ProgramState]) -> Table:
    """Return the programs as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("program", "state", "pid", "restarts", ""):
        table.add_column(heading, overflow="fold")
    for name, program in programs.items():
        colour = _COLOURS[program.phase]
        table.add_row(
            name,
            f"[{colour}]{program.phase}[/]",
            str(program.pid or ""),
            str(program.restarts or ""),
            _figure(program),
        )
    return table


def address_table(installation: Installation) -> Table:
    """Return where everything is and how to log in, without any password."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, text in (
        ("Airflow", f"{installation.url('airflow')}  (pipelines, sign-offs, approvals)"),
        ("MLflow", f"{installation.url('mlflow')}  (candidates and their evidence)"),
        ("staging", installation.url("staging")),
        ("production", installation.url("production")),
        ("log in", "`taxiway status --secrets` shows the users and their passwords"),
        ("logs", str(installation.home / "logs")),
    ):
        table.add_row(f"[bold]{name}[/]", text)
    return table


def _figure(program: ProgramState) -> str:
    if program.phase in ("ready", "done") and program.seconds is not None:
        return f"after {program.seconds:g} s"
    if program.phase == "waiting" and program.detail:
        return f"for {program.detail}"
    return program.detail
