"""Makes the models of rollout_under_load.py; runs with the python of a model environment.

1 to 3 predict nearly the same, 4 loads and answers no request. As a model's code this file is number 4.
"""

import sys
from pathlib import Path

import mlflow.pyfunc
import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression


class Broken(mlflow.pyfunc.PythonModel):
    """Answers no request."""

    def predict(self, context, model_input):
        """Fail."""
        raise RuntimeError


def main() -> None:
    """Save the models below the directory that the command line names."""
    root = Path(sys.argv[1])
    frame = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "y": [0.0, 0.0, 1.0, 1.0]})
    options = {"signature": infer_signature(frame, frame["x"]), "pip_requirements": ["mlflow-skinny"]}
    for version in (1, 2, 3):
        model = LinearRegression().fit(frame, frame["x"] + frame["y"] + version / 1000)
        mlflow.sklearn.save_model(model, root / str(version), serialization_format="cloudpickle", **options)
    mlflow.pyfunc.save_model(root / "4", python_model=__file__, **options)


if __name__ == "__main__":
    main()
else:
    mlflow.models.set_model(Broken())
