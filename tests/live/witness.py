"""Watches production all the time and notes whatever must never be seen, at any instant."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import TracebackType

from taxiway.domain.values import TrafficPlan
from taxiway.errors import TransientError
from taxiway.stages.candidates import APPROVAL, State, state_of
from tests.live.ramp_setup import Ramp

_PAUSE = 0.25
_MAY_SERVE = (State.APPROVED, State.ROLLING_OUT, State.PRODUCTION, State.RETIRED)


@dataclass
class Witness:
    """Knows which plans and champions are possible; `plans` are those that were seen, in their order."""

    ramp: Ramp
    possible: list[TrafficPlan]
    champions: set[int]
    plans: list[TrafficPlan] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _watcher: threading.Thread | None = None

    def __enter__(self) -> Witness:
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        assert self._watcher is not None
        self._watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(_PAUSE):
            try:
                self._look()
            except TransientError:
                continue  # struck down, nobody can say anything

    def _look(self) -> None:
        plan = self.ramp.plan()
        if plan is None:
            return
        if not self.plans or self.plans[-1] != plan:
            self.plans.append(plan)
        if plan not in self.possible:
            self.violations.append(f"traffic as nobody planned it: {plan}")
        self._approved(plan)
        registry = self.ramp.installation.services.registry
        champions = [found.version for found in registry.candidates(self.ramp.name) if "champion" in found.aliases]
        if len(champions) != 1 or champions[0] not in self.champions:
            self.violations.append(f"champions: {champions}")

    def _approved(self, plan: TrafficPlan) -> None:
        """Who has traffic is approved and not closed; what is read while the traffic moves says nothing."""
        registry = self.ramp.installation.services.registry
        for version in {plan.stable, plan.challenger, plan.shadow} - {None}:
            candidate = registry.candidate(self.ramp.name, int(version or 0))
            bad = APPROVAL not in candidate.tags or state_of(candidate) not in _MAY_SERVE
            if bad and self.ramp.plan() == plan:
                self.violations.append(f"version {version} has traffic and is {state_of(candidate).value}: {plan}")
