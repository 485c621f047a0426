"""What the stages need from the outside world, as Protocols.

Each port has one in-memory fake (`tests/fakes.py`) and one or more adapters (`taxiway/adapters/`); the contract tests
in `tests/contracts/` run on all of them. Adapters raise only errors of `taxiway.errors`: a TransientError when
the other side did not answer, a PermanentError when it answered and meant no.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd

    from taxiway.domain.charts import Page
    from taxiway.domain.observation import VersionObservation
    from taxiway.domain.second_opinion import DataTest, TestResult
    from taxiway.domain.values import (
        Candidate,
        Commit,
        Component,
        Notification,
        Prediction,
        Release,
        TargetStatus,
        TrafficPlan,
        Window,
    )


class Registry(Protocol):
    """The model registry: builds (runs with files), candidates (versions), aliases and tags."""

    def open_build(self, model: str, build_id: str, tags: Mapping[str, str]) -> str:
        """Return the run id of the build; the same run again for the same (model, build_id); sets the tags."""

    def close_build(self, run_id: str, *, succeeded: bool) -> None:
        """Mark the build's run as finished or failed."""

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Record figures on the build's run."""

    def put_file(self, run_id: str, path: str, source: Path) -> None:
        """Store one file at `path` of the run, replacing what was there."""

    def put_directory(self, run_id: str, path: str, source: Path) -> None:
        """Make the files below `source` the files under `path` of the run; what an earlier try left there goes away."""

    def put_json(self, run_id: str, path: str, document: object) -> None:
        """Store a JSON document at `path` of the run."""

    def get_file(self, run_id: str, path: str, destination: Path) -> None:
        """Write the stored file to `destination`; raises NotFoundError when there is none."""

    def get_directory(self, run_id: str, path: str, destination: Path) -> None:
        """Write every stored file below `path` to `destination`; raises NotFoundError when there is none."""

    def get_json(self, run_id: str, path: str) -> Any:
        """Return the stored JSON document; raises NotFoundError when there is none."""

    def list_files(self, run_id: str, path: str) -> list[str]:
        """Return the paths of the files directly below `path`, sorted; empty when there are none."""

    def page(self, run_id: str, path: str) -> str:
        """Return the address where a person looks at a stored file."""

    def register(self, model: str, run_id: str, tags: Mapping[str, str], description: str) -> Candidate:
        """Make the run's model a new version; returns the existing one when the run has one already."""

    def candidate(self, model: str, version: int) -> Candidate:
        """Return a version; raises NotFoundError."""

    def candidates(self, model: str) -> list[Candidate]:
        """Return all versions, newest first; empty for an unknown model."""

    def find_candidate(self, model: str, tag: str, value: str) -> Candidate | None:
        """Return the newest version that has this tag, or None."""

    def by_alias(self, model: str, alias: str) -> Candidate | None:
        """Return the version that the alias points to, or None."""

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point the alias to the version."""

    def delete_alias(self, model: str, alias: str) -> None:
        """Remove the alias; nothing happens when there is none."""

    def set_tags(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version; other tags stay."""


class ServingTarget(Protocol):
    """An environment where versions serve. Targets own their desired state and survive their own restart."""

    def deploy(self, release: Release) -> None:
        """Load the version next to the others and return once it is ready; no traffic moves.

        Raises IntegrityError when digest, signature or approval do not hold, TargetUnavailable when not
        reachable, DeliveryStopped when the version cannot be made ready.
        """

    def set_traffic(self, model: str, plan: TrafficPlan) -> None:
        """Switch to the plan in one atomic change.

        Raises DeliveryStopped when a version in it is not ready, TargetUnavailable when it will be in a moment.
        """

    def status(self, model: str) -> TargetStatus:
        """Return what is desired and what is observed; plan None when the model is not served."""

    def observe(self, model: str, since: datetime) -> list[VersionObservation]:
        """Return what each version did since the moment; what a restart of the target forgot is not counted."""

    def predict(self, model: str, frame: pd.DataFrame) -> Prediction:
        """Send the rows as one request, as any client would; one prediction per row."""

    def undeploy(self, model: str, version: int) -> None:
        """Stop a version that has no traffic; nothing happens when it is not deployed."""


