"""Real, tiny models for the gateway: good ones, and those that misbehave."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from datetime import timedelta
from pathlib import Path

from taxiway.stages.environments import ensure_environment

PROJECT = Path(__file__).resolve().parents[1]
LOCK = PROJECT / "examples" / "flight_delays" / "requirements.txt"
CACHE = Path(os.environ.get("TAXIWAY_TEST_CACHE", Path(tempfile.gettempdir()) / "taxiway-cache"))
NEEDS_Z, DOES_NOT_LOAD, SLOW, HUNGRY, SPY, LATE, LATEST = 3, 4, 5, 6, 7, 8, 9
LOAD_SECONDS, LATEST_SECONDS = 4, 100
STARTED = "slow-model-started"

MAKE_MODELS = """
import sys
from pathlib import Path
import mlflow.sklearn, pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

root = Path(sys.argv[1])
frame = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "y": [0.0, 0.0, 1.0, 1.0], "z": [0.0, 1.0, 0.0, 1.0]})
for version, columns in ((1, ["x", "y"]), (2, ["x", "y"]), (3, ["x", "y", "z"])):
    model = LinearRegression().fit(frame[columns], frame["x"] * version + frame["y"])
    signature = infer_signature(frame[columns], model.predict(frame[columns]))
    mlflow.sklearn.save_model(model, root / str(version), signature=signature, serialization_format="cloudpickle",
                              pip_requirements=["mlflow-skinny"])
for version, source in enumerate(sys.argv[2:], 5):
    path = root / f"model_{version}.py"
    path.write_text(source)
    mlflow.pyfunc.save_model(root / str(version), python_model=str(path), pip_requirements=["mlflow-skinny"],
                             signature=infer_signature(frame[["x"]], frame["x"]))
"""
SLOW_MODEL = f"""
import os, time
from pathlib import Path
import mlflow

class Slow(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        seconds = float(model_input["x"].max())
        if seconds < 0:
            os._exit(1)
        if seconds > 0:
            (Path.home() / {STARTED!r}).touch()
        time.sleep(seconds)
        return model_input["x"].to_numpy()

mlflow.models.set_model(Slow())
"""
HUNGRY_MODEL = """
import time
import mlflow

class Hungry(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        megabytes = int(model_input["x"].max())
        if megabytes > 10:
            held = b"x" * (megabytes * 1024 * 1024)
            time.sleep(30)
        return model_input["x"].to_numpy()

mlflow.models.set_model(Hungry())
"""
SPY_MODEL = """
import os, socket
from pathlib import Path
import mlflow

MODEL = Path(__file__).resolve().parent
HOME = MODEL.parents[3]

def connect(*address):
    with socket.create_connection(address, timeout=2):
        return "connected"

ATTEMPTS = {
    "state": lambda port: (HOME / "state.json").read_text(),
    "gateway": lambda port: [str(path) for path in HOME.iterdir() if path.name != "versions"],
    "other versions": lambda port: [str(path) for path in (HOME / "versions").glob("*/*") if path != MODEL.parent],
    "signature": lambda port: [str(path) for path in MODEL.parent.iterdir() if path != MODEL],
    "other workspaces": lambda port: [str(path) for path in Path.home().parents[1].iterdir()
                                      if path != Path.home().parent],
    "network": lambda port: connect("127.0.0.1", port),
    "processes": lambda port: [name for name in os.listdir("/proc") if name.isdigit()
                               and b"gateway_process" in Path("/proc", name, "cmdline").read_bytes()],
    "own model": lambda port: (MODEL / "MLmodel").write_text("evil"),
    "system": lambda port: Path("/usr/evil").write_text("evil"),
    "token": lambda port: [name for name in os.environ if "TOKEN" in name or "KEY" in name],
}

def spy(port):
    for name, attempt in ATTEMPTS.items():
        try:
            if attempt(port):
                yield name
        except OSError:
            pass

class Spy(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.at_load = list(spy(1))

    def predict(self, context, model_input):
        return [str(self.at_load + list(spy(int(x)))) for x in model_input["x"]]

mlflow.models.set_model(Spy())
"""

LATE_MODEL = """
import time
import mlflow

class Late(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        time.sleep({seconds})

    def predict(self, context, model_input):
        return model_input["x"].to_numpy()

mlflow.models.set_model(Late())
"""


def tiny_models(directory: Path) -> Path:
    """Return a directory with the models of this module, made once.

    1 and 2 predict x * version + y; 3 needs z too; 4 does not load; 5 takes x seconds, or dies when x is negative;
    6 takes x megabytes when x is more than 10; 7 predicts what it should not have got, on x as a port of this machine;
    8 and 9 load for LOAD_SECONDS and LATEST_SECONDS.
    """
    made = directory / "tiny-models"
    if not made.exists():
        fresh = directory / "tiny-models.new"
        python = ensure_environment(LOCK, CACHE, timeout=timedelta(minutes=10)).python
        late = [LATE_MODEL.format(seconds=seconds) for seconds in (LOAD_SECONDS, LATEST_SECONDS)]
        sources = [SLOW_MODEL, HUNGRY_MODEL, SPY_MODEL, *late]
        subprocess.run([python, "-c", MAKE_MODELS, fresh, *sources], check=True, capture_output=True)
        shutil.copytree(fresh / "1", fresh / str(DOES_NOT_LOAD))
        (fresh / str(DOES_NOT_LOAD) / "model.pkl").write_bytes(b"this is no pickle")
        fresh.rename(made)
    return made
