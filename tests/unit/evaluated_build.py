"""Builds that are ready to be evaluated: a holdout, trained models of every kind of answer, and a champion."""

from __future__ import annotations

import json
import tempfile
import textwrap
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from taxiway.adapters.model_signing import KeySigner, KeyVerifier
from taxiway.domain.evidence import Evidence, Json, Verdict
from taxiway.domain.values import CHAMPION
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build
from taxiway.stages.candidates import DIGEST
from taxiway.stages.candidates import LOCK as LOCK_TAG
from taxiway.stages.data import HOLDOUT
from taxiway.stages.digests import directory_digest, file_digest
from taxiway.stages.evaluate import Evaluation
from taxiway.stages.evidence_store import record
from taxiway.stages.model_files import SIGNATURE
from tests.fakes import FakeClock, FakeRegistry
from tests.gateway_models import CACHE, LOCK

MODEL = "delays"
CLASSES = ("early", "late", "on time")
DAYS, ROWS_PER_DAY = 10, 40
# What a model answers to a frame, for each kind of answer; `noise` makes it worse.
ANSWERS = {
    "binary": "return 1 / (1 + np.exp(-frame['temp'].to_numpy() / 3 + noise))",
    "scores": """
        distance = np.abs(frame['temp'].to_numpy()[:, None] - np.array([-5, 5, 0]))
        scores = np.exp(-distance * (0.7 + noise[:, None] ** 2))
        return scores / scores.sum(axis=1, keepdims=True)""",
    "labels": """
        warmth = frame['temp'].to_numpy() + noise
        return np.array(['early', 'late', 'on time'])[np.where(warmth < -2.5, 0, np.where(warmth > 2.5, 1, 2))]""",
    "regression": "return 2 * frame['temp'].to_numpy() + noise",
}
KINDS = {"binary": "binary", "scores": "multiclass", "labels": "multiclass", "regression": "regression"}
METRICS = {"binary": "roc_auc", "scores": "log_loss", "labels": "f1_macro", "regression": "rmse"}
ALL_METRICS = {
    "binary": ("roc_auc", "pr_auc", "brier"),
    "scores": ("log_loss", "accuracy", "f1_macro"),
    "labels": ("f1_macro", "accuracy"),
    "regression": ("rmse", "mae", "r2"),
}


def spec_for(answers: str, **changes: Any) -> ModelSpec:
    """Return the spec of a model with this kind of answers; `changes` replace whole sections."""
    kind, metric = KINDS[answers], METRICS[answers]
    task = {"kind": kind, "label": "truth", "key": "flight", "timestamp": "at"}
    limit = {"max": 10.0} if metric in ("log_loss", "rmse") else {"min": 0.1}
    document: dict[str, Any] = {
        "model": MODEL,
        "description": "how late",
        "owner": "ops",
        "repository": {"url": "file:///nowhere"},
        "task": {**task, **({"classes": CLASSES} if kind == "multiclass" else {})},
        "data": {"uri": "file:///nowhere", "features": ["temp", "carrier", "gate"]},
        "gates": {
            "metrics": {name: {"margin": 0.5} for name in ALL_METRICS[answers]},
            "slices": {"by": ["carrier", "gate"], "metric": metric, "min_rows": 50, **limit},
        },
        "uat": {"testers": ["ana"]},
        "approval": {"approvers": ["dana"]},
        "monitoring": {"performance": {"metric": metric, "max_drop": 0.1, "min_labels": 100}},
    }
    return ModelSpec.model_validate({**document, **changes})


def holdout(answers: str) -> pd.DataFrame:
    """Return ten days of flights; of the carriers one is rare, and some rows have none."""
    rng = np.random.default_rng(3)
    rows = DAYS * ROWS_PER_DAY
    temp = rng.normal(0, 5, rows)
    noisy = temp + rng.normal(0, 3, rows)
    truth = {
        "binary": (noisy > 0).astype(int),
        "multiclass": np.array(CLASSES)[np.where(noisy < -2.5, 0, np.where(noisy > 2.5, 1, 2))],
        "regression": 2 * noisy,
    }[KINDS[answers]]
    carriers = np.array(["AA", "UA", "<b>'&", None], dtype=object)
    at = pd.date_range("2013-03-01", periods=rows, freq=timedelta(days=1) / ROWS_PER_DAY, tz="UTC")
    return pd.DataFrame(
        {
            "flight": [f"f{row}" for row in range(rows)],
            "at": at.astype("datetime64[us, UTC]"),
            "temp": temp,
            "carrier": carriers[rng.choice(4, rows, p=[0.45, 0.35, 0.05, 0.15])],
            "gate": np.where(rng.random(rows) < 0.2, np.nan, rng.integers(9, 12, rows)),
            "truth": truth,
        }
    )


