"""The command line: `taxiway up | down | status | doctor | validate | rollback | demo`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from taxiway.bootstrap import PROJECT
from taxiway.errors import TaxiwayError

app = typer.Typer(
    help="Take a machine-learning model from a Git commit to production, and keep it good there.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
errors = Console(stderr=True)

Home = Annotated[
    Path,
    typer.Option(
        "--home",
        envvar="TAXIWAY_HOME",
        help="where everything of this installation is kept",
        show_default=".taxiway in the project",
    ),
]
Models = Annotated[Path | None, typer.Option("--models", help="the directory of model specs", show_default=False)]
_HOME = PROJECT / ".taxiway"


@app.command()
def up(
    home: Home = _HOME,
    airflow_port: Annotated[int | None, typer.Option(help="default 8080", show_default=False)] = None,
    mlflow_port: Annotated[int | None, typer.Option(help="default 5000", show_default=False)] = None,
    staging_port: Annotated[int | None, typer.Option(help="default 7001", show_default=False)] = None,
    production_port: Annotated[int | None, typer.Option(help="default 7002", show_default=False)] = None,
    models: Models = None,
    detach: Annotated[bool, typer.Option("--detach", help="return once everything is ready")] = False,
) -> None:
    """Start everything on this machine: Airflow, MLflow, the staging and the production gateway."""
    from taxiway.supervisor.display import StartDisplay
    from taxiway.supervisor.installation import Installation
    from taxiway.supervisor.launch import start_attached, start_detached
    from taxiway.supervisor.state import is_supervised

    with _reported():
        installation = Installation.load(home)
        start = start_detached if detach else start_attached
        if is_supervised(installation.run):
            console.print("Taxiway is already up; options of this command change nothing before `taxiway down`.")
            start = start_detached
        else:
            installation = installation.changed(
                models=models,
                airflow=airflow_port,
                mlflow=mlflow_port,
                staging=staging_port,
                production=production_port,
            )
            installation.save()
        with StartDisplay(console, installation) as display:
            start(installation, os.environ, display)


@app.command()
def down(home: Home = _HOME) -> None:
    """Stop everything; nothing is lost."""
    from taxiway.supervisor.installation import Installation
    from taxiway.supervisor.launch import stop

    with _reported():
        stopped = stop(Installation.load(home))
    if stopped.supervised:
        console.print("Taxiway is down.")
    else:
        left = f"ended {stopped.swept} processes that were left behind" if stopped.swept else "nothing to stop"
        console.print(f"Taxiway was not up: {left}.")


@app.command()
def status(
    home: Home = _HOME,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
    secrets: Annotated[bool, typer.Option("--secrets", help="show who can log in to Airflow, with passwords")] = False,
) -> None:
    """Show what runs, where, and what serves; exit with 1 when something is down."""
    from taxiway.supervisor.installation import Installation
    from taxiway.supervisor.status import collect
    from taxiway.supervisor.status_view import print_logins, print_status

    with _reported():
        installation = Installation.load(home)
        if secrets:
            print_logins(installation, console)
            return
        found = collect(installation, os.environ)
    if as_json:
        typer.echo(json.dumps({"up": found.is_up, **asdict(found)}, indent=2))
    else:
        print_status(found, installation, console)
    raise typer.Exit(0 if found.is_up else 1)


@app.command()
def doctor(
    home: Home = _HOME,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Say what is wrong or weaker and what to do next; exit with 1 when something is wrong."""
    from taxiway.supervisor.doctor import examine
    from taxiway.supervisor.doctor_view import print_diagnosis
    from taxiway.supervisor.installation import Installation

    with _reported():
        found = examine(Installation.load(home), os.environ)
    if as_json:
        typer.echo(json.dumps({"well": found.is_well, **asdict(found)}, indent=2))
    else:
        print_diagnosis(found, console)
    raise typer.Exit(0 if found.is_well else 1)


@app.command()
def validate(home: Home = _HOME, models: Models = None) -> None:
    """Check every model spec; name every problem, and exit with 1 when there is one."""
    from taxiway.spec_files import load_specs
    from taxiway.supervisor.installation import Installation

    with _reported():
        installation = Installation.load(home).changed(models=models)
        found = load_specs(installation.models, {"TAXIWAY_HOME": str(installation.home)})
    for problem in found.problems:
        errors.print(str(problem), highlight=False, markup=False, soft_wrap=True)
    good = f"{len(found.specs)} valid: {', '.join(found.specs) or 'none'}"
    console.print(good, highlight=False)
    raise typer.Exit(1 if found.problems else 0)


@app.command()
def rollback(
    model: Annotated[str, typer.Argument(help="the model, as its spec is called", show_default=False)],
    reason: Annotated[str, typer.Option(help="why; kept as evidence", show_default=False)],
    to: Annotated[int | None, typer.Option(min=1, help="default: the previous champion", show_default=False)] = None,
    by: Annotated[str | None, typer.Option(help="default: this system's user", show_default=False)] = None,
    home: Home = _HOME,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Put production back on an earlier version, at once, even while Airflow and MLflow are down."""
    from taxiway.stages.rollback import Order
    from taxiway.supervisor.installation import Installation
    from taxiway.supervisor.rollback_command import print_outcome, roll_back, this_user

    with _reported():
        done = roll_back(Installation.load(home), os.environ, model, Order(by or this_user(), reason, to))
    if as_json:
        typer.echo(json.dumps(done.to_json(), indent=2))
    else:
        print_outcome(model, done, console)


@app.command()
def demo(
    home: Home = _HOME,
    interactive: Annotated[bool, typer.Option("--interactive", help="sign off and approve in the browser")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="empty the demo's installation and start over")] = False,
) -> None:
    """Tell the story of a model's year on this machine: commit, delivery, monitoring, retraining, rollback."""
    from taxiway.demo.run import run
    from taxiway.supervisor.installation import Installation

    with _reported():
        run(Installation.load(home), os.environ, interactive=interactive, fresh=fresh, console=console)


def main() -> None:
    """Run the command line."""
    app()


@contextmanager
def _reported() -> Iterator[None]:
    """Print an error of Taxiway as one message and exit with 1."""
    try:
        yield
    except TaxiwayError as error:
        errors.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(1) from error
