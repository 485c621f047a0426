"""Rollback orders and turns: one process at a time moves a model's traffic, and what a person ordered comes first.

An order is one file, written before production is switched and removed when the registry knows all of it. Whoever is
killed in between, or finds MLflow down, leaves the file; while it waits, no delivery moves traffic of the model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from taxiway.errors import SettingsError, TransientError
from taxiway.stages.locks import exclusive, exclusive_within

_FIELDS = {"model": str, "name": str, "by": str, "reason": str, "at": str, "to": int}


@dataclass(frozen=True, slots=True)
class KeptOrder:
    """Production of `model` shall leave one version (None: it served none) and serve the version `to`.

    `name` is the run or the command behind it: a repeated one has the same name.
    """

    model: str
    name: str
    by: str
    reason: str
    at: datetime
    leaves: int | None
    to: int

    def to_json(self) -> dict[str, Any]:
        """Return the order as a JSON object."""
        return {field: getattr(self, field) for field in self.__slots__} | {"at": self.at.isoformat()}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> KeptOrder:
        """Read what `to_json` wrote; raises TypeError or ValueError on anything else."""
        if any(not isinstance(document.get(field), kind) for field, kind in _FIELDS.items()):
            raise ValueError("a field is missing or of the wrong type")
        return cls(**{**document, "at": datetime.fromisoformat(document["at"])})


class Orders:
    """The orders of this installation that wait to be recorded, in `<directory>/<model>/`, and each model's lock."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, order: KeptOrder) -> Path:
        """Return the order's file; names sort by time."""
        return self._directory / order.model / f"{order.at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}.json"

    def keep(self, order: KeptOrder) -> None:
        """Write the order so that it survives a crash or a power cut at any instant after the return."""
        path = self.path(order)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".tmp")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(order.to_json(), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        for directory in (path.parent, self._directory):
            _sync(directory)

    def waiting(self, model: str) -> list[KeptOrder]:
        """Return the orders that are not recorded yet, oldest first; raises SettingsError when one cannot be read."""
        return [_read(path) for path in sorted((self._directory / model).glob("*.json"))]

    def remove(self, order: KeptOrder) -> None:
        """Forget an order that is recorded, or that cannot be carried out."""
        self.path(order).unlink(missing_ok=True)
        _sync(self.path(order).parent)

    @contextmanager
    def turn(self, model: str) -> Iterator[None]:
        """Move traffic or claims of the model alone until the block ends; the kernel ends it for a killed process.

        Raises TransientError while a rollback waits to be recorded: what the registry says is older than that.
        """
        self._refuse_waiting(model)
        with exclusive(self._lock(model)):
            self._refuse_waiting(model)
            yield

    @contextmanager
    def alone(self, model: str, patience: float) -> Iterator[bool]:
        """Be alone with the model as `turn` is, orders or not; tells False when somebody moves it for too long."""
        with exclusive_within(self._lock(model), patience) as held:
            yield held

    def _lock(self, model: str) -> Path:
        return self._directory / f"{model}.lock"

    def _refuse_waiting(self, model: str) -> None:
        for order in self.waiting(model):
            raise TransientError(
                f"the rollback to version {order.to} by {order.by} is not recorded yet, so nothing else moves traffic",
                where=str(self.path(order)),
                next_step="it is recorded as soon as MLflow answers; `taxiway rollback` repeats it.",
            )


def _read(path: Path) -> KeptOrder:
    try:
        return KeptOrder.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"an order to roll back cannot be read: {error}",
            where=str(path),
            next_step="look at it, remove it, and order the rollback again.",
        ) from error


def _sync(directory: Path) -> None:
    """Have the disk remember which files the directory has."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
