"""What an `MLmodel` file may say: everything that would run, load or read something else is refused."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from taxiway.domain.packaged_model import PackagedModel, PackagePolicy, violations

POLICY = PackagePolicy(
    loaders=("mlflow.sklearn", "mlflow.xgboost", "mlflow.pyfunc.model", "mlflow.onnx", "mlflow.pytorch", "acme.loader"),
    code=False,
    features=("size", "colour"),
    kind="regression",
)
FILES = {"MLmodel": 900, "model.pkl": 5000, "conda.yaml": 100, "code/own/__init__.py": 10, "input_example.json": 50}
NUMBER = [{"type": "double"}]
SCORES = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 3]}}]


def columns(*names: str) -> list[dict[str, Any]]:
    """Return inputs of these names."""
    return [{"type": "double", "name": name, "required": True} for name in names]


def document(
    pyfunc: dict[str, Any] | None = None,
    *,
    inputs: Any = None,
    outputs: Any = NUMBER,
    flavors: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return a good file with these changes."""
    conf = {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", "predict_fn": "predict", "code": None}
    conf |= {"env": {"conda": "conda.yaml"}, **(pyfunc or {})}
    sklearn = {"pickled_model": "model.pkl", "serialization_format": "cloudpickle", "code": None}
    signature = {"inputs": json.dumps(inputs or columns("size")), "outputs": json.dumps(outputs), "params": None}
    return {
        "flavors": {"python_function": conf, **({"sklearn": sklearn} if flavors is None else flavors)},
        "signature": signature,
        "saved_input_example_info": {"artifact_path": "input_example.json", "type": "dataframe"},
        **more,
    }


def judged(made: dict[str, Any], policy: PackagePolicy = POLICY, **more: Any) -> str:
    """Return everything that is wrong with a package as one text."""
    return "; ".join(violations(PackagedModel(made, **{"files": FILES, **more}), policy))


def test_a_model_as_mlflow_saves_it_is_allowed() -> None:
    """A plain scikit-learn model with a signature and an example has nothing against it."""
    assert judged(document()) == ""


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (document({"loader_module": "evil"}), "loader_module is 'evil', which package.loaders does not have"),
        (document({"loader_module": "mlflow.sklearn.evil"}), "loader_module is 'mlflow.sklearn.evil'"),
        (document({"loader_module": ["mlflow.sklearn"]}), "loader_module is ['mlflow.sklearn']"),
        (document({"loader_module": None}), "loader_module is None"),
        ({"flavors": {}}, "no python_function flavor"),
        ({"flavors": ["python_function"]}, "no python_function flavor"),
        ({}, "no python_function flavor"),
        (document({"code": "code"}), "python_function.code brings code of its own (code)"),
        (document({"code": ["code"]}), "python_function.code brings code"),
        (document(flavors={"sklearn": {"code": "code"}}), "sklearn.code brings code"),
        (document({"model_code_path": "/somewhere/model.py"}), "python_function.model_code_path brings code"),
        (document(flavors={"spark": {}}), "the flavor 'spark', whose loader package.loaders does not have"),
        (document({"predict_fn": "__class__"}), "predict_fn is '__class__'"),
        (document({"config": "config.yaml"}), "config is no mapping"),
        (document(metadata={"mlflow.model.isExternal": True}), "its files are external"),
    ],
)
def test_what_would_run_other_code_is_refused(made: dict[str, Any], says: str) -> None:
    """A loader, code, flavor or function that the spec does not allow is named in the reason."""
    assert says in judged(made)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (document(flavors={"xgboost": {"model_class": "os.abort"}}), "xgboost.model_class names 'os.abort'"),
        (document(flavors={"xgboost": {"model_class": "xgboost_evil.core.Booster"}}), "xgboost.model_class"),
        (document(flavors={"pytorch": {"keras_module": "evil"}}), "pytorch.keras_module names 'evil'"),
        (document(flavors={"onnx": {"providers": [["QNN", {"backend_path": "evil.so"}]]}}), "onnx.providers"),
        (
            document(flavors={"onnx": {"onnx_session_options": {"extra_session_config": {"a": "b"}}}}),
            "onnx has an extra_session_config",
        ),
    ],
)
def test_what_a_flavor_would_import_or_load_is_refused(made: dict[str, Any], says: str) -> None:
    """Names of classes, modules and libraries that a loader resolves must belong to its own package."""
    assert says in judged(made)


def test_a_flavors_own_names_are_allowed() -> None:
    """What MLflow writes itself passes: a class of XGBoost, providers by name, a known pickle module."""
    conf = {"xgboost": {"model_class": "xgboost.core.Booster"}, "onnx": {"providers": ["CPUExecutionProvider"]}}
    named = {"data/pickle_module_info.txt": "mlflow.pytorch.pickle_module\n"}

    assert judged(document(flavors=conf), modules=named) == ""


@pytest.mark.parametrize("name", ["data/pickle_module_info.txt", "data/keras_module.txt"])
def test_a_file_that_names_a_module_is_read(name: str) -> None:
    """PyTorch's and TensorFlow's loaders import what these files name: nothing but their own modules may be there."""
    assert f"{name} names the module 'antigravity'" in judged(document(), modules={name: "antigravity"})


