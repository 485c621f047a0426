"""The scripts that call a model repository's code: what they write, and how they say what went wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from taxiway.stages.sandbox import SCRIPTS

SIGNATURE = """
signature:
  inputs: '[{"type": "double", "name": "size", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]'
"""
MLMODEL = """
flavors:
  python_function: {loader_module: answers, code: code, env: {}}
"""
ANSWERS = """
import numpy as np

class Model:
    def predict(self, frame):
        return np.where(frame["size"] > 2, np.nan, frame["size"] / 10)

def _load_pyfunc(path):
    return Model()
"""
REPOSITORY = f"""
from pathlib import Path

def write(frame, model_dir, params):
    Path(model_dir).mkdir()
    Path(model_dir, "MLmodel").write_text('''{MLMODEL}{SIGNATURE}''')
    Path(model_dir, "seen.txt").write_text(f"{{len(frame)}} rows, depth {{params['depth']}}")
    Path(model_dir, "code").mkdir()
    Path(model_dir, "code", "answers.py").write_text({ANSWERS!r})

def write_unsigned(frame, model_dir, params):
    Path(model_dir).mkdir()
    Path(model_dir, "MLmodel").write_text('''{MLMODEL}''')

def write_nothing(frame, model_dir, params):
    pass

def write_dumb(frame, model_dir, params):
    write(frame, model_dir, params)
    Path(model_dir, "code", "answers.py").write_text("def _load_pyfunc(path): raise OSError('nothing to load')")

def give_up(frame, model_dir, params):
    raise ValueError("the moon is full")

def leave(frame, model_dir, params):
    raise SystemExit(0)

