"""An installation whose production goes back, and the ways in which that can be cut off."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from taxiway.domain.values import CHAMPION, PREVIOUS, TrafficPlan
from taxiway.errors import RegistryUnavailable
from taxiway.spec import ModelSpec
from taxiway.stages.aliases import alias_history
from taxiway.stages.candidates import State, state_of
from taxiway.stages.rollback import Order, Outcome
from tests.unit.model_versions import MODEL, Field

DANA = Order("dana", "wrong answers")


def three_versions(keys: tuple[Path, Path]) -> Field:
    """Deliver three versions."""
    field = Field(keys)
    for name in ("first", "second", "third"):
        field.deliver(name)
    rollout = {"steps": [{"traffic": 20, "duration": "60s"}, {"traffic": 100}]}
    field.spec = ModelSpec.model_validate({**field.spec.model_dump(), "rollout": rollout})
    return field


def roll_back(field: Field, to: int | None = None) -> Outcome:
    """Order a rollback."""
    return field.rollbacks.roll_back(replace(DANA, to=to))


def aliases(field: Field) -> dict[str, int]:
    """Return which version each alias points to."""
    return {alias: found.version for found in field.registry.candidates(MODEL) for alias in found.aliases}


def states(field: Field) -> list[State]:
    """Return the state of each version, version 1 first."""
    return [state_of(found) for found in reversed(field.registry.candidates(MODEL))]


def serves(field: Field) -> TrafficPlan | None:
    """Return who gets production's traffic."""
    return field.production.status(MODEL).plan


def loaded(field: Field) -> list[int]:
    """Return the versions that production has."""
    return [status.version for status in field.production.status(MODEL).versions]


class Dead(BaseException):
    """The process was killed."""


class Wire:
    """Counts the calls of what it watches; all of them fail from the first bad one on."""

    def __init__(self, *, first_bad: int, error: Callable[[], BaseException]) -> None:
        self.calls = 0
        self._first_bad = first_bad
        self._error = error

    def watch(self, port: Any) -> Any:
        """Return the port with its calls counted."""
        return _Watched(port, self)

    def touch(self) -> None:
        """Count a call."""
        self.calls += 1
        if self.calls >= self._first_bad:
            raise self._error()


class Meanwhile(Wire):
    """Lets something else happen once, just before a call."""

    def __init__(self, call: int, happens: Callable[[], object]) -> None:
        super().__init__(first_bad=call, error=Dead)
        self._happens = happens

    def touch(self) -> None:
        """Count a call."""
        self.calls += 1
        if self.calls == self._first_bad:
            self._happens()


class _Watched:
    def __init__(self, port: Any, wire: Wire) -> None:
        self._port, self._wire = port, wire

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            self._wire.touch()
            return found(*arguments, **named)

        return call


class Down:
    """A registry that does not answer."""

    def __getattr__(self, name: str) -> Any:
        def call(*_: Any, **__: Any) -> Any:
            raise RegistryUnavailable("MLflow did not answer")

        return call


def without_mlflow(field: Field, order: Order = DANA) -> Outcome:
    """Roll back while MLflow is down."""
    return replace(field.rollbacks, registry=Down()).roll_back(order)  # type: ignore[arg-type]


def fork(field: Field, orders: Path) -> Field:
    """Return an independent copy of the installation."""
    forked = copy.copy(field)
    shared: dict[int, Any] = {id(field.verifier): field.verifier, id(field.clock): field.clock}
    forked.registry = copy.deepcopy(field.registry, shared)
    forked.production = copy.deepcopy(field.production, shared)
    forked.notifier = copy.deepcopy(field.notifier, shared)
    forked.orders = type(field.orders)(orders)
    return forked


def went_back(field: Field) -> bool:
    """Tell whether everything about the rollback from 3 to 2 is as it shall be."""
    evidence = field.registry.get_json(field.registry.candidate(MODEL, 3).run_id, "taxiway/rollback.json")
    return (
        serves(field) == TrafficPlan(stable=2)
        and aliases(field).items() >= {CHAMPION: 2, PREVIOUS: 1}.items()
        and states(field)[:3] == [State.RETIRED, State.PRODUCTION, State.ROLLED_BACK]
        and evidence["figures"]["by"] == "dana"
        and champion_moves(field, 2)[-1][:3] == (3, 2, "dana")
        and field.orders.waiting(MODEL) == []
    )


def champion_moves(field: Field, version: int) -> list[tuple[int | None, int | None, str, str]]:
    """Return the moves of the champion alias that the version's run tells of."""
    entries = alias_history(field.registry, field.registry.candidate(MODEL, version))
    return [(move["from"], move["to"], move["by"], move["why"]) for move in entries if move["alias"] == CHAMPION]


def approved(field: Field, name: str) -> int:
    """Bring a new version to the point where its rollout may begin."""
    version = field.candidate(name).version
    field.approve(version)
    return version
