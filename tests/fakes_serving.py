"""In-memory stand-ins for the serving ports; tests/contracts runs the same tests on them as on the real adapters."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from taxiway.adapters.prediction_log import LogEntry
from taxiway.domain.observation import VersionObservation
from taxiway.domain.release import check_approval
from taxiway.domain.values import (
    Prediction,
    Release,
    TargetStatus,
    TrafficPlan,
    VersionStatus,
    Window,
)
from taxiway.errors import DataError, DeliveryStopped, NotFoundError, TargetUnavailable
from taxiway.gateway.observations import Observations
from taxiway.gateway.routing import CANARY, CHAMPION, SHADOW, check_plan, choose, versions_in
from taxiway.ports import Clock, Verifier

Answers = Callable[[int, pd.DataFrame], Sequence[Any]]
LOG_COLUMNS = ["request_id", "key", "event_time", "logged_at", "version", "role", "prediction", "latency_ms"]


def version_number(version: int, frame: pd.DataFrame) -> list[float]:
    """Answer every row with the version's number."""
    return [float(version)] * len(frame)


class FakeServingTarget:
    """Serves with `answers(version, frame)`, which may raise DataError.

    While `unavailable` nothing answers; a version in `broken` cannot be made ready, one in `failed` does not run any
    more (and why); `broken_switches` are how many switches get lost; `plans` has every other one; what is in
    `observed[model]` is what `observe` returns instead of the counted requests. With a verifier, approvals are
    checked as a gateway does.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        environment: str = "staging",
        answers: Answers = version_number,
        verifier: Verifier | None = None,
    ) -> None:
        self.unavailable = False
        self.broken: set[int] = set()
        self.broken_switches = 0
        self.failed: dict[int, str] = {}
        self.plans: list[tuple[str, TrafficPlan]] = []
        self.observed: dict[str, list[VersionObservation]] = {}
        self._clock = clock
        self._environment = environment
        self._answers = answers
        self._verifier = verifier
        self._releases: dict[str, dict[int, Release]] = {}
        self._plan: dict[str, TrafficPlan] = {}
        self._observations = Observations()

    def deploy(self, release: Release) -> None:
        """Keep the release, once its approval holds."""
        self._answer_or_raise()
        if self._verifier is not None:
            check_approval(self._verifier.verify_statement(release.approval), release, self._environment)
        deployed = self._releases.setdefault(release.model, {})
        same = deployed.get(release.version, release)
        if release.version in self.broken or same.digest != release.digest:
            raise DeliveryStopped("the version cannot be made ready", where=f"{release.model} {release.version}")
        deployed[release.version] = release

    def set_traffic(self, model: str, plan: TrafficPlan) -> None:
        """Switch when every version of the plan is deployed."""
        self._answer_or_raise()
        if self.broken_switches:
            self.broken_switches -= 1
            raise TargetUnavailable("the switch did not arrive", where=model)
        check_plan(plan)
        missing = versions_in(plan) - set(self._releases.get(model, {}))
        if missing:
            raise DeliveryStopped(f"version {min(missing)} is not ready (not deployed)", where=model)
        self._plan[model] = plan
        self.plans.append((model, plan))

    def status(self, model: str) -> TargetStatus:
        """Return the plan and the deployed versions, ready unless they are in `failed`."""
        self._answer_or_raise()
        deployed = sorted(self._releases.get(model, {}).items())
        states = tuple(
            VersionStatus(
                version,
                release.digest,
                "failed" if version in self.failed else "ready",
                self.failed.get(version, ""),
            )
            for version, release in deployed
        )
        return TargetStatus(model, self._plan.get(model), states)

    def observe(self, model: str, since: datetime) -> list[VersionObservation]:
        """Return what was set in `observed`, else what was counted; latencies are 0."""
        self._answer_or_raise()
        if model in self.observed:
            return self.observed[model]
        return self._observations.observe(model, sorted(self._releases.get(model, {})), since)

    def predict(self, model: str, frame: pd.DataFrame) -> Prediction:
        """Let the version that the plan chooses answer; the shadow answers too."""
        self._answer_or_raise()
        plan = self._plan.get(model)
        if plan is None:
            raise NotFoundError(f"model {model!r} is not served here")
        request_id = uuid.uuid4().hex
        shadows = None if plan.shadow is None else self._ask(model, plan.shadow, SHADOW, frame)
        version = choose(plan, model, request_id)
        values = self._ask(model, version, CHAMPION if version == plan.stable else CANARY, frame)
        if values is None and version != plan.stable:
            version, values = plan.stable, self._ask(model, plan.stable, CHAMPION, frame)
        if plan.shadow is not None and shadows is not None and values is not None:
            now = self._clock.now()
            self._observations.pair(model, plan.shadow, at=now, champion=values, predictions=shadows)
        if values is None:
            raise DataError("the model cannot predict these rows")
        return Prediction(version, request_id, tuple(values))

    def undeploy(self, model: str, version: int) -> None:
        """Forget a version without traffic."""
        self._answer_or_raise()
        plan = self._plan.get(model)
        if plan is not None and version in versions_in(plan):
            raise DeliveryStopped(f"version {version} has traffic", where=model)
        self._releases.get(model, {}).pop(version, None)
        self._observations.forget(model, version)

    def _ask(self, model: str, version: int, role: str, frame: pd.DataFrame) -> Sequence[Any] | None:
        try:
            values: Sequence[Any] | None = self._answers(version, frame)
        except DataError:
            values = None
        self._observations.record(model, version, role, at=self._clock.now(), latency_ms=0.0, predictions=values)
        return values

    def _answer_or_raise(self) -> None:
        if self.unavailable:
            raise TargetUnavailable("the gateway does not answer")


class FakePredictionLog:
    """Keeps the entries it is given."""

    def __init__(self) -> None:
        self._entries: dict[str, list[LogEntry]] = {}

    def add(self, model: str, entry: LogEntry) -> None:
        """Log one answered request."""
        self._entries.setdefault(model, []).append(entry)

    def read(self, model: str, window: Window, features: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the rows of the window, ordered by event time."""
        records = [record for entry in self._entries.get(model, []) for record in entry.records()]
        inside = [record for record in records if window.start <= record["event_time"] < window.end]
        frame = pd.DataFrame(inside, columns=None if inside else LOG_COLUMNS)
        names = [name for name in frame if features is None or name in (*LOG_COLUMNS, *features)]
        return frame[names].sort_values("event_time", kind="stable", ignore_index=True)
