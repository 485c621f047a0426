"""Prints for people what the doctor found."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from taxiway.supervisor.doctor import Diagnosis

_COLOURS = {"wrong": "red", "weaker": "yellow"}


def print_diagnosis(diagnosis: Diagnosis, console: Console) -> None:
    """Print what is wrong first, then what is weaker, each with what to do next; at the end one line that sums up."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for column in ("severity", "about", "what"):
        table.add_column(column, overflow="fold", no_wrap=column == "severity")
    for severity, colour in _COLOURS.items():
        for finding in diagnosis.findings:
            if finding.severity == severity:
                advice = f"\n[dim]Next: {escape(finding.next_step)}[/]" if finding.next_step else ""
                table.add_row(f"[{colour}]{severity}[/]", escape(finding.about), escape(finding.what) + advice)
    if table.row_count:
        console.print(table)
    console.print(_summary(diagnosis), highlight=False)


def _summary(diagnosis: Diagnosis) -> str:
    bad = sum(finding.severity == "wrong" for finding in diagnosis.findings)
    rest = len(diagnosis.findings) - bad
    if bad:
        return f"{bad} {'thing is' if bad == 1 else 'things are'} wrong."
    return f"Nothing is wrong{f'; {rest} could be stronger' if rest else ''}."