@dataclass
class Evaluated:
    """A registry with a build that was trained, and perhaps a champion."""

    answers: str
    keys: tuple[Path, Path]
    spec: ModelSpec = field(init=False)
    frame: pd.DataFrame = field(init=False)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        """Make spec, holdout and the trained build."""
        self.spec, self.frame = spec_for(self.answers), holdout(self.answers)
        self.build = self._trained("commit-1", ANSWERS[self.answers], noise=0.1)

    def promote(self, body: str = "", *, noise: float = 0.4, inputs: tuple[str, ...] = ()) -> None:
        """Make another model the champion; `inputs` are the columns that its signature asks for."""
        build = self._trained("champion", body or ANSWERS[self.answers], noise=noise, inputs=inputs)
        with tempfile.TemporaryDirectory() as directory:
            model, signature = Path(directory) / "model", Path(directory) / "model.sig"
            self.registry.get_directory(build.run_id, "model", model)
            KeySigner(self.keys[0]).sign_directory(model, signature)
            self.registry.put_file(build.run_id, SIGNATURE, signature)
            tags = {DIGEST: directory_digest(model), LOCK_TAG: file_digest(LOCK)}
        version = self.registry.register(MODEL, build.run_id, tags, "champion").version
        self.registry.set_alias(MODEL, CHAMPION, version)

    def evaluate(self) -> Evidence:
        """Run the stage, with the environment of the example's lock."""
        verifier = KeyVerifier(self.keys[1])
        return Evaluation(self.spec, self.build, self.registry, verifier, CACHE, self.clock).run()

    def parquet(self, path: str) -> pd.DataFrame:
        """Return a stored frame of the build."""
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "frame.parquet"
            self.registry.get_file(self.build.run_id, path, file)
            return pd.read_parquet(file)

    def _trained(self, name: str, body: str, *, noise: float, inputs: tuple[str, ...] = ()) -> Build:
        run_id = self.registry.open_build(MODEL, name, {})
        with tempfile.TemporaryDirectory() as directory:
            write_model(Path(directory) / "model", body, noise=noise, inputs=inputs)
            self.registry.put_directory(run_id, "model", Path(directory) / "model")
            self.frame.to_parquet(Path(directory) / "holdout.parquet", index=False)
            self.registry.put_file(run_id, HOLDOUT, Path(directory) / "holdout.parquet")
        self.registry.put_file(run_id, "taxiway/requirements.txt", LOCK)
        stages: dict[str, dict[str, Json]] = {
            "train": {"size_mb": 0.1},
            "snapshot": {"data_end": "2013-03-11T00:00:00+00:00"},
            "package_checks": {"latency_p99_ms": 5.0, "size_mb": 0.1},
        }
        for stage, figures in stages.items():
            record(self.registry, run_id, Evidence(stage, Verdict.PASSED, self.clock.now(), figures=figures))
        return Build(MODEL, name, run_id, "1" * 40, "ds@example.com", "sha256:src", "sha256:lock", "commit", "ds")


@cache
def evaluated_with_champion(answers: str, keys: tuple[Path, Path]) -> tuple[Evaluated, Evidence]:
    """Return a build that was evaluated against a champion, once for all tests."""
    found = Evaluated(answers, keys)
    found.promote()
    return found, found.evaluate()


def write_model(directory: Path, body: str, *, noise: float, inputs: tuple[str, ...]) -> None:
    """Write an MLflow model whose `predict(self, frame)` has this body."""
    (directory / "code").mkdir(parents=True)
    mlmodel = "flavors:\n  python_function: {loader_module: answers, code: code, env: {}}\n"
    if inputs:
        columns = [{"type": "double", "name": name, "required": True} for name in inputs]
        mlmodel += f"signature:\n  inputs: '{json.dumps(columns)}'\n"
    (directory / "MLmodel").write_text(mlmodel)
    seed = f"noise = np.random.default_rng(5).normal(0, {noise}, len(frame))"
    method = textwrap.indent(f"{seed}\n{textwrap.dedent(body).strip()}", " " * 8)
    source = f"import numpy as np\n\nclass Model:\n    def predict(self, frame):\n{method}\n\n"
    (directory / "code" / "answers.py").write_text(source + "def _load_pyfunc(path):\n    return Model()\n")
