"""Predicts a frame with a packaged model, in the model's environment.

`predict.py --model DIR --frame features.parquet --out predictions.parquet` writes one row per input row: the column
`prediction`, or `prediction_0`, `prediction_1`, ... when the model answers several per row. Exit code 3: the model
cannot be loaded; 4: it raised; 5: it did not answer once per row. The end of stderr says what to do.
"""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

BAD_MODEL, RAISED, WRONG_SHAPE = 3, 4, 5


def main() -> int:
    """Predict, check and write; returns the exit code."""
    arguments = _arguments()
    frame = pd.read_parquet(arguments.frame)
    try:
        model = _load(arguments.model)
    except BaseException:  # noqa: BLE001 (what a model's code raises is anybody's guess, SystemExit too)
        traceback.print_exc()
        advice = "mlflow.pyfunc.load_model must work in the lock's environment."
        return _fail(BAD_MODEL, f"the model cannot be loaded: {advice}")
    try:
        answers = np.asarray(model.predict(frame))
    except BaseException as error:  # noqa: BLE001 (same)
        traceback.print_exc()
        return _fail(RAISED, f"predict raised {type(error).__name__}: its traceback is above.")
    if answers.ndim not in (1, 2) or len(answers) != len(frame):
        return _fail(WRONG_SHAPE, f"predict answered shape {answers.shape} to {len(frame)} rows: answer once per row.")
    _columns(answers).to_parquet(arguments.out, index=False)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--model", "--frame", "--out"):
        parser.add_argument(name, type=Path, required=True)
    return parser.parse_args()


def _load(directory: Path) -> Any:
    sys.path.remove(str(Path(__file__).resolve().parent))  # a module `train` or `predict` is the model's own
    sys.dont_write_bytecode = True  # the directory is signed: what its code imports must add no file
    from mlflow.pyfunc import load_model

    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it warns at every call that has one column too many
    return load_model(str(directory))


def _columns(answers: np.ndarray[Any, Any]) -> pd.DataFrame:
    if answers.ndim == 1:
        return pd.DataFrame({"prediction": answers})
    return pd.DataFrame({f"prediction_{column}": answers[:, column] for column in range(answers.shape[1])})


def _fail(code: int, message: str) -> int:
    print(message, file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