@pytest.mark.parametrize("place", ["data/MLmodel", "data/mlmodel"])
def test_a_second_description_is_refused(place: str) -> None:
    """Some loaders obey the `MLmodel` beside their data: a second one could say anything."""
    assert f"{place} is a second MLmodel file" in judged(document(), files={**FILES, place: 1})


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (document({"data": "/etc"}), "python_function.data is '/etc', which leaves"),
        (document({"model_path": "../model.pkl"}), "python_function.model_path is '../model.pkl', which leaves"),
        (document({"model_path": "a/../../b"}), "which leaves the model's directory"),
        (document({"model_path": "other.pkl"}), "python_function.model_path is 'other.pkl', which is not in"),
        (document({"env": {"virtualenv": "/etc/x"}}), "python_function.env.virtualenv is '/etc/x', which leaves"),
        (document({"env": "nowhere.yaml"}), "python_function.env is 'nowhere.yaml', which is not in"),
        (document({"artifacts": {"data": {"path": "../x", "uri": "/y"}}}), "python_function.artifacts.data.path"),
        (document(flavors={"pytorch": {"extra_files": [{"path": "/x"}]}}), "pytorch.extra_files.path is '/x'"),
        (document(saved_input_example_info={"artifact_path": "../secret"}), "saved_input_example_info.artifact_path"),
    ],
)
def test_paths_stay_inside_and_exist(made: dict[str, Any], says: str) -> None:
    """Every path that the file names leads to a file or folder of the model's directory."""
    assert says in judged(made)


def test_code_is_allowed_where_the_spec_says_so() -> None:
    """With package.code the same files pass; they must still be there, and the loader must still be allowed."""
    policy = replace(POLICY, code=True)

    assert judged(document({"code": "code"}), policy) == ""
    assert judged(document({"model_code_path": "/elsewhere/model.py"}), policy, files={**FILES, "model.py": 1}) == ""
    assert "which is not in the model's directory" in judged(document({"code": "src"}), policy)
    assert "loader_module is 'evil'" in judged(document({"code": "code", "loader_module": "evil"}), policy)


def test_a_loader_of_the_platforms_own_is_allowed_with_its_flavor() -> None:
    """A flavor that is not MLflow's passes when the loader it names is on the list."""
    flavor = {"acme": {"loader_module": "acme.loader"}}

    assert judged(document({"loader_module": "acme.loader"}, flavors=flavor)) == ""


def test_the_models_own_config_names_no_paths() -> None:
    """What is under `config` is handed to the model: a key that is called like one of MLflow's is no path."""
    assert judged(document({"config": {"data": "/anywhere", "path": ".."}})) == ""


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (columns("size", "label", "row_id", "at"), "its inputs label, row_id, at are not in data.features"),
        ([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}], "inputs without a name"),
        ([{"type": "double", "name": ["size"]}], "inputs without a name"),
        ("no list", "its signature has no inputs"),
    ],
)
def test_inputs_are_features(inputs: Any, says: str) -> None:
    """The model sees features by name: never the label, the key or the timestamp."""
    assert says in judged(document(inputs=inputs))


def test_a_signature_says_both_sides() -> None:
    """Without a signature, or with half of one or a broken one, the reason says what is missing."""
    for signature in (None, "text", {"inputs": "{", "outputs": None}, {"inputs": "[" * 100_000, "outputs": []}):
        made = document() | {"signature": signature}
        assert "no inputs" in judged(made)
        assert "no outputs" in judged(made)


@pytest.mark.parametrize("kind", ["binary", "regression"])
@pytest.mark.parametrize(
    ("outputs", "allowed"),
    [
        (NUMBER, True),
        ([{"type": "long", "name": "answer"}], True),
        ([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1]}}], True),
        ([{"type": "string"}], False),
        ([{"type": "boolean"}], False),
        (SCORES, False),
        ([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 1]}}], False),
        ([{"type": "tensor", "tensor-spec": {"dtype": "object", "shape": [-1]}}], False),
        ([{"type": "tensor"}], False),
        ([{"type": "double"}, {"type": "double"}], False),
    ],
)
def test_one_number_per_row(kind: str, outputs: Any, allowed: bool) -> None:
    """A score or a value is one number: text, tables and several columns are refused."""
    found = judged(document(outputs=outputs), replace(POLICY, kind=kind))

    assert (found == "") is allowed
    assert allowed or "one number per row" in found


@pytest.mark.parametrize(
    ("outputs", "allowed"),
    [
        (SCORES, True),
        ([{"type": "double", "name": str(number)} for number in range(3)], True),
        ([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, -1]}}], True),
        ([{"type": "string"}], True),
        ([{"type": "double"}, {"type": "double"}], False),
        ([{"type": "string"}, {"type": "string"}, {"type": "string"}], False),
        ([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 4]}}], False),
    ],
)
def test_a_score_for_each_class(outputs: Any, allowed: bool) -> None:
    """A multiclass model answers a class, or as many scores as the spec has classes."""
    found = judged(document(outputs=outputs), replace(POLICY, kind="multiclass", classes=3))

    assert (found == "") is allowed


def test_the_evidence_says_what_is_in_the_package() -> None:
    """Loader, flavors, code, inputs, outputs, and each file with its size."""
    made = PackagedModel(document({"code": "code"}, outputs=SCORES), {"MLmodel": 900, "model.pkl": 5000})

    assert made.describe() == {
        "loader": "mlflow.sklearn",
        "flavors": ["python_function", "sklearn"],
        "code": "code",
        "inputs": ["size: double"],
        "outputs": ["float64 of shape (-1, 3)"],
        "files": [{"path": "MLmodel", "bytes": 900}, {"path": "model.pkl", "bytes": 5000}],
    }


@pytest.mark.parametrize("value", [None, 7, "text", [], [[]], {"python_function": 7}, {"python_function": {"a": {}}}])
def test_nonsense_is_refused_and_never_raises(value: Any) -> None:
    """Whatever stands where MLflow expects a mapping, the judgement is a refusal."""
    for key in ("flavors", "signature", "saved_input_example_info", "metadata"):
        made = deepcopy(document()) | {key: value}
        assert key in ("saved_input_example_info", "metadata") or judged(made) != ""
        PackagedModel(made, FILES).describe()
