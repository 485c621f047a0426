"""Real, tiny MLflow models that behave well or badly when they are served, and builds that have them."""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build
from taxiway.stages.data import HOLDOUT
from taxiway.stages.digests import directory_digest, file_digest
from taxiway.stages.environments import ensure_environment
from taxiway.stages.evidence_store import record
from taxiway.stages.train import TRAINED_ANSWERS
from tests.fakes import FakeClock, FakeRegistry
from tests.gateway_models import CACHE, LOCK

ROWS = 60
FRAME = pd.DataFrame(
    {
        "id": [f"row-{row}" for row in range(ROWS)],
        "at": pd.date_range("2013-01-01", periods=ROWS, freq="h", tz="UTC"),
        "x": [row / 10 for row in range(ROWS)],
        "y": [float(row % 3) for row in range(ROWS)],
        "c": ["abc"[row % 3] for row in range(ROWS)],
        "late": [row % 2 for row in range(ROWS)],
    }
)
GOOD = "return x / 10 + y / 100"
BODIES = {
    "good": GOOD,
    "nan": "return np.where(x > 5.05, np.nan, x)",
    "elsewhere": f"{GOOD} if 'PYTHONPATH' in os.environ else x",
    "dies": f"{GOOD} if len(x) else os._exit(7)",
    "leaks": f"if not len(x): raise ValueError(f'no rows for {{frame}}')\n        {GOOD}",
    "slow": f"time.sleep(0.02); {GOOD}",
    "mean": "return x - x.mean()",
    "short": "return x[:1]",
    "labels": "return np.where(x > 3, 'far', np.where(y > 0, 'near', 'here'))",
    "scores": "return np.column_stack([x, y, 9 - x - y]) / 9",
    "stubborn": f"if not len(x): time.sleep(600)\n        {GOOD}",
    "never": "return x",
}
EXAMPLES = {name for name in BODIES if name not in ("never", "dies", "stubborn")}
MAKE = """
import json, sys
from pathlib import Path
import mlflow, numpy as np, pandas as pd
from mlflow.models import infer_signature

root = Path(sys.argv[1])
frame = pd.read_parquet(root / "frame.parquet")[["x", "y", "c"]]
for name, body in json.loads((root / "bodies.json").read_text()).items():
    sleep = "time.sleep(600)" if name == "never" else "pass"
    script = root / f"{name}.py"
    script.write_text(f'''
import os, time
import mlflow, numpy as np

class Model(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        {sleep}
    def predict(self, context, model_input, params=None):
        frame, x, y = model_input, model_input["x"].to_numpy(), model_input["y"].to_numpy()
        {body}

mlflow.models.set_model(Model())
''')
    answers = np.array(["far"]) if name == "labels" else np.array([1.0])
    example = frame.head(2) if name in sys.argv[2].split() else None
    mlflow.pyfunc.save_model(root / name, python_model=str(script), pip_requirements=["mlflow-skinny"],
                             input_example=example, signature=infer_signature(frame, answers))
"""


def make_models(root: Path) -> Path:
    """Save one model of each body and return their directory."""
    FRAME.to_parquet(root / "frame.parquet")
    (root / "bodies.json").write_text(json.dumps(BODIES))
    python = ensure_environment(LOCK, CACHE, timeout=timedelta(minutes=10)).python
    done = subprocess.run(
        [python, "-c", MAKE, root, " ".join(EXAMPLES)], capture_output=True, text=True, check=False, cwd=root
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return root


def small_spec(kind: str = "binary", **sections: Any) -> ModelSpec:
    """Return the spec of a model with the columns of FRAME."""
    metric = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "rmse"}[kind]
    classes = {"classes": ["far", "here", "near"]} if kind == "multiclass" else {}
    document = {
        "model": "small",
        "description": "adds",
        "owner": "us",
        "repository": {"url": "memory://small"},
        "task": {"kind": kind, "label": "late", "key": "id", "timestamp": "at", **classes},
        "data": {"uri": "/nowhere", "features": ["x", "y", "c"]},
        "gates": {"metrics": {metric: {"min": 0}}},
        "uat": {"testers": ["ana"]},
        "approval": {"approvers": ["dana"]},
        "monitoring": {"performance": {"metric": metric, "max_drop": 1, "min_labels": 1}},
        **sections,
    }
    return ModelSpec.model_validate(document)


def trained_build(registry: FakeRegistry, model: Path, answers: list[Any]) -> Build:
    """Return a build that has the model, with these answers to the first rows from its training process."""
    run_id = registry.open_build("small", model.name, {})
    registry.put_directory(run_id, "model", model)
    registry.put_file(run_id, "taxiway/requirements.txt", LOCK)
    registry.put_file(run_id, HOLDOUT, model.parent / "frame.parquet")
    data = FRAME[["x", "y", "c"]].head(len(answers)).to_numpy().tolist()
    columns = [{"name": "x", "type": "double", "required": True}, {"name": "c", "type": "string", "required": True}]
    document = {"inputs": {"columns": ["x", "y", "c"], "data": data}, "predictions": answers, "columns": columns}
    registry.put_json(run_id, TRAINED_ANSWERS, document)
    trained = Evidence("train", Verdict.PASSED, FakeClock().now(), (), {"digest": directory_digest(model)})
    record(registry, run_id, trained)
    return Build("small", model.name, run_id, "1" * 40, "ds@example.com", "src", file_digest(LOCK), "commit", "ds")
