"""The story that `make demo` tells: a model's year from its first commit to a rollback, on real flights.

Each chapter is told once: its result is kept in the journal, and what a chapter starts is started by name, so a demo
that was stopped half-way goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from taxiway.bootstrap import Services
from taxiway.demo import commits
from taxiway.demo.flights import arrive
from taxiway.demo.journal import Journal
from taxiway.demo.months import FIRST_DATA, MODEL, MONTHS, month_name, month_window
from taxiway.demo.people import Followed, People
from taxiway.demo.view import View
from taxiway.domain.values import CHAMPION
from taxiway.errors import DeliveryStopped
from taxiway.spec import ModelSpec
from taxiway.traffic.pace import Answer, Pace
from taxiway.traffic.replay import Replay, replay_rows, rows_of

_BATCH_ROWS = 1000


@dataclass(slots=True)
class Story:
    """Everything that the chapters need."""

    services: Services
    spec: ModelSpec
    people: People
    journal: Journal
    view: View

    def tell(self) -> None:
        """Tell every chapter that was not told yet."""
        self._chapter("data", "January to March arrive as data", self._first_data)
        self._chapter("commit", "A data scientist pushes the first commit", self._push_first)
        self._chapter("ci_first", "The push is noticed: continuous integration", lambda: self._build("commit"))
        self._chapter("delivery_first", "Staging, sign-offs, approval, production", lambda: self._deliver("ci_first"))
        self._chapter("docs_commit", "A commit that only explains the model is pushed", self._push_explanation)
        self._chapter("ci_docs", "It is noticed, and delivers nothing", self._nothing_to_deliver)
        for month in MONTHS:
            self._month(month)
        self._chapter("bad_commit", "A commit that makes the model worse is pushed", self._push_worse)
        self._chapter("ci_worse", "It is stopped at the gate", self._stopped_at_gate)
        self._chapter("rollback", "Production is rolled back to the previous version", self._roll_back)

    def _chapter(self, name: str, title: str, tell: Callable[[], Any]) -> Any:
        if name not in self.journal:
            with self.view.chapter(title):
                self.journal.finish(name, tell())
        return self.journal[name]

    @property
    def _folder(self) -> Path:
        return self.services.settings.home / "demo"

    def _arrive(self, month: int) -> list[str]:
        last_day = month_window(month).end - timedelta(days=1)
        return arrive(self._folder / "flights", through=last_day.date())

    def _first_data(self) -> dict[str, Any]:
        return {"months": self._arrive(FIRST_DATA[-1])}

    def _push_first(self) -> dict[str, str]:
        return {"sha": commits.first(self._repository, at=month_window(FIRST_DATA[-1]).end)}

    def _push_explanation(self) -> dict[str, str]:
        return {"sha": commits.explain(self._repository, at=month_window(FIRST_DATA[-1]).end + timedelta(days=1))}

    def _push_worse(self) -> dict[str, str]:
        return {"sha": commits.simplify(self._repository, at=month_window(MONTHS[-1]).end)}

    @property
    def _repository(self) -> commits.BareRepository:
        return commits.BareRepository(self._folder / "flight_delays.git")

    def _build(self, commit_chapter: str) -> dict[str, Any]:
        followed = self.people.expect("ci", f"commit-{self.journal[commit_chapter]['sha']}")
        return self._built(followed, f"commit-{self.journal[commit_chapter]['sha']}")

    def _built(self, followed: Followed, run_id: str) -> dict[str, Any]:
        started = self.people.api.xcom(f"{MODEL}.ci", run_id, "register")
        gate = self.people.api.xcom(f"{MODEL}.ci", run_id, "gate")
        version = started["conf"]["version"]
        self.view.note(f"version {version}: gate {gate['verdict']}: {_most_telling(gate['reasons'])}")
        return {
            "version": version,
            "verdict": gate["verdict"],
            "reasons": gate["reasons"],
            "seconds": followed.seconds,
        }

    def _nothing_to_deliver(self) -> dict[str, Any]:
        run_id = f"commit-{self.journal['docs_commit']['sha']}"
        followed = self.people.expect("ci", run_id)
        if followed.states["train"] != "skipped":
            raise DeliveryStopped("a commit that changes no code was built", where=f"{MODEL}.ci {run_id}")
        self.view.note(f"nothing to deliver: version {self._serving()} was made from the same code")
        return {"seconds": followed.seconds}

    def _deliver(self, build_chapter: str) -> dict[str, Any]:
        version = self.journal[build_chapter]["version"]
        followed = self.people.expect("delivery", f"candidate-{version}")
        self.view.note(f"production serves version {self._serving()}")
        return {"version": version, "seconds": followed.seconds}

    def _month(self, month: int) -> None:
        name = month_name(month)
        self._chapter(f"replay_{month}", f"{name}: flights are replayed as traffic", lambda: self._replay(month))
        watched = self._chapter(f"watch_{month}", f"{name}: production is monitored", lambda: self._watch(month))
        if not watched["retraining"]:
            return
        run_id = watched["retraining"]
        self._chapter(f"retrain_{month}", f"{name}: retraining is asked for", lambda: self._retrain(run_id))
        if self.journal[f"retrain_{month}"]["go"]:
            self._chapter(f"ci_{month}", f"{name}: retrained on fresh data", lambda: self._built_by(f"retrain_{month}"))
            self._chapter(
                f"delivery_{month}", f"{name}: the new version is delivered", lambda: self._deliver(f"ci_{month}")
            )

    def _replay(self, month: int) -> dict[str, Any]:
        self._arrive(month)
        window = month_window(month)
        replay = Replay(
            self.spec, self.spec.environments.production, start=window.start, end=window.end, batch=_BATCH_ROWS
        )
        frame = rows_of(replay, self.services)
        sent = 0

        def hear(answer: Answer) -> None:
            nonlocal sent
            sent += answer.rows
            self.view.show_run("rows sent", {f"{sent} of {len(frame)}": "running"})

        done = asyncio.run(replay_rows(replay, frame, self.services, Pace(concurrency=1), hear=hear))
        if done.failed:
            raise DeliveryStopped(f"{done.failed} of {done.requests} requests failed: {done.failures}", where=MODEL)
        return {"rows": done.rows, "requests": done.requests, "served_by": done.rows_by_version}

    def _watch(self, month: int) -> dict[str, Any]:
        window = month_window(month)
        run_id = f"window-{window.end:%Y-%m-%d}"
        conf = {"data_start": window.start.isoformat(), "data_end": window.end.isoformat()}
        followed = self.people.start("monitoring", run_id, conf)
        result = self.people.api.xcom(f"{MODEL}.monitoring", run_id, "assess")
        self.view.note(f"{result['verdict']}: {'; '.join(result['reasons']) or 'nothing to report'}")
        asked = followed.states.get("start_retraining") == "success"
        return {
            **result,
            "seconds": followed.seconds,
            "retraining": f"retrain-{window.end:%Y-%m-%d}" if asked else None,
        }

    def _retrain(self, run_id: str) -> dict[str, Any]:
        followed = self.people.expect("retraining", run_id)
        decision = self.people.api.xcom(f"{MODEL}.retraining", run_id, "decide")
        answer = "it starts" if decision["go"] else "not now"
        self.view.note(f"{answer}: {'; '.join(decision['reasons'])}")
        return {**decision, "seconds": followed.seconds}

    def _built_by(self, retrain_chapter: str) -> dict[str, Any]:
        run_id = self.journal[retrain_chapter]["run_id"]
        return self._built(self.people.expect("ci", run_id), run_id)

    def _stopped_at_gate(self) -> dict[str, Any]:
        run_id = f"commit-{self.journal['bad_commit']['sha']}"
        followed = self.people.follow("ci", run_id)
        if followed.state != "failed" or followed.states.get("gate") != "failed":
            what = "the worse commit was not stopped at the gate"
            raise DeliveryStopped(what, where=f"{MODEL}.ci {run_id}", next_step="look at the run in the Airflow UI.")
        build = self.people.api.xcom(f"{MODEL}.ci", run_id, "checkout")
        gate = self.services.registry.get_json(build["run_id"], "taxiway/gate.json")
        self.view.note(f"stopped: {'; '.join(gate['reasons'])}")
        return {"reasons": gate["reasons"], "seconds": followed.seconds}

    def _roll_back(self) -> dict[str, Any]:
        followed = self.people.start("rollback", "demo-rollback", {"reason": "shown in the demo"})
        result = self.people.api.xcom(f"{MODEL}.rollback", "demo-rollback", "roll_back")
        if self._serving() != result["to"]:
            raise DeliveryStopped(f"production answers as version {self._serving()}, not {result['to']}", where=MODEL)
        self.view.note(f"production is back on version {result['to']}")
        return {**result, "seconds": followed.seconds}

    def _serving(self) -> int:
        """Ask production itself, and compare with what the registry calls the champion."""
        champion = self.services.registry.by_alias(MODEL, CHAMPION)
        status = self.services.target(self.spec.environments.production).status(MODEL)
        if champion is None or status.plan is None or status.plan.stable != champion.version:
            raise DeliveryStopped("production does not serve the champion", where=MODEL)
        return champion.version


def _most_telling(reasons: list[str]) -> str:
    """Return the comparison with the champion when there is one."""
    return next((reason for reason in reasons if "difference" in reason), reasons[0])
