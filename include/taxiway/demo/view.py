"""The live view of the demo: chapters with their seconds, and the tasks of the run that is under way."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_STYLES = {
    "success": "green",
    "failed": "bold red",
    "upstream_failed": "red",
    "running": "bold yellow",
    "deferred": "magenta",
    "skipped": "dim",
    "up_for_retry": "yellow",
}


_ENDED = ("success", "failed", "skipped")


class View:
    """Shows the story; on a terminal it is redrawn in place, elsewhere finished lines are printed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._chapter = ""
        self._started = 0.0
        self._run = ""
        self._tasks: dict[str, str] = {}
        self._traffic = ""
        # The first picture is drawn while Live is made.
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def __enter__(self) -> View:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live.is_started:
            self._live.stop()

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        """Show a chapter while it is told; a finished one leaves a line with its seconds."""
        self._chapter, self._started = title, time.monotonic()
        if not self._console.is_terminal:
            self._console.print(f"... {title}")
        yield
        self._console.print(f"[green]✓[/] {title} [dim]{time.monotonic() - self._started:.0f} s[/]")
        self._chapter, self._run, self._tasks, self._traffic = "", "", {}, ""

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(f"  {text}", markup=False, highlight=False)

    def show_run(self, name: str, tasks: Mapping[str, str]) -> None:
        """Show the states of a run's tasks by task id; without a terminal each change is a line."""
        changed = {task: state for task, state in tasks.items() if self._tasks.get(task) != state}
        self._run, self._tasks = name, dict(tasks)
        if changed and not self._console.is_terminal:
            shown = ", ".join(f"{task} {state}" for task, state in changed.items() if state in _ENDED)
            if shown:
                self._console.print(f"    {shown}", style="dim", highlight=False)

    def show_traffic(self, text: str) -> None:
        """Show who answers what right now, where it can be redrawn."""
        self._traffic = text

    def _render(self) -> RenderableType:
        if not self._chapter:
            return Text("")
        title = Spinner("dots", text=Text(f"{self._chapter}  {time.monotonic() - self._started:.0f} s", style="bold"))
        if not self._tasks:
            return title
        table = Table.grid(padding=(0, 2))
        for task, state in self._tasks.items():
            table.add_row("   ", task, Text(state or "waiting", style=_STYLES.get(state, "dim")))
        return Group(title, Text(f"   {self._run}", style="dim"), table, Text(f"   {self._traffic}", style="cyan"))
