"""What live tests deliver: a tiny model with its Git repository, its data and its spec."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from taxiway.demo.commits import BareRepository, Change, append, copy_of, replace

MODEL = "tumours"
FIRST_EXAMINATION = datetime(2024, 1, 1, tzinfo=UTC)
BETWEEN_EXAMINATIONS = timedelta(hours=2, minutes=30)
COMMITTED_AT = datetime(2024, 3, 1, tzinfo=UTC)

_TRAIN = "src/tumours/train.py"
_BEGINNING = "    features = frame.drop(columns=NOT_MEASURED)\n    model"
_FAILING_TEST = '\n\ndef test_the_earth_is_flat() -> None:\n    """This never holds."""\n    assert "round" == "flat"\n'

BROKEN: dict[str, Change] = {
    "no-taxiway-section": replace("pyproject.toml", '[tool.taxiway]\ntrain = "tumours.train:train"\n', ""),
    "failing-unit-test": append("tests/unit/test_fit.py", _FAILING_TEST),
    "train-raises": replace(_TRAIN, _BEGINNING, '    raise ValueError("no such luck")\n' + _BEGINNING),
    "train-hangs": replace(_TRAIN, _BEGINNING, "    __import__('threading').Event().wait()\n" + _BEGINNING),
    "no-model": replace(_TRAIN, _BEGINNING, "    return\n" + _BEGINNING),
    "no-signature": replace(
        _TRAIN, "        signature=infer_signature(features.head(), model.predict(None, features.head())),\n", ""
    ),
}
"""Branch -> the one thing that is wrong on it."""


def make_tumours(path: Path) -> BareRepository:
    """Make the model's bare repository with `main` and one branch for each entry of BROKEN; repeatable."""
    repository = BareRepository(path)
    # Its lock is a link to the example's (a file in the copy), so that one environment serves both models.
    sources = copy_of(Path(__file__).parent / "repositories" / MODEL)
    repository.commit("Tell malignant from benign tumours", sources, at=COMMITTED_AT)
    for branch, change in BROKEN.items():
        repository.commit(f"Break it: {branch}", change, at=COMMITTED_AT, branch=branch, base="main")
    return repository


def write_tumours(directory: Path) -> datetime:
    """Write 569 examinations over 60 days, one Parquet file per month; returns the end of the data."""
    frame = tumours()
    for month, rows in frame.groupby(frame["examined_at"].dt.strftime("%Y-%m")):
        partition = directory / f"period={month}"
        partition.mkdir(parents=True)
        rows.to_parquet(partition / "part-0.parquet", index=False)
    return frame["examined_at"].max().to_pydatetime() + timedelta(microseconds=1)


def tumours() -> pd.DataFrame:
    """Return scikit-learn's breast cancer data, one made-up examination every 2.5 hours, in a fixed shuffled order."""
    from sklearn.datasets import load_breast_cancer

    measured = load_breast_cancer(as_frame=True)
    features = measured.data.rename(columns=lambda name: name.replace(" ", "_"))
    rows = features.assign(malignant=(measured.target == 0).astype("float64"))
    rows = rows.sample(frac=1, random_state=np.random.RandomState(569)).reset_index(drop=True)
    times = pd.date_range(FIRST_EXAMINATION, periods=len(rows), freq=BETWEEN_EXAMINATIONS, unit="us")
    rows.insert(0, "patient_id", [f"P{number:04d}" for number in range(len(rows))])
    rows.insert(1, "examined_at", times)
    return rows


def spec_text(*, repository: str, data: str, **sections: Any) -> str:
    """Return the model spec as YAML; `sections` replace whole top-level keys, such as `approval` or `rollout`."""
    spec = {
        "model": MODEL,
        "description": "Is this tumour malignant?",
        "owner": "clinic-ml",
        "repository": {"url": repository, "branch": "main", "poll": "10s"},
        "task": {"kind": "binary", "label": "malignant", "key": "patient_id", "timestamp": "examined_at"},
        "data": {
            "uri": data,
            "features": [name for name in tumours() if name not in ("patient_id", "examined_at", "malignant")],
            "holdout_window": "14d",
            "checks": {"min_rows": 300, "ranges": {"mean_radius": [0, 100]}},
        },
        "params": {"C": 1.0},
        "package": {"code": True},
        "gates": {"metrics": {"roc_auc": {"min": 0.9, "margin": 0.05}}},
        "uat": {"testers": ["ana", "ben"], "quorum": 1},
        "approval": {"approvers": ["dana"]},
        "monitoring": {"performance": {"metric": "roc_auc", "max_drop": 0.1, "min_labels": 50}},
        "limits": {"test": "2m", "train": "30s", "predict": "1m"},
    }
    return yaml.safe_dump({**spec, **sections}, sort_keys=False)
