"""The values that stages, adapters and entry points hand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

CHAMPION = "champion"
CHALLENGER = "challenger"
STAGING = "staging"
PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit of a model repository."""

    sha: str
    author: str
    message: str
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class Component:
    """One package of a model's environment: `hashes` are the SHA-256 (hex) of the files that its lock allows."""

    name: str
    version: str
    hashes: tuple[str, ...] = ()
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A registered model version: what MLflow knows about it.

    `run_id` is the MLflow run that holds the model (`model/`) and the evidence (`taxiway/`).
    """

    model: str
    version: int
    run_id: str
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Release:
    """What a serving target needs to serve one version, and to refuse it when it is not what was approved.

    `approval` is a statement signed by the platform key that binds model, version, digest and environment
    (see `domain.release.approval_statement`). `key` and `timestamp` name the columns of a request that the
    prediction log records as the row's key and event time. `digest` is `sha256:<hex>` over the model files.
    """

    model: str
    version: int
    run_id: str
    digest: str
    lock_digest: str
    key: str
    timestamp: str
    approval: str

    def to_json(self) -> dict[str, Any]:
        """Return the release as a JSON object (the body of the gateway's deploy call)."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Release:
        """Read what `to_json` wrote; raises TypeError when a field is missing or unknown."""
        return cls(**document)


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """Who answers: one stable version, perhaps a challenger with a share of the traffic, perhaps a shadow.

    `challenger_percent` is 0 to 100. A shadow gets a copy of each request; its answers are only logged.
    """

    stable: int
    challenger: int | None = None
    challenger_percent: float = 0.0
    shadow: int | None = None


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One deployed version at a target: `state` is `starting`, `ready` or `failed`.

    `detail` says how it last ended although nobody had told it to, empty when it never did.
    """

    version: int
    digest: str
    state: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """What a target serves for one model: the desired plan and the observed versions."""

    model: str
    plan: TrafficPlan | None
    versions: tuple[VersionStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predictions that a target returned, one per row, and the version that made them."""

    version: int
    request_id: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Notification:
    """A message for the owners of a model."""

    model: str
    event: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open interval of data time: start <= timestamp < end (timezone-aware UTC)."""

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M}"