class PredictionLog(Protocol):
    """What an environment answered, by data time."""

    def read(self, model: str, window: Window, features: Sequence[str] | None = None) -> pd.DataFrame:
        """Return one row per answered prediction whose event time is in the window.

        Columns: request_id, key, event_time (UTC), logged_at (UTC), version (int), role (champion | canary |
        shadow), prediction, latency_ms, and the features as the caller sent them: all, or those that are named.
        """


class DataSource(Protocol):
    """A dataset partitioned by time."""

    def newest(self) -> datetime:
        """Return the end of the newest data (UTC): just after the newest timestamp; raises DataError when empty."""

    def read(self, window: Window, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the rows of the window ordered by time then key; may be empty; raises DataError when missing."""


class GitHost(Protocol):
    """Where model repositories live."""

    def resolve(self, url: str, ref: str) -> str:
        """Return the full SHA of a branch, tag or SHA; raises RepositoryError when repository or ref is missing."""

    def checkout(self, url: str, sha: str, destination: Path) -> Commit:
        """Write the files of the commit (no .git) to `destination`, which must not exist."""


class Reports(Protocol):
    """The report that people read about a window."""

    def write(
        self, reference: pd.DataFrame, current: pd.DataFrame, *, columns: ReportColumns, html: Path, document: Path
    ) -> None:
        """Compare current with reference; write the HTML report and its results as JSON."""


class DataTests(Protocol):
    """Tests of a build's two windows by a tool of its own: a second opinion, and pages that people read."""

    def run(self, windows: Mapping[str, pd.DataFrame], tests: Sequence[DataTest], pages: Path) -> list[TestResult]:
        """Return one result for each test, in their order; write a page `<window>.html` for each tested window.

        `windows` are the frames `training` and `holdout` in plain types: numbers, text, booleans, moments. Raises
        DataError when the tool cannot read these rows, TransientError when a limit stopped it.
        """


class ReportColumns(Protocol):
    """Which columns of the two frames mean what, and what counts as drift.

    `label` is None while it is not known; `drift_threshold` is the PSI from which a column has drifted, `drift_share`
    the share of drifted columns from which the frame has.
    """

    @property
    def numerical(self) -> Sequence[str]: ...
    @property
    def categorical(self) -> Sequence[str]: ...
    @property
    def prediction(self) -> str: ...
    @property
    def label(self) -> str | None: ...
    @property
    def kind(self) -> str: ...
    @property
    def drift_threshold(self) -> float: ...
    @property
    def drift_share(self) -> float: ...


class BillOfMaterials(Protocol):
    """The format in which scanners read what an environment consists of."""

    def write(self, components: Sequence[Component], destination: Path, *, name: str, version: str) -> None:
        """Write the bill of the environment `name` in its `version`; the same components give the same bytes."""


class EvaluationPages(Protocol):
    """The page that people read about a candidate and the champion."""

    def write(self, page: Page, directory: Path) -> None:
        """Write `evaluation.html` and `figures/<name>.png` of every drawing below the directory."""


class Notifier(Protocol):
    """Tells the owners of a model what happened."""

    def notify(self, notification: Notification) -> None:
        """Deliver the message; raises TransientError when it could not be delivered."""


class Clock(Protocol):
    """The time of the world (data time is never read from here)."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware UTC."""


class Signer(Protocol):
    """Signs and verifies model directories and statements with the platform's key."""

    def sign_directory(self, directory: Path, signature: Path) -> None:
        """Sign all files of the directory; the signature is written outside of it."""

    def sign_statement(self, statement: Mapping[str, Any]) -> str:
        """Return the statement with its signature, as one JSON text."""


class Verifier(Protocol):
    """Checks what the signer signed; needs the public key only."""

    def verify_directory(self, directory: Path, signature: Path) -> None:
        """Raise IntegrityError when any file was added, removed or changed, or the key is unknown."""

    def verify_statement(self, signed: str) -> dict[str, Any]:
        """Return the statement; raises IntegrityError when the signature does not hold."""
