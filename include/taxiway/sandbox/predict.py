"""Predicts a frame with a packaged model, in the model's environment.

`predict.py --model DIR --frame features.parquet --out predictions.parquet --report report.json` writes one row per
input row: the column `prediction`, or `prediction_0`, `prediction_1`, ... when the model answers several per row.
The report holds rows, seconds (of the whole frame), and latency_p50_ms and latency_p99_ms of single rows. Exit code 3:
the model cannot be loaded; 4: it raised; 5: it did not answer once per row. The end of stderr says what to do.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

BAD_MODEL, RAISED, WRONG_SHAPE = 3, 4, 5
_WARM_UP = 5
_SINGLE_ROWS = 200


def main() -> int:
    """Predict, check, time and write; returns the exit code."""
    arguments = _arguments()
    frame = pd.read_parquet(arguments.frame)
    try:
        model = _load(arguments.model)
    except BaseException:  # noqa: BLE001 (what a model's code raises is anybody's guess, SystemExit too)
        traceback.print_exc()
        advice = "mlflow.pyfunc.load_model must work in the lock's environment."
        return _fail(BAD_MODEL, f"the model cannot be loaded: {advice}")
    try:
        started = time.perf_counter()
        answers = np.asarray(model.predict(frame))
        seconds = time.perf_counter() - started
        latencies = _latencies(model, frame)
    except BaseException as error:  # noqa: BLE001 (same)
        traceback.print_exc()
        return _fail(RAISED, f"predict raised {type(error).__name__}: its traceback is above.")
    if answers.ndim not in (1, 2) or len(answers) != len(frame):
        return _fail(WRONG_SHAPE, f"predict answered shape {answers.shape} to {len(frame)} rows: answer once per row.")
    _columns(answers).to_parquet(arguments.out, index=False)
    arguments.report.write_text(json.dumps({"rows": len(frame), "seconds": seconds, **latencies}))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--model", "--frame", "--out", "--report"):
        parser.add_argument(name, type=Path, required=True)
    return parser.parse_args()


def _load(directory: Path) -> Any:
    sys.path.remove(str(Path(__file__).resolve().parent))  # a module `train` or `predict` is the model's own
    sys.dont_write_bytecode = True  # the directory is signed: what its code imports must add no file
    from mlflow.pyfunc import load_model

    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it warns at every call that has one column too many
    return load_model(str(directory))


def _latencies(model: Any, frame: pd.DataFrame) -> dict[str, float]:
    """Time predictions of single rows spread over the frame, after a few that nobody counts; milliseconds."""
    positions = np.linspace(0, len(frame) - 1, _WARM_UP + _SINGLE_ROWS).astype(int)
    measured = []
    for position in positions:
        row = frame.iloc[[position]]
        started = time.perf_counter()
        model.predict(row)
        measured.append(1000 * (time.perf_counter() - started))
    p50, p99 = np.percentile(measured[_WARM_UP:], [50, 99])
    return {"latency_p50_ms": float(p50), "latency_p99_ms": float(p99)}


def _columns(answers: np.ndarray[Any, Any]) -> pd.DataFrame:
    if answers.ndim == 1:
        return pd.DataFrame({"prediction": answers})
    return pd.DataFrame({f"prediction_{column}": answers[:, column] for column in range(answers.shape[1])})


def _fail(code: int, message: str) -> int:
    print(message, file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
