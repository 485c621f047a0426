"""Shows a replay in the terminal: how far it is, and the summary."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from taxiway.bootstrap import Services
from taxiway.traffic.pace import Answer, Pace
from taxiway.traffic.replay import Replay, replay_rows, rows_of
from taxiway.traffic.tally import Summary

if TYPE_CHECKING:
    import pandas as pd


def run(replay: Replay, services: Services, pace: Pace, console: Console) -> Summary:
    """Replay with progress on the console; Ctrl-C ends it early, with the figures until then."""
    frame = rows_of(replay, services)
    if not console.is_terminal:
        console.print(f"sending {len(frame)} rows of {replay.spec.model} to {replay.environment}", highlight=False)
    return asyncio.run(_shown(replay, frame, services, pace, console))


def print_summary(summary: Summary, console: Console) -> None:
    """Print what was sent and what came back."""
    failures = ", ".join(f"{count} x {outcome}" for outcome, count in summary.failures.items())
    versions = ", ".join(f"version {version}: {count}" for version, count in summary.answers_by_version.items())
    lines = {
        "requests": f"{summary.requests} in {summary.seconds:g} s ({summary.rate:g} a second)",
        "failed": f"{summary.failed}{f' ({failures})' if failures else ''}",
        "rows": f"{summary.rows} answered",
        "answers": versions or "none",
        "latency": f"p50 {summary.p50_ms:g} ms, p99 {summary.p99_ms:g} ms",
    }
    for name, text in lines.items():
        console.print(f"{name:<9} {text}", highlight=False)


async def _shown(replay: Replay, frame: pd.DataFrame, services: Services, pace: Pace, console: Console) -> Summary:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        endless = replay.loop or pace.duration is not None
        task = progress.add_task(f"{replay.spec.model}: rows sent", total=None if endless else len(frame))

        def hear(answer: Answer) -> None:
            progress.advance(task, answer.rows)

        return await replay_rows(replay, frame, services, pace, hear=hear, stop=stop)
