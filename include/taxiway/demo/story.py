"""The story that `make demo` tells: a model's year from its first commit to a rollback, on real flights.

Each chapter is told once: its result is kept in the journal, and what a chapter starts is started by name, so a demo
that was stopped half-way goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxiway.bootstrap import Services
from taxiway.demo import commits
from taxiway.demo.flights import arrive
from taxiway.demo.journal import Journal
from taxiway.demo.months import FIRST_DATA, LAST_MONTH, MODEL, MONTHS, month_name, month_window
from taxiway.demo.people import Followed, People
from taxiway.demo.rollout import Callers, RolloutView, history_of
from taxiway.demo.view import View
from taxiway.domain.rollout import Phase
from taxiway.domain.values import CHAMPION
from taxiway.errors import DeliveryStopped
from taxiway.spec import ModelSpec
from taxiway.traffic.pace import Answer, Pace
from taxiway.traffic.replay import Replay, replay_rows

if TYPE_CHECKING:
    import pandas as pd

_BATCH_ROWS = 1000
_NO_DISTANCE_EVERY = 25  # rows


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
        self._chapter("hasty_commit", "A commit with a mistake that no test finds is pushed", self._push_hasty)
        self._chapter("ci_hasty", "The gate does not stop it", lambda: self._build("hasty_commit"))
        self._chapter("delivery_hasty", "Its rollout meets rows without a distance, and is aborted", self._aborted)
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

    def _push_hasty(self) -> dict[str, str]:
        return {"sha": commits.group_distances(self._repository, at=month_window(LAST_MONTH).start)}

    def _push_worse(self) -> dict[str, str]:
        return {"sha": commits.simplify(self._repository, at=month_window(LAST_MONTH).end)}

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
        """Deliver the first version; nobody asks for predictions yet."""
        version = self.journal[build_chapter]["version"]
        look = RolloutView(self.services, self.spec, version, self.view).look
        followed = self.people.expect("delivery", f"candidate-{version}", beside=look)
        self.view.note(f"production serves version {self._serving()}")
        return {"version": version, "seconds": followed.seconds}

    def _deliver_under_traffic(self, build_chapter: str, month: int) -> dict[str, Any]:
        """Deliver a version while callers ask about the month's first flights."""
        version = self.journal[build_chapter]["version"]
        self._arrive(month)
        with Callers(self.services, self.spec, self._rows(month)) as callers:
            look = RolloutView(self.services, self.spec, version, self.view, callers).look
            followed = self.people.expect("delivery", f"candidate-{version}", beside=look)
        self.view.note(f"production serves version {self._serving()}; {_answered(callers)}")
        return self._rolled_out(version, followed, callers)

    def _aborted(self) -> dict[str, Any]:
        """Deliver a version that cannot answer what a new app asks: flights whose distance it does not know."""
        version, run_id = self.journal["ci_hasty"]["version"], f"candidate-{self.journal['ci_hasty']['version']}"
        self._arrive(LAST_MONTH)
        rows = self._rows(LAST_MONTH).reset_index(drop=True)
        rows.loc[rows.index % _NO_DISTANCE_EVERY == 0, "distance"] = None
        with Callers(self.services, self.spec, rows) as callers:
            look = RolloutView(self.services, self.spec, version, self.view, callers).look
            followed = self.people.follow("delivery", run_id, beside=look)
        told = self._rolled_out(version, followed, callers)
        if followed.state != "failed" or told["rollout"][-1]["phase"] != Phase.ABORTED:
            what = "the rollout of the version that fails in production was not aborted"
            raise DeliveryStopped(what, where=f"{MODEL}.delivery {run_id}", next_step="look at it in the Airflow UI.")
        self.view.note(f"production stays on version {self._serving()}; {_answered(callers)}")
        return told

    def _rolled_out(self, version: int, followed: Followed, callers: Callers) -> dict[str, Any]:
        history = history_of(self.services, version)
        answered = {"served_by": dict(callers.rows), "rows": callers.rows.total(), "requests": callers.requests}
        return {"version": version, "rollout": history, **answered, "seconds": followed.seconds}

    def _rows(self, month: int) -> pd.DataFrame:
        """Return the month's flights as callers send them."""
        columns = [self.spec.task.key, self.spec.task.timestamp, *self.spec.data.features]
        return self.services.data(self.spec).read(month_window(month))[columns]

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
                f"delivery_{month}",
                f"{month_name(month + 1)}: the new version is rolled out under traffic",
                lambda: self._deliver_under_traffic(f"ci_{month}", month + 1),
            )

    def _replay(self, month: int) -> dict[str, Any]:
        self._arrive(month)
        frame = self._rows(month)
        begun: dict[str, Any] = dict(self.journal.items()).get(f"delivery_{month - 1}", {})
        rest = frame.iloc[begun.get("rows", 0) :]
        sent = 0

        def hear(answer: Answer) -> None:
            nonlocal sent
            sent += answer.rows
            self.view.show_run("rows sent", {f"{sent} of {len(rest)}": "running"})

        replay = Replay(self.spec, self.spec.environments.production, batch=_BATCH_ROWS)
        done = asyncio.run(replay_rows(replay, rest, self.services, Pace(concurrency=1), hear=hear))
        if done.failed:
            raise DeliveryStopped(f"{done.failed} of {done.requests} requests failed: {done.failures}", where=MODEL)
        served_by = Counter(done.rows_by_version)
        served_by.update({int(version): rows for version, rows in begun.get("served_by", {}).items()})
        return {"rows": len(frame), "requests": begun.get("requests", 0) + done.requests, "served_by": served_by}

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


def _answered(callers: Callers) -> str:
    """Say how the callers fared meanwhile: one that was refused would have ended the story."""
    share = ", ".join(f"{rows:,} by version {version}" for version, rows in sorted(callers.rows.items()))
    return f"{callers.requests:,} requests meanwhile, all answered: rows {share}"


def _most_telling(reasons: list[str]) -> str:
    """Return the comparison with the champion when there is one."""
    return next((reason for reason in reasons if "difference" in reason), reasons[0])