number = 7
"""


def run(script: str, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script as the stages do, with the repository in the current directory."""
    command = [sys.executable, str(SCRIPTS / script), *arguments]
    environment = {"PYTHONPATH": str(cwd), "HOME": str(cwd)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def train(repository: Path, entry: str) -> subprocess.CompletedProcess[str]:
    """Train with an entry of the repository, on three rows."""
    pd.DataFrame({"size": [1.0, 2.0, 3.0], "label": [0, 1, 1]}).to_parquet(repository / "frame.parquet")
    (repository / "params.json").write_text('{"depth": 3}')
    paths = ["--frame", "frame.parquet", "--params", "params.json", "--model-dir", str(repository / "model")]
    paths += ["--rows", "frame.parquet", "--answers", "answers.json"]
    return run("train.py", repository, "--entry", entry, *paths)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose module has the name of our own script."""
    (tmp_path / "train.py").write_text(REPOSITORY)
    (tmp_path / "broken.py").write_text("import a_package_that_nobody_has\n")
    return tmp_path


def test_train_calls_the_entry_with_frame_directory_and_params(repository: Path) -> None:
    """The repository's function gets the rows and the params, even when its module is called `train` as ours is."""
    done = train(repository, "train:write")

    assert done.returncode == 0, done.stderr
    assert (repository / "model" / "seen.txt").read_text() == "3 rows, depth 3"


@pytest.mark.parametrize(
    ("entry", "code", "message"),
    [
        ("nowhere:train", 3, "nowhere:train cannot be imported"),
        ("broken:train", 3, "broken:train cannot be imported"),
        ("train:number", 3, "train:number is no function"),
        ("train:missing", 3, "train:missing is no function"),
        ("train:give_up", 4, "train:give_up raised ValueError"),
        ("train:leave", 4, "train:leave raised SystemExit"),
        ("train:write_nothing", 5, "no MLflow model was written"),
        ("train:write_unsigned", 6, "the model has no signature"),
        ("train:write_dumb", 7, "the saved model raised OSError"),
    ],
)
def test_train_says_what_went_wrong(repository: Path, entry: str, code: int, message: str) -> None:
    """Each way to fail has its own exit code, and the last line of stderr says what to do."""
    done = train(repository, entry)

    assert (done.returncode, message in done.stderr.splitlines()[-1]) == (code, True), done.stderr


def test_train_writes_what_the_saved_model_answers(repository: Path) -> None:
    """The answers of the training process are there to compare with, null for NaN, and the signature's columns."""
    train(repository, "train:write")

    answers = json.loads((repository / "answers.json").read_text())
    assert answers["predictions"] == [0.1, 0.2, None]
    assert [(column["name"], column["type"]) for column in answers["columns"]] == [("size", "double")]
    files = {path.name for path in (repository / "model").rglob("*") if path.is_file()}
    assert files == {"MLmodel", "answers.py", "seen.txt"}, "importing the model's code added to it"


def test_train_shows_the_traceback_of_what_was_raised(repository: Path) -> None:
    """The data scientist sees the error as in a terminal."""
    assert "ValueError: the moon is full" in train(repository, "train:give_up").stderr


@dataclass(frozen=True)
class Answers:
    """What `predict.py` did and wrote."""

    done: subprocess.CompletedProcess[str]
    directory: Path

    @property
    def predictions(self) -> pd.DataFrame:
        return pd.read_parquet(self.directory / "out.parquet")


def predict(directory: Path, body: str, rows: int = 4) -> Answers:
    """Predict `rows` rows with a model whose `predict(self, frame)` has this body."""
    code = directory / "model" / "code"
    code.mkdir(parents=True)
    (directory / "model" / "MLmodel").write_text(MLMODEL)
    model = f"""
    class Model:
        def predict(self, frame):
            {body}

    def _load_pyfunc(path):
        return Model()
    """
    (code / "answers.py").write_text("import numpy as np\n" + textwrap.dedent(model))
    pd.DataFrame({"size": [float(row) for row in range(rows)]}).to_parquet(directory / "frame.parquet")
    paths = ["--frame", "frame.parquet", "--out", "out.parquet"]
    return Answers(run("predict.py", directory, "--model", "model", *paths), directory)


@pytest.fixture(scope="module")
def tenths(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """The answers of a model with one number per row."""
    return predict(tmp_path_factory.mktemp("tenths"), "return frame['size'].to_numpy() / 10")


def test_predict_writes_one_prediction_per_row(tenths: Answers) -> None:
    """A model with one number per row gives the column `prediction`, in the order of the rows."""
    assert tenths.done.returncode == 0, tenths.done.stderr
    assert tenths.predictions.to_dict("list") == {"prediction": [0.0, 0.1, 0.2, 0.3]}


def test_predict_leaves_the_model_directory_as_it_is(tenths: Answers) -> None:
    """The directory is signed: importing the model's code adds no file to it."""
    files = {path.name for path in (tenths.directory / "model").rglob("*") if path.is_file()}
    assert files == {"MLmodel", "answers.py"}


def test_predict_writes_a_column_per_class(tmp_path: Path) -> None:
    """A model with several numbers per row gives numbered columns."""
    answers = predict(tmp_path, "return np.column_stack([frame['size'], 1 - frame['size']])")

    assert list(answers.predictions.columns) == ["prediction_0", "prediction_1"]
    assert answers.predictions["prediction_1"].tolist() == [1.0, 0.0, -1.0, -2.0]


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("return np.zeros(len(frame) + 1)", 5, "predict answered shape (5,) to 4 rows"),
        ("return 0.5", 5, "predict answered shape () to 4 rows"),
        ("raise ValueError('no weather today')", 4, "predict raised ValueError"),
        ("raise SystemExit(0)", 4, "predict raised SystemExit"),
        ("this is no Python", 3, "the model cannot be loaded"),
    ],
)
def test_predict_says_what_went_wrong(tmp_path: Path, body: str, code: int, message: str) -> None:
    """A model that does not answer once per row, raises, or cannot be loaded never leaves predictions."""
    answers = predict(tmp_path, body)

    last_line = answers.done.stderr.splitlines()[-1]
    assert (answers.done.returncode, message in last_line) == (code, True), answers.done.stderr
    assert not (tmp_path / "out.parquet").exists()


def integrate(directory: Path, mlmodel: str) -> subprocess.CompletedProcess[str]:
    """Serve a model that answers 7 to everything, and ask it as integration tests do."""
    code = directory / "model" / "code"
    code.mkdir(parents=True)
    (directory / "model" / "MLmodel").write_text(mlmodel)
    (code / "answers.py").write_text(
        "class Model:\n    def predict(self, frame): return [7.0]\n\ndef _load_pyfunc(path): return Model()\n"
    )
    ask = (
        "import os, sys, urllib.request as web\n"
        "body, kind = b'{\"dataframe_records\": [{\"size\": 1.0}]}', {'Content-Type': 'application/json'}\n"
        "print(web.urlopen(web.Request(os.environ['MODEL_URL'] + '/invocations', body, kind)).read().decode())\n"
        "sys.exit(5)"
    )
    return run("integration.py", directory, "model", sys.executable, "-c", ask)


def test_integration_serves_the_model_to_the_command(tmp_path: Path) -> None:
    """The command asks the model at MODEL_URL, and its exit code is the script's."""
    done = integrate(tmp_path, MLMODEL + SIGNATURE)

    assert (done.returncode, json.loads(done.stdout)) == (5, {"predictions": [7.0]}), done.stderr


def test_integration_says_when_the_model_does_not_load(tmp_path: Path) -> None:
    """A model that cannot be loaded has an exit code of its own, and the command is not run."""
    done = integrate(tmp_path, "flavors: {}")

    assert (done.returncode, done.stdout) == (71, "")
    assert "python_function" in done.stderr
