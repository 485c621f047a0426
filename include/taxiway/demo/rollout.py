"""The rollout of a version as the demo shows it: callers who ask meanwhile, and each phase as it begins."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from taxiway.bootstrap import Services
from taxiway.demo.months import MODEL
from taxiway.demo.view import View
from taxiway.domain.observation import VersionObservation
from taxiway.domain.rollout import TRANSITIONS, Phase
from taxiway.domain.values import TrafficPlan
from taxiway.errors import TaxiwayError, TransientError
from taxiway.spec import ModelSpec
from taxiway.stages.rollout_store import stored_history, stored_state

if TYPE_CHECKING:
    import pandas as pd

_ROWS_PER_REQUEST = 20
_PAUSE_SECONDS = 0.04


@dataclass(slots=True)
class Callers:
    """Send rows to production, a few at a time, from `begin` to the end of the block; from the start when all are sent.

    `rows` and `requests` count what was answered, by version. The first refusal ends it, and is raised at the end.
    """

    services: Services
    spec: ModelSpec
    frame: pd.DataFrame
    rows: Counter[int] = field(default_factory=Counter)
    requests: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _failure: TaxiwayError | None = None

    def __enter__(self) -> Callers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure

    def begin(self) -> None:
        """Begin to send; a repeat changes nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._send)
            self._thread.start()

    def _send(self) -> None:
        production = self.services.target(self.spec.environments.production)
        start = 0
        while not self._over.wait(_PAUSE_SECONDS):
            part = self.frame.iloc[start : start + _ROWS_PER_REQUEST]
            try:
                answer = production.predict(MODEL, part)
            except TaxiwayError as error:
                self._failure = error
                return
            self.rows[answer.version] += len(part)
            self.requests += 1
            start = (start + _ROWS_PER_REQUEST) % len(self.frame)


@dataclass(slots=True)
class RolloutView:
    """Tells each phase of one version's rollout once, and shows who answers what right now."""

    services: Services
    spec: ModelSpec
    version: int
    view: View
    callers: Callers | None = None
    _told: int = 0

    def look(self) -> None:
        """Look once; the callers begin when the rollout does."""
        try:
            run_id = self.services.registry.candidate(MODEL, self.version).run_id
            history = stored_history(self.services.registry, run_id)
            for entry in history[self._told :]:
                if said := _said(entry):
                    self.view.note(said)
            self._told = len(history)
            if history and self.callers is not None:
                self.callers.begin()
            self.view.show_traffic(self._now(run_id) if history else "")
        except TransientError:
            return  # the next look tells it

    def _now(self, run_id: str) -> str:
        """Return the traffic and what the version did in this phase; empty when the rollout is over."""
        state = stored_state(self.services.registry, run_id)
        if state is None or not TRANSITIONS[state.phase]:
            return ""
        production = self.services.target(self.spec.environments.production)
        plan = production.status(MODEL).plan
        found = {seen.version: seen for seen in production.observe(MODEL, state.since)}
        return " | ".join([_traffic(plan), *_figures(found.get(self.version))])


def history_of(services: Services, version: int) -> list[dict[str, Any]]:
    """Return the phases of a version's rollout, in their order, with what led to each."""
    return stored_history(services.registry, services.registry.candidate(MODEL, version).run_id)


def _said(entry: dict[str, Any]) -> str:
    """Say what a phase means for callers, and why it began; nothing about the ends, which the chapter tells."""
    version, reason = f"version {entry['challenger_version']}", entry["reason"]
    match Phase(entry["phase"]):
        case Phase.SHADOW:
            return f"shadow: {version} answers copies of the requests; callers get the champion's answers"
        case Phase.CANARY:
            return f"canary: {version} answers {entry['traffic']:g} % of the requests ({reason})"
        case Phase.WAITING:
            return f"undecided, a person is asked: {reason}"
        case Phase.PROMOTING:
            return f"promotion: {version} answers all requests ({reason})"
        case Phase.ABORTING:
            return f"abort: {version} answers nobody ({reason})"
        case _:
            return ""


def _traffic(plan: TrafficPlan | None) -> str:
    if plan is None:
        return "no traffic yet"
    if plan.challenger is not None:
        rest = 100 - plan.challenger_percent
        return f"{rest:g} % to version {plan.stable}, {plan.challenger_percent:g} % to version {plan.challenger}"
    copies = f", copies to version {plan.shadow}" if plan.shadow is not None else ""
    return f"100 % to version {plan.stable}{copies}"


def _figures(seen: VersionObservation | None) -> list[str]:
    if seen is None or not seen.requests:
        return []
    p99 = seen.latencies.quantile(0.99)
    return [f"version {seen.version}: {seen.requests} requests, {seen.errors} errors, p99 {p99:.0f} ms"]
