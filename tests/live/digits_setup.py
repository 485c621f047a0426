"""A multiclass model on real data: which digit a hand wrote."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from taxiway.demo.commits import BareRepository, copy_of

MODEL = "digits"
FIRST = "Read digits from their pixels"
FIRST_SCAN = datetime(2024, 1, 1, tzinfo=UTC)
BETWEEN_SCANS = timedelta(minutes=45)
COMMITTED_AT = datetime(2024, 3, 1, tzinfo=UTC)


def make_repository(path: Path) -> BareRepository:
    """Make the model's bare repository with `main`; repeatable."""
    repository = BareRepository(path)
    # Its lock is a link to the example's (a file in the copy), so that one environment serves both models.
    repository.commit(FIRST, copy_of(Path(__file__).parent / "repositories" / MODEL), at=COMMITTED_AT)
    return repository


def write_data(directory: Path) -> datetime:
    """Write 1,797 scans over 56 days, one Parquet file per month; returns the end of the data."""
    frame = scans()
    for month, rows in frame.groupby(frame["scanned_at"].dt.strftime("%Y-%m")):
        partition = directory / f"period={month}"
        partition.mkdir(parents=True)
        rows.to_parquet(partition / "part-0.parquet", index=False)
    newest: datetime = frame["scanned_at"].max().to_pydatetime()
    return newest + timedelta(microseconds=1)


def scans() -> pd.DataFrame:
    """Return scikit-learn's handwritten digits, one made-up scan every 45 minutes, in a fixed shuffled order."""
    from sklearn.datasets import load_digits

    images = load_digits(as_frame=True)
    rows = images.data.assign(digit=images.target)
    rows = rows.sample(frac=1, random_state=np.random.RandomState(1797)).reset_index(drop=True)
    rows.insert(0, "scan_id", [f"S{number:04d}" for number in range(len(rows))])
    rows.insert(1, "scanned_at", pd.date_range(FIRST_SCAN, periods=len(rows), freq=BETWEEN_SCANS, unit="us"))
    return rows


def spec_text(*, repository: str, data: str, **sections: Any) -> str:
    """Return the model spec as YAML; `sections` replace whole top-level keys."""
    pixels = [name for name in scans() if name.startswith("pixel_")]
    spec = {
        "model": MODEL,
        "description": "Which digit is this?",
        "owner": "post-office-ml",
        "repository": {"url": repository, "branch": "main", "poll": "10s"},
        "task": {"kind": "multiclass", "label": "digit", "key": "scan_id", "timestamp": "scanned_at"}
        | {"classes": list(range(10))},
        "data": {
            "uri": data,
            "features": pixels,
            "holdout_window": "14d",
            "checks": {
                "min_rows": 1000,
                "min_class_share": 0.05,
                "max_duplicates": 0,
                "types": {"pixel_3_3": "number"},
                "ranges": {"pixel_3_3": [0, 16]},
            },
        },
        "params": {"C": 1.0},
        "behaviour": {"rows": 100, "invariance": [{"column": "pixel_7_0", "max_change": 0.5}]},
        "gates": {
            "metrics": {
                "accuracy": {"min": 0.9},
                "f1_macro": {"min": 0.9, "margin": 0.05},
                "log_loss": {"max": 0.5, "margin": 0.1},
            },
        },
        "uat": {"testers": ["ana"]},
        "approval": {"approvers": ["dana"]},
        "monitoring": {"performance": {"metric": "accuracy", "max_drop": 0.1, "min_labels": 100}},
        "limits": {"test": "2m", "train": "1m", "predict": "1m"},
    }
    return yaml.safe_dump({**spec, **sections}, sort_keys=False)
