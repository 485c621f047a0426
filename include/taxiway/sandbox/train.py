"""Calls a model repository's train function, in the model's environment.

`train.py --entry package.module:function --frame training.parquet --params params.json --model-dir OUT --rows
rows.parquet --answers answers.json`, with the repository on PYTHONPATH. The saved model then predicts the rows: the
answers hold its `predictions` and the `columns` of its signature. Exit codes tell what went wrong: 3 the entry cannot
be imported or called, 4 it raised, 5 it wrote no MLflow model, 6 the model has no signature, 7 it does not predict. The
end of stderr says what to do.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

BAD_ENTRY, RAISED, NO_MODEL, NO_SIGNATURE, DOES_NOT_PREDICT = 3, 4, 5, 6, 7


def main() -> int:
    """Train and check what was written; returns the exit code."""
    arguments = _arguments()
    try:
        entry = _load(arguments.entry)
    except BaseException:  # noqa: BLE001 (the repository's module may raise whatever it likes, SystemExit too)
        traceback.print_exc()
        return _fail(BAD_ENTRY, f"{arguments.entry} cannot be imported: correct it, or [tool.taxiway] train.")
    if entry is None:
        return _fail(BAD_ENTRY, f"{arguments.entry} is no function: name train(frame, model_dir, params).")
    frame = pd.read_parquet(arguments.frame)
    params = json.loads(arguments.params.read_text(encoding="utf-8"))
    try:
        entry(frame, str(arguments.model_dir), params)
    except BaseException as error:  # noqa: BLE001 (same)
        traceback.print_exc()
        return _fail(RAISED, f"{arguments.entry} raised {type(error).__name__}: its traceback is above.")
    return _check(arguments.model_dir) or _answer(arguments.model_dir, arguments.rows, arguments.answers)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entry", required=True)
    parser.add_argument("--frame", type=Path, required=True)
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--answers", type=Path, required=True)
    return parser.parse_args()


def _load(entry: str) -> Callable[..., Any] | None:
    """Return the function, or None when the module has none of that name."""
    sys.path.remove(str(Path(__file__).resolve().parent))  # a module `train` or `predict` is the repository's own
    module, _, name = entry.partition(":")
    function = getattr(importlib.import_module(module), name, None)
    return function if callable(function) else None


def _check(model_dir: Path) -> int:
    if not (model_dir / "MLmodel").is_file():
        advice = "save it with mlflow.<flavor>.save_model(..., path=model_dir)."
        return _fail(NO_MODEL, f"no MLflow model was written: {advice}")
    from mlflow.models import get_model_info

    if get_model_info(str(model_dir)).signature is None:
        advice = "give save_model signature=mlflow.models.infer_signature(features, scores)."
        return _fail(NO_SIGNATURE, f"the model has no signature: {advice}")
    return 0


def _answer(model_dir: Path, rows: Path, answers: Path) -> int:
    """Write what the saved model predicts here, where it was made: the served one has to agree."""
    sys.dont_write_bytecode = True  # importing the model's code must add no file to it
    from mlflow.pyfunc import load_model

    frame = pd.read_parquet(rows)
    try:
        model = load_model(str(model_dir))
        predictions = np.asarray(model.predict(frame))
    except BaseException as error:  # noqa: BLE001 (what a model's code raises is anybody's guess, SystemExit too)
        traceback.print_exc()
        return _fail(DOES_NOT_PREDICT, f"the saved model raised {type(error).__name__}: its traceback is above.")
    if predictions.ndim not in (1, 2) or len(predictions) != len(frame):
        shape = f"shape {predictions.shape} to {len(frame)} rows"
        return _fail(DOES_NOT_PREDICT, f"the saved model answered {shape}: answer once per row.")
    schema: Any = model.metadata.signature.inputs
    columns = [] if schema is None else schema.to_dict()
    document = {"predictions": _as_json(predictions.tolist()), "columns": columns}
    answers.write_text(json.dumps(document, default=str), encoding="utf-8")
    return 0


def _as_json(value: Any) -> Any:
    """Return the predictions with null for what is no finite number, which JSON does not have."""
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fail(code: int, message: str) -> int:
    print(message, file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
