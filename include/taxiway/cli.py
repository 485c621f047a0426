"""The command line: `taxiway up | down | reload | status | doctor | validate | rollback | replay | demo`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
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
_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


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
def reload(
    environment: Annotated[str, typer.Argument(help="staging or production")],
    home: Home = _HOME,
) -> None:
    """Exchange a gateway's process without a failed request, for example after an update."""
    from taxiway.supervisor.installation import Installation
    from taxiway.supervisor.launch import reload

    with _reported():
        seconds = reload(Installation.load(home), environment)
    console.print(f"The gateway of {environment} runs in a new process after {seconds:.1f} s.")


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
def replay(  # noqa: PLR0913 (each is an option of the command)
    model: Annotated[str, typer.Argument(help="the model's name")],
    home: Home = _HOME,
    environment: Annotated[str, typer.Option(help="where to send the rows")] = "production",
    start: Annotated[datetime | None, typer.Option("--from", formats=_DATES, help="first day of data (UTC)")] = None,
    end: Annotated[datetime | None, typer.Option("--to", formats=_DATES, help="end of the data, exclusive")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="how many rows at most")] = None,
    rate: Annotated[float | None, typer.Option(min=0.01, help="requests a second", show_default="as answered")] = None,
    batch: Annotated[int, typer.Option(min=1, help="rows in a request")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, help="requests at a time, at most")] = 8,
    loop: Annotated[bool, typer.Option("--loop", help="begin again with the first row until Ctrl-C")] = False,
    duration: Annotated[float | None, typer.Option(min=0.1, help="send for so many seconds, over and over")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Send rows of a model's dataset as traffic (the newest week without --from); exit with 1 when requests fail."""
    from taxiway.supervisor.clients import open_services
    from taxiway.supervisor.installation import Installation
    from taxiway.traffic.pace import Pace
    from taxiway.traffic.replay import Replay
    from taxiway.traffic.view import print_summary, run

    with _reported():
        services = open_services(Installation.load(home), os.environ)
        first, last = (moment and moment.replace(tzinfo=UTC) for moment in (start, end))
        again = loop or duration is not None
        wanted = Replay(services.spec(model), environment, first, last, rows, batch, again)
        summary = run(wanted, services, Pace(rate, concurrency, duration), errors if as_json else console)
    if as_json:
        typer.echo(json.dumps(summary.to_json(), indent=2))
    else:
        print_summary(summary, console)
    raise typer.Exit(1 if summary.failed else 0)


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


if __name__ == "__main__":
    main()
