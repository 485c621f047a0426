"""Predictions of a stored model: made in its own environment, in the sandbox, and read back as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taxiway.errors import ContractError
from taxiway.spec import ModelSpec
from taxiway.stages.build import limits_for
from taxiway.stages.environments import ModelEnvironment
from taxiway.stages.sandbox import SCRIPTS, is_plain, run
from taxiway.stages.workspaces import workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Predictions:
    """One prediction per row (n,), or class probabilities (n, k)."""

    values: NDArray[np.generic]


def predict(
    spec: ModelSpec, model: Path, environment: ModelEnvironment, frame: pd.DataFrame, *, where: str
) -> Predictions:
    """Predict the features of the frame; raises ContractError when the model does not answer each row."""
    with workspace("predict") as directory:
        features, answers = directory / "features.parquet", directory / "answers.parquet"
        frame[list(spec.data.features)].to_parquet(features, index=False)
        command: list[str | Path] = [environment.python, SCRIPTS / "predict.py", "--model", model]
        command += ["--frame", features, "--out", answers]
        outcome = run(command, cwd=directory, limits=limits_for(spec, "predict"), reads=(model,))
        if not (outcome.succeeded and is_plain(directory) and answers.exists()):
            ending = outcome.limit or " | ".join(outcome.output.strip().splitlines()[-3:])
            raise ContractError(
                f"the model does not predict the holdout: {ending}",
                where=where,
                next_step="load it with mlflow.pyfunc.load_model and predict a few rows with missing values.",
            )
        return _read(answers)


def _read(answers: Path) -> Predictions:
    import pandas as pd

    columns = pd.read_parquet(answers)
    values = columns["prediction"].to_numpy() if "prediction" in columns else columns.to_numpy()
    return Predictions(values)
