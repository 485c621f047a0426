"""Runs the demo: brings everything up, tells the story from where it stopped, and shows the summary."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping

from rich.console import Console

from taxiway.bootstrap import Services
from taxiway.demo.journal import Journal
from taxiway.demo.months import MODEL, MONTHS
from taxiway.demo.people import People
from taxiway.demo.story import Story
from taxiway.demo.summary import Addresses, frozen_scores, show
from taxiway.demo.view import View
from taxiway.errors import SettingsError
from taxiway.stages.golden import GOLDEN
from taxiway.supervisor.clients import open_airflow, open_services
from taxiway.supervisor.display import StartDisplay
from taxiway.supervisor.installation import Installation
from taxiway.supervisor.launch import start_detached, stop

_JOURNAL = "story.json"


def run(
    installation: Installation, environ: Mapping[str, str], *, interactive: bool, fresh: bool, console: Console
) -> None:
    """Tell the story to its end; a story that was told already is shown again from its journal.

    With `fresh` the installation is stopped and emptied first. Raises what its chapters raise.
    """
    if fresh:
        _empty(installation)
    installation.save()
    with StartDisplay(console, installation) as display:
        start_detached(installation, environ, display)
    services = open_services(installation, environ)
    journal = Journal(installation.home / "demo" / _JOURNAL)
    told_before = "rollback" in journal
    with View(console) as view:
        _story(installation, services, journal, view, interactive=interactive).tell()
        if "frozen" not in journal:
            with view.chapter("The first model, frozen, is scored on every month"):
                first = journal["ci_first"]["version"]
                journal.finish("frozen", frozen_scores(services, services.spec(MODEL), first))
    if told_before:
        console.print("The story was told before; `make demo FRESH=1` starts it over.")
    show(console, services, services.spec(MODEL), journal, _addresses(installation, services, journal))


def _story(installation: Installation, services: Services, journal: Journal, view: View, *, interactive: bool) -> Story:
    spec = services.spec(MODEL)
    names = {*spec.uat.testers, *spec.approval.approvers}
    people = People(
        spec=spec,
        api=open_airflow(installation),
        logins={name: open_airflow(installation, name) for name in sorted(names)},
        view=view,
        interactive=interactive,
    )
    return Story(services, spec, people, journal, view)


def _addresses(installation: Installation, services: Services, journal: Journal) -> Addresses:
    watched = journal[f"watch_{MONTHS[-1]}"]
    request = installation.home / "demo" / "request.json"
    golden = services.registry.get_json(watched["run_id"], GOLDEN)
    request.write_text(json.dumps({"dataframe_split": golden["inputs"]}))
    return Addresses(
        airflow=installation.url("airflow"),
        mlflow=installation.url("mlflow"),
        production=installation.url("production"),
        report=services.registry.page(watched["run_id"], watched["report"]),
        request=request,
    )


def _empty(installation: Installation) -> None:
    """Stop the installation and remove its state; only one that the demo made, with no other model in it."""
    home = installation.home
    if not home.exists():
        return
    if not (home / "demo").exists():
        raise SettingsError(
            "this installation was not made by the demo, so FRESH=1 does not empty it",
            where=str(home),
            next_step="choose another --home.",
        )
    stop(installation)
    for entry in home.iterdir():
        if entry.name != "cache":  # downloads and environments are the same in a fresh story
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
