"""Rollback: production back on the previous champion, or on a named earlier version, in one atomic switch.

The switch needs the gateway only. What follows from it (states, aliases, evidence) is recorded in MLflow at once, or
by whoever comes next when MLflow does not answer: see `stages.orders`. Every step may be repeated after a crash.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from taxiway.domain.evidence import Json
from taxiway.domain.values import CHAMPION, PREVIOUS, TrafficPlan
from taxiway.errors import PermanentError, RegistryUnavailable, TaxiwayError, TransientError
from taxiway.ports import Clock, Notifier, Registry, ServingTarget
from taxiway.spec import ModelSpec
from taxiway.stages.aliases import HISTORY, alias_history
from taxiway.stages.candidates import APPROVAL, State, release_of, state_of
from taxiway.stages.orders import KeptOrder, Orders
from taxiway.stages.rollback_record import ROLLBACK, Recorder
from taxiway.stages.rollback_target import is_good, known_target, refuse_unapproved, served_target

_REPEATED_WITHIN = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants production back, on which version (None: the previous champion), and why.

    An order with the `name` of the one that production follows is the same order, and so is one of the same person for
    the same reason within some minutes that names no version: it is not carried out twice.
    """

    by: str
    reason: str
    to: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rollback did: production left one version for another, `seconds` after it was ordered.

    `evidence` is where it is recorded: an address in MLflow, or the file of the order while that waits. `problems` are
    what a person should know, though production serves what was ordered.
    """

    left: int | None
    to: int
    seconds: float
    recorded: bool
    evidence: str
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """Return the outcome as a JSON object."""
        return {
            "from": self.left,
            "to": self.to,
            "seconds": self.seconds,
            "recorded": self.recorded,
            "evidence": self.evidence,
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True)
class Rollbacks:
    """The rollbacks of one model; the ports are those of this installation.

    `patience` is how many seconds to wait for whoever moves traffic right now; after that the switch comes first, and
    the record later.
    """

    spec: ModelSpec
    registry: Registry
    production: ServingTarget
    orders: Orders
    clock: Clock
    notifier: Notifier
    patience: float = 20.0

    def roll_back(self, order: Order) -> Outcome:
        """Switch production and record it. An order that waits is made good by the next one that asks for no other.

        Raises DeliveryStopped when there is no version to go back to, or it cannot serve, IntegrityError when it was
        not approved, TargetUnavailable when production does not answer.
        """
        started = self.clock.now()
        with self.orders.alone(self.spec.model, self.patience) as alone:
            kept = self._repeated(order)
            problem = self._registry_problem()
            if kept is None and not problem and (done := self._done_before(order)) is not None:
                if self._holds(done.to):
                    return done
                order = replace(order, to=done.to)  # what was ordered goes before what has come since
            kept = kept or self._kept(order, known=not problem)
            self._switch(kept, known=not problem)
            seconds = (self.clock.now() - started).total_seconds()
            if not alone:
                problem = "another process has moved traffic of this model for long: it may be hanging"
            if problem:
                return self._outcome(kept, seconds, (problem,), recorded=False)
            try:
                problems = self._record_waiting()
            except TaxiwayError as error:
                return self._outcome(kept, seconds, (str(error),), recorded=False)
            return self._outcome(kept, seconds, problems, recorded=True)

    def settle(self) -> list[KeptOrder]:
        """Make good and record what waits; returns it. Every stage that moves traffic begins with this.

        Raises TransientError when MLflow or production do not answer: nothing may move before they do.
        """
        if not self.orders.waiting(self.spec.model):
            return []
        with self.orders.alone(self.spec.model, self.patience) as alone:
            if not alone:
                raise TransientError("another process moves traffic of this model", where=self.spec.model)
            waiting = self.orders.waiting(self.spec.model)
            if waiting:
                self._switch(waiting[-1], known=True)
                self._record_waiting()
            return waiting

    def keep_warm(self) -> int | None:
        """Load the previous champion next to the champion, so that the next rollback is one switch; returns it."""
        previous = self.registry.by_alias(self.spec.model, PREVIOUS)
        if previous is None or not is_good(previous) or self.production.status(self.spec.model).plan is None:
            return None
        self.production.deploy(release_of(self.spec, previous, previous.tags[APPROVAL]))
        return previous.version

    def _registry_problem(self) -> str:
        """Ask the registry once, because one that hangs costs its whole timeout; tells why it does not answer."""
        try:
            self.registry.by_alias(self.spec.model, CHAMPION)
        except RegistryUnavailable as error:
            return str(error)
        return ""

    def _done_before(self, order: Order) -> Outcome | None:
        """Return what an order did that was carried out to its end before it was repeated."""
        try:
            champion = self.registry.by_alias(self.spec.model, CHAMPION)
            history = alias_history(self.registry, champion) if champion else []
        except RegistryUnavailable:
            return None
        last = next((entry for entry in reversed(history) if entry["alias"] == CHAMPION), None)
        if champion is None or last is None or not _is_same(order, last, self.clock.now()):
            return None
        note = "this order was carried out before; to go back further, name a version (`--to`)"
        page = self.registry.page(champion.run_id, HISTORY)
        return Outcome(last["from"], last["to"], 0.0, True, page, (note,))

    def _holds(self, version: int) -> bool:
        """Tell whether production serves the version alone, and no other is on its way there."""
        with suppress(RegistryUnavailable):
            coming = any(state_of(found) is State.ROLLING_OUT for found in self.registry.candidates(self.spec.model))
            return not coming and self.production.status(self.spec.model).plan == TrafficPlan(stable=version)
        return False

    def _repeated(self, order: Order) -> KeptOrder | None:
        """Return the order that waits, when this one asks for nothing else; drop it when it was never carried out."""
        waiting = self.orders.waiting(self.spec.model)
        if not waiting or order.to in (None, waiting[-1].to):
            return waiting[-1] if waiting else None
        plan = self.production.status(self.spec.model).plan
        if plan is None or plan.stable != waiting[-1].to:
            self.orders.remove(waiting[-1])
        return None

    def _kept(self, order: Order, *, known: bool) -> KeptOrder:
        """Decide which version serves next, from the registry or else from what production has ready; keep that."""
        status = self.production.status(self.spec.model)
        now = self.clock.now()
        try:
            leaves, to = known_target(self.spec.model, order.to, status, self.registry) if known else (None, None)
        except RegistryUnavailable:
            known = False
        if not known or to is None:
            leaves, to = served_target(order.to, status)
        kept = KeptOrder(self.spec.model, order.name or now.isoformat(), order.by, order.reason, now, leaves, to)
        self.orders.keep(kept)
        return kept

    def _switch(self, order: KeptOrder, *, known: bool) -> None:
        """Have production serve the version alone; an order that production refuses is dropped."""
        wanted = TrafficPlan(stable=order.to)
        try:
            if self.production.status(order.model).plan == wanted:
                return
            if known:
                self._load(order)
            self.production.set_traffic(order.model, wanted)
        except PermanentError:
            self.orders.remove(order)
            raise

    def _load(self, order: KeptOrder) -> None:
        """See that the version is ready; without the registry, production has it ready or refuses the switch."""
        try:
            target = self.registry.candidate(order.model, order.to)
        except RegistryUnavailable:
            return
        refuse_unapproved(target)
        self.production.deploy(release_of(self.spec, target, target.tags[APPROVAL]))

    def _record_waiting(self) -> tuple[str, ...]:
        """Record every order that waits, oldest first; what production has no use for any more is stopped."""
        recorder = Recorder(self.registry, self.notifier)
        problems: list[str] = []
        waiting = self.orders.waiting(self.spec.model)
        for order in waiting:
            problems += recorder.record(order)
        try:
            self._stop_others()
        except TaxiwayError as error:
            problems.append(f"versions that have left production still run there: {error}")
        for order in waiting:
            self.orders.remove(order)
        return tuple(problems)

    def _stop_others(self) -> None:
        aliases = (self.registry.by_alias(self.spec.model, alias) for alias in (CHAMPION, PREVIOUS))
        keep = {found.version for found in aliases if found is not None}
        for status in self.production.status(self.spec.model).versions:
            if status.version not in keep:
                self.production.undeploy(self.spec.model, status.version)

    def _outcome(self, order: KeptOrder, seconds: float, problems: tuple[str, ...], *, recorded: bool) -> Outcome:
        evidence = self._page(order) if recorded else str(self.orders.path(order))
        return Outcome(order.leaves, order.to, seconds, recorded, evidence, problems)

    def _page(self, order: KeptOrder) -> str:
        about, path = order.to if order.leaves is None else order.leaves, f"taxiway/{ROLLBACK}.json"
        try:
            return self.registry.page(self.registry.candidate(order.model, about).run_id, path)
        except RegistryUnavailable:
            return f"{path} of version {about} in MLflow"


def _is_same(order: Order, move: Mapping[str, Any], now: datetime) -> bool:
    """Tell whether this order is the one behind a move of the champion alias."""
    lately = now - datetime.fromisoformat(move["at"]) < _REPEATED_WITHIN
    repeated = lately and order.to is None and (order.by, order.reason) == (move["by"], move["why"])
    return repeated or (bool(order.name) and order.name == move["run"])
