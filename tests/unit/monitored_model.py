"""A small model in production: its reference, its traffic and its late labels, for tests of monitoring."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from taxiway.adapters.prediction_log import LogEntry
from taxiway.domain.values import CHAMPION, Candidate, Window
from taxiway.spec import ModelSpec
from taxiway.stages.evaluate import REFERENCE
from tests.fakes import FakeClock, FakeData, FakeNotifier, FakeRegistry
from tests.fakes_reports import FakeReports
from tests.fakes_serving import FakePredictionLog

MODEL = "delays"
FEATURES = ("temp", "carrier")
TRAINED_UNTIL = datetime(2013, 4, 1, tzinfo=UTC)
MAY = Window(datetime(2013, 5, 1, tzinfo=UTC), datetime(2013, 5, 29, tzinfo=UTC))
ROWS_PER_DAY = 20


def model_spec(**changes: Any) -> ModelSpec:
    """Return the spec; `changes` replace whole sections."""
    document: dict[str, Any] = {
        "model": MODEL,
        "description": "late or not",
        "owner": "ops",
        "repository": {"url": "file:///nowhere"},
        "task": {"kind": "binary", "label": "late", "key": "flight", "timestamp": "at", "label_delay": "1d"},
        "data": {"uri": "file:///nowhere", "features": FEATURES, "checks": {"ranges": {"temp": [-50, 50]}}},
        "gates": {"metrics": {"roc_auc": {}}},
        "uat": {"testers": ["ana"]},
        "approval": {"approvers": ["dana"]},
        "monitoring": {
            "drift": {"column": 0.2, "share": 0.5, "prediction": 0.25},
            "performance": {"metric": "roc_auc", "max_drop": 0.1, "min_labels": 200},
            "report_rows": 100,
        },
        "retraining": {"on": ["performance", "drift"], "cooldown": "7d", "min_new_labels": 100, "max_per_week": 2},
    }
    return ModelSpec.model_validate({**document, **changes})


def flights(window: Window, *, seed: int = 1, temp: float = 10.0) -> pd.DataFrame:
    """Return flights of every hour of the window; warm ones are late more often."""
    rng = np.random.default_rng(seed)
    days = (window.end - window.start).days
    count = days * ROWS_PER_DAY
    at = pd.date_range(window.start, freq=timedelta(days=1) / ROWS_PER_DAY, periods=count)
    warmth = rng.normal(0, 5, count)
    return pd.DataFrame(
        {
            "flight": np.arange(count) + int(window.start.timestamp()),
            "at": at.astype("datetime64[us, UTC]"),
            "temp": temp + warmth,
            "carrier": rng.choice(["AA", "UA"], count),
            "late": (rng.random(count) < 1 / (1 + np.exp(-warmth / 3))).astype("float64"),
            "prediction": 1 / (1 + np.exp(-warmth / 3)),
        }
    )


@dataclass
class Production:
    """The champion (version 1), its reference and what it answered."""

    spec: ModelSpec = field(default_factory=model_spec)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    log: FakePredictionLog = field(default_factory=FakePredictionLog)
    notifier: FakeNotifier = field(default_factory=FakeNotifier)
    reports: FakeReports = field(default_factory=FakeReports)
    clock: FakeClock = field(default_factory=FakeClock)
    data: FakeData = field(default_factory=lambda: FakeData(flights(MAY), timestamp="at", key="flight"))

    def promote(self, name: str = "first", *, trained_until: datetime = TRAINED_UNTIL) -> Candidate:
        """Make a new version the champion."""
        run_id = self.registry.open_build(MODEL, name, {})
        holdout = Window(TRAINED_UNTIL - timedelta(days=14), TRAINED_UNTIL)
        self.store_reference(run_id, flights(holdout, seed=2))
        tags = {"taxiway.trained_until": trained_until.isoformat()}
        candidate = self.registry.register(MODEL, run_id, tags, name)
        self.registry.set_alias(MODEL, CHAMPION, candidate.version)
        return self.registry.candidate(MODEL, candidate.version)

    def store_reference(self, run_id: str, rows: pd.DataFrame) -> None:
        """Keep the rows as the run's reference."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "reference.parquet"
            rows.to_parquet(path, index=False)
            self.registry.put_file(run_id, REFERENCE, path)

    def answer(self, rows: pd.DataFrame, *, version: int = 1, role: str = "champion", hour: int = 0) -> None:
        """Log the rows as one answered request; a later hour is a later answer."""
        self.log.add(MODEL, self.entry(rows, version=version, role=role, hour=hour))

    def entry(self, rows: pd.DataFrame, *, version: int = 1, role: str = "champion", hour: int = 0) -> LogEntry:
        """Return the rows as one answered request."""
        columns = [name for name in ("flight", "at", *FEATURES) if name in rows]
        sent = rows[columns].astype(object).where(rows[columns].notna(), None)
        sent["at"] = rows["at"].map(lambda moment: moment.isoformat())
        return LogEntry(
            request_id=f"request-{version}-{role}-{hour}",
            logged_at=MAY.start + timedelta(hours=hour),
            version=version,
            role=role,
            latency_ms=1.0,
            key="flight",
            timestamp="at",
            columns=columns,
            rows=sent.to_numpy().tolist(),
            predictions=rows["prediction"].tolist(),
        )

    def stored_frame(self, run_id: str, path: str) -> pd.DataFrame:
        """Return a Parquet file of the run."""
        return pd.read_parquet(io.BytesIO(self.registry.runs[run_id].files[path]))
