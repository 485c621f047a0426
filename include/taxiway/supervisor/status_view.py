"""Prints the status of an installation for people."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from taxiway.supervisor.airflow_environment import read_logins
from taxiway.supervisor.credentials import role_of
from taxiway.supervisor.display import address_table, program_table
from taxiway.supervisor.installation import Installation
from taxiway.supervisor.status import ModelStatus, Status


def print_status(status: Status, installation: Installation, console: Console) -> None:
    """Print programs, addresses and models."""
    if not status.supervised:
        console.print(f"Taxiway is down ({installation.home}); `taxiway up` starts it.", highlight=False)
        return
    console.print(program_table(status.programs))
    console.print(address_table(installation))
    for weakness in status.weaknesses:
        console.print(f"[yellow]weaker[/] {escape(weakness)}", highlight=False)
    for name, model in status.models.items():
        console.print(_model_table(name, model))


def print_logins(installation: Installation, console: Console) -> None:
    """Print every user of Airflow with role and password; raises SettingsError when there was no `up` before."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("user", "role", "password"):
        table.add_column(heading, overflow="fold")
    for name, password in read_logins(installation).items():
        table.add_row(escape(name), role_of(name), escape(password))
    console.print(table)


def _model_table(name: str, model: ModelStatus) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, title=f"\n{name}", title_justify="left")
    aliases = ", ".join(f"{alias} is version {version}" for alias, version in model.aliases.items())
    states = ", ".join(f"version {version} {state.replace('_', ' ')}" for version, state in model.states.items())
    table.add_row("aliases", aliases or "none")
    table.add_row("newest", states or "no versions")
    for environment, text in model.serving.items():
        table.add_row(environment, f"serves {text}")
    for run in model.runs:
        started = f" since {run.started_at[:16].replace('T', ' ')} UTC" if run.started_at else ""
        table.add_row(run.dag.removeprefix(f"{name}."), escape(f"{run.run_id} {run.state}{started}"))
    for problem in model.problems:
        table.add_row("[red]problem[/]", escape(problem))
    return table
