"""The `MLmodel` file of a packaged model, as MLflow writes it and as an attacker would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from taxiway.errors import TrainingError
from taxiway.spec import ModelSpec
from taxiway.stages.model_rules import judge_package
from tests.unit.model_versions import example_spec

SAVE = """
import sys, warnings
from pathlib import Path
import numpy, pandas
import mlflow.pyfunc, mlflow.sklearn
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression, LogisticRegression

class Own(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        return model_input["distance"].to_numpy()

root = Path(sys.argv[1])
frame = pandas.DataFrame({"distance": [1.0, 2.0, 3.0], "dep_hour": [1.0, 2.0, 2.0]})
linear = LinearRegression().fit(frame, [1.0, 2.0, 3.0])
classes = LogisticRegression().fit(frame, [0, 1, 2])
(root / "own").mkdir()
(root / "own" / "rules.py").write_text("")
(root / "file.py").write_text("import mlflow\\nmlflow.models.set_model(lambda model_input: model_input['distance'])\\n")
common = {"pip_requirements": ["mlflow-skinny"], "signature": infer_signature(frame, linear.predict(frame))}
plain = {"serialization_format": "cloudpickle", **common}
mlflow.sklearn.save_model(linear, root / "sklearn", input_example=frame, **plain)
mlflow.sklearn.save_model(linear, root / "unsigned", **(plain | {"signature": False}))
mlflow.sklearn.save_model(linear, root / "sklearn_code", code_paths=[str(root / "own")], **plain)
scores = infer_signature(frame, classes.predict_proba(frame))
plain |= {"signature": scores, "pyfunc_predict_fn": "predict_proba"}
mlflow.sklearn.save_model(classes, root / "scores", **plain)
mlflow.pyfunc.save_model(root / "own_class", python_model=Own(), artifacts={"file": str(root / "file.py")}, **common)
mlflow.pyfunc.save_model(root / "from_code", python_model=str(root / "file.py"), **common)
mlflow.pyfunc.save_model(root / "own_loader", loader_module="own", code_paths=[str(root / "own")], **common)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that MLflow itself wrote, by name."""
    root = tmp_path_factory.mktemp("saved")
    command = [sys.executable, "-W", "ignore", "-c", SAVE, str(root)]
    subprocess.run(command, check=True, capture_output=True)
    return root


def spec(*, kind: str = "regression", code: bool = False) -> ModelSpec:
    """Return the example's spec with another kind of task, or with code allowed."""
    document = example_spec().model_dump(exclude_defaults=True)
    metric = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "rmse"}[kind]
    document["task"] |= {"kind": kind, "classes": ("a", "b", "c") if kind == "multiclass" else ()}
    document["gates"] |= {"metrics": {metric: {"min": 0.0}}, "slices": None}
    document["monitoring"] |= {"performance": {"metric": metric, "max_drop": 0.1}}
    return ModelSpec(**document | {"package": {"code": code}})


@pytest.mark.parametrize(
    ("name", "kind", "loader"),
    [
        ("sklearn", "regression", "mlflow.sklearn"),
        ("sklearn", "binary", "mlflow.sklearn"),
        ("scores", "multiclass", "mlflow.sklearn"),
        ("own_class", "regression", "mlflow.pyfunc.model"),
    ],
)
def test_what_mlflow_saves_is_allowed(saved: Path, name: str, kind: str, loader: str) -> None:
    """Ordinary models pass, and the evidence has loader, signature and every file with its size."""
    package = judge_package(spec(kind=kind), saved / name)

    assert package.violations == ()
    assert package.description["loader"] == loader
    assert package.description["inputs"] == ["distance: double", "dep_hour: double"]
    assert {"path": "MLmodel", "bytes": (saved / name / "MLmodel").stat().st_size} in package.description["files"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sklearn_code", "python_function.code brings code of its own"),
        ("from_code", "python_function.model_code_path brings code of its own"),
        ("own_loader", "loader_module is 'own'"),
        ("unsigned", "its signature has no inputs"),
        ("scores", "a regression model answers one number per row"),
    ],
)
def test_what_runs_code_or_does_not_say_what_it_answers_is_refused(saved: Path, name: str, says: str) -> None:
    """The error says everything that is wrong, where, and what to do next."""
    with pytest.raises(TrainingError, match=r"the packaged model is refused: .*\[flights at 1234\] Next: ") as raised:
        judge_package(spec(), saved / name).refuse("flights at 1234")

    assert says in str(raised.value)


@pytest.mark.parametrize("name", ["sklearn_code", "from_code"])
def test_code_that_the_spec_allows_passes(saved: Path, name: str) -> None:
    """With package.code the platform's owner has said yes to code of the model's own."""
    assert judge_package(spec(code=True), saved / name).violations == ()


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 8)}]\n" for level in range(1, 9)
)
TWICE = "flavors:\n  python_function: {loader_module: mlflow.sklearn, loader_module: evil}\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (BOMB.encode(), "it has aliases"),
        (TWICE.encode(), "the key 'loader_module' occurs twice"),
        (b"flavors: {}\nflavors: {}\n", "the key 'flavors' occurs twice"),
        (b"flavors: !!python/object/apply:os.abort []\n", "could not determine a constructor"),
        (b"[" * 20_000, "recursion"),
        (b"- a list\n", "it is no mapping"),
        (b"", "it is no mapping"),
        (b"flavors: {", "while parsing"),
        (b"\xff\xfe\xff", "cannot be read"),
        (b"at: !!timestamp never\n", "cannot be read"),
        (b"yes: !!bool perhaps\n", "cannot be read"),
        (b"? [a, b]\n: c\n", "cannot be read"),
        (b"number: " + b"9" * 10_000, "cannot be read"),
        (b"# " + b"x" * 1_000_000, "larger than"),
    ],
    ids=str.split("bomb twice twice-at-top object deep list empty half binary time bool key number large"),
)
def test_a_description_that_cannot_be_trusted_is_not_read(tmp_path: Path, content: bytes, says: str) -> None:
    """Bombs, duplicate keys and everything that is no plain YAML are refusals, never crashes."""
    (tmp_path / "MLmodel").write_bytes(content)

    (problem,) = judge_package(spec(), tmp_path).violations

    assert problem.startswith("its MLmodel file cannot be read: ")
    assert says in problem


def test_a_directory_without_description_is_refused(tmp_path: Path) -> None:
    """A directory that is no MLflow model has no `MLmodel` file."""
    (tmp_path / "model.pkl").write_bytes(b"")

    assert "No such file" in judge_package(spec(), tmp_path).violations[0]


def test_modules_that_files_name_are_judged(saved: Path, tmp_path: Path) -> None:
    """A file beside the data that PyTorch's loader would import from is read, whatever its size."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "MLmodel").write_bytes((saved / "scores" / "MLmodel").read_bytes())
    (model / "pickle_module_info.txt").write_text("evil" * 1000)

    assert "pickle_module_info.txt names the module 'evilevil" in str(judge_package(spec(), model).violations)
