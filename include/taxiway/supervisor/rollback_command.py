"""`taxiway rollback`: production back on an earlier version, with nothing but the gateway when it must be."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape

from taxiway.errors import PermanentError
from taxiway.stages.rollback import Order, Outcome
from taxiway.supervisor.clients import open_services
from taxiway.supervisor.installation import Installation


def roll_back(installation: Installation, inherited: Mapping[str, str], model: str, order: Order) -> Outcome:
    """Carry out the order; neither Airflow nor MLflow have to run.

    Raises SettingsError without an installation, NotFoundError for an unknown model, and what a rollback raises.
    """
    if not order.reason.strip():
        raise PermanentError("a rollback needs a reason: it is kept as evidence", next_step="say why with --reason.")
    services = open_services(installation, inherited)
    return services.rollbacks(services.spec(model)).roll_back(order)


def this_user() -> str:
    """Return the name of the operating system's user; its number when it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def print_outcome(model: str, done: Outcome, console: Console) -> None:
    """Print what was done, where that is recorded, and what else a person should know."""
    if done.left == done.to:
        what = f"{model}: production serves version {done.to} alone, as before; no rollout moves its traffic any more"
    else:
        left = "nothing" if done.left is None else f"version {done.left}"
        what = f"{model}: production went from {left} to version {done.to} in {done.seconds:.1f} s"
    console.print(f"{escape(what)}.", soft_wrap=True, highlight=False)
    if done.recorded:
        console.print(f"Evidence: {escape(done.evidence)}", soft_wrap=True, highlight=False)
    else:
        late = "It is not recorded in MLflow yet. That is made good before anything else moves traffic of this model."
        console.print(f"[yellow]{late}[/]\nThe order: {escape(done.evidence)}", soft_wrap=True, highlight=False)
    for problem in done.problems:
        console.print(f"[yellow]Note:[/] {escape(problem)}", soft_wrap=True, highlight=False)
