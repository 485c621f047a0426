"""What a packaged model may be: rules on its `MLmodel` file, which says what MLflow runs when it loads the model.

MLflow imports the module that the file names as loader, puts the file's `code` folder first on the import path, runs
a model that is a Python file, and imports what a few flavors name (an XGBoost class, a Keras or pickle module); some
loaders read another `MLmodel` beside the data. All of that is an attack that no scanner of pickles sees, so only what
is allowed passes. The pickles themselves are not judged: they run code wherever the model is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from taxiway.domain.evidence import Json

DESCRIPTION = "MLmodel"
"""The file that MLflow reads first."""
MODULE_FILES: Mapping[str, tuple[str, ...]] = {
    "keras_module.txt": ("keras", "tensorflow", "tf_keras"),
    "pickle_module_info.txt": ("mlflow.pytorch.pickle_module", "pickle", "cloudpickle", "dill"),
}
"""Files that name a module which TensorFlow's and PyTorch's loaders import -> the modules they may name."""

_PYFUNC = "python_function"
_MODEL_AS_CODE = "model_code_path"
_CODE_LOADER = "mlflow.pyfunc.loaders.code_model"  # runs the file that model_code_path names
_PATH_KEYS = {
    *("artifact_path", "code", "conda", "data", "env", "model_data", "model_path", "path", "pickled_model"),
    *("python_model", "saved_model_dir", "serving_input_path", "virtualenv"),
}
_EXTERNAL = "mlflow.model.isExternal"
_PREDICT = ("predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba")
_NUMBERS = ("integer", "long", "float", "double")
_NUMBER_KINDS = ("int", "uint", "float")
_TABLE = 2  # dimensions of one row of values per row
_PACKAGE_OF = {"model_class": ("{flavor}",), "keras_module": MODULE_FILES["keras_module.txt"]}


@dataclass(frozen=True, slots=True)
class PackagePolicy:
    """What the model spec allows: loader modules, own code, features; and what it predicts (number of classes)."""

    loaders: Sequence[str]
    code: bool
    features: Sequence[str]
    kind: str
    classes: int = 0


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model directory as far as the rules read it.

    `document` is the parsed `MLmodel`; `files` has every file's size in bytes by its relative path; `modules` has the
    content of those files that are named as in MODULE_FILES.
    """

    document: Mapping[str, Any]
    files: Mapping[str, int]
    modules: Mapping[str, str] = field(default_factory=dict)

    @property
    def flavors(self) -> dict[str, Mapping[str, Any]]:
        """The configuration of each flavor."""
        return {str(name): _mapping(conf) for name, conf in _mapping(self.document.get("flavors")).items()}

    @property
    def pyfunc(self) -> Mapping[str, Any]:
        """The configuration that `mlflow.pyfunc.load_model` obeys."""
        return self.flavors.get(_PYFUNC, {})

    def describe(self) -> dict[str, Json]:
        """Return what is in the package, for the evidence: inputs and outputs as `name: type`."""
        code = self.pyfunc.get("code") or self.pyfunc.get(_MODEL_AS_CODE)
        files: list[Json] = [{"path": path, "bytes": size} for path, size in sorted(self.files.items())]
        return {
            "loader": str(self.pyfunc.get("loader_module")),
            "flavors": [*sorted(self.flavors)],
            "code": str(code) if code else None,
            "inputs": self._texts("inputs"),
            "outputs": self._texts("outputs"),
            "files": files,
        }

    def columns(self, side: str) -> list[Mapping[str, Any]]:
        """Return the columns of `inputs` or `outputs`; empty when the signature does not say them."""
        text = _mapping(self.document.get("signature")).get(side)
        try:
            columns = json.loads(text) if isinstance(text, str) else None
        except (ValueError, RecursionError):
            return []
        return [_mapping(column) for column in columns] if isinstance(columns, list) else []

    def _texts(self, side: str) -> list[Json]:
        return [_text(column) for column in self.columns(side)]


def violations(model: PackagedModel, policy: PackagePolicy) -> tuple[str, ...]:
    """Return everything that the package may not be, in one sentence each; empty when it may be signed."""
    return tuple(
        dict.fromkeys(
            [
                *_loading(model, policy),
                *_own_code(model, policy),
                *_imports(model),
                *_paths(model),
                *_inputs(model, policy),
                *_outputs(model, policy),
            ]
        )
    )


def _loading(model: PackagedModel, policy: PackagePolicy) -> Iterator[str]:
    """Judge what loads the model, and whether all of it is in the directory."""
    known = ", ".join(policy.loaders)
    if not model.pyfunc:
        yield f"it has no {_PYFUNC} flavor: save it with mlflow.<flavor>.save_model"
        return
    loader = model.pyfunc.get("loader_module")
    if loader not in policy.loaders and not (policy.code and loader == _CODE_LOADER):
        yield f"loader_module is {loader!r}, which package.loaders does not have ({known})"
    for name, conf in model.flavors.items():
        own = (f"mlflow.{name}", conf.get("loader_module"))
        if name != _PYFUNC and not any(module in policy.loaders for module in own):
            yield f"it has the flavor {name!r}, whose loader package.loaders does not have ({known})"
    predict = model.pyfunc.get("predict_fn", "predict")
    if predict not in _PREDICT:
        yield f"predict_fn is {predict!r}; choose from {', '.join(_PREDICT)}"
    if not isinstance(model.pyfunc.get("config") or {}, Mapping):
        yield "config is no mapping of names to values"
    if _mapping(model.document.get("metadata")).get(_EXTERNAL):
        yield "its files are external: the model must be in its directory"


def _own_code(model: PackagedModel, policy: PackagePolicy) -> Iterator[str]:
    if policy.code:
        return
    for name, conf in model.flavors.items():
        for key in ("code", _MODEL_AS_CODE):
            if conf.get(key):
                yield f"{name}.{key} brings code of its own ({conf[key]}), which package.code does not allow"


def _imports(model: PackagedModel) -> Iterator[str]:
    """Judge what a loader imports or loads besides its own package."""
    for flavor, conf in model.flavors.items():
        for key, packages in _PACKAGE_OF.items():
            allowed = tuple(package.format(flavor=flavor) for package in packages)
            if key in conf and not _is_within(str(conf[key]), allowed):
                yield f"{flavor}.{key} names {conf[key]!r}, which is not of {' or '.join(allowed)}"
        if conf.get("extra_session_config") or _mapping(conf.get("onnx_session_options")).get("extra_session_config"):
            yield f"{flavor} has an extra_session_config, which may load libraries"
        if not all(isinstance(provider, str) for provider in _sequence(conf.get("providers"))):
            yield f"{flavor}.providers have options, which may load libraries: name the providers only"
    for path, text in model.modules.items():
        allowed = MODULE_FILES[PurePosixPath(path).name]
        if not _is_within(text.strip(), allowed):
            yield f"{path} names the module {text.strip()[:100]!r}, which is not of {' or '.join(allowed)}"
    for path in model.files:
        if path != DESCRIPTION and PurePosixPath(path).name.lower() == DESCRIPTION.lower():
            yield f"{path} is a second {DESCRIPTION} file, which some loaders obey instead"


def _paths(model: PackagedModel) -> Iterator[str]:
    """Judge every path that the file names: inside of the directory, and there."""
    for name, conf in model.flavors.items():
        for key, path in _named_paths(conf):
            yield from _place(model, f"{name}.{key}", path)
        if conf.get(_MODEL_AS_CODE):  # saved as it was given; MLflow looks for that name in the model's directory
            yield from _place(model, f"{name}.{_MODEL_AS_CODE}", PurePosixPath(str(conf[_MODEL_AS_CODE])).name)
    for key, path in _named_paths(_mapping(model.document.get("saved_input_example_info"))):
        yield from _place(model, f"saved_input_example_info.{key}", path)


def _named_paths(conf: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (dotted key, path) at any depth; `config` is the model's own and names no files to MLflow."""
    for key, value in conf.items():
        if isinstance(value, Mapping) and key != "config":
            yield from ((f"{key}.{inner}", path) for inner, path in _named_paths(value))
        elif isinstance(value, list):
            for item in value:
                yield from ((f"{key}.{inner}", path) for inner, path in _named_paths(_mapping(item)))
        elif isinstance(value, str) and value and key in _PATH_KEYS:
            yield str(key), value


def _place(model: PackagedModel, key: str, path: str) -> Iterator[str]:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        yield f"{key} is {path!r}, which leaves the model's directory"
    elif pure.parts and not any(pure == file or pure in file.parents for file in map(PurePosixPath, model.files)):
        yield f"{key} is {path!r}, which is not in the model's directory"


def _inputs(model: PackagedModel, policy: PackagePolicy) -> Iterator[str]:
    columns = model.columns("inputs")
    if not columns:
        yield "its signature has no inputs: give save_model signature=infer_signature(features, predictions)"
    names = [column.get("name") for column in columns]
    if not all(isinstance(name, str) and name for name in names):
        yield "its signature has inputs without a name: train it on a frame with named columns"
    strangers = [str(name) for name in names if name and name not in policy.features]
    if strangers:
        yield f"its inputs {', '.join(strangers)} are not in data.features"


def _outputs(model: PackagedModel, policy: PackagePolicy) -> Iterator[str]:
    """Judge what the model answers to a row: a number, or for multiclass a class or a score for each class."""
    columns = model.columns("outputs")
    if not columns:
        yield "its signature has no outputs: give save_model signature=infer_signature(features, predictions)"
        return
    width, said = _width(columns), ", ".join(_text(column) for column in columns)
    if policy.kind == "multiclass":
        if width == 1:
            return  # the class itself
        if not all(map(_is_number, columns)) or width not in (None, policy.classes):
            yield f"its output is {said}, but a multiclass model answers {policy.classes} scores per row, one per class"
    elif width != 1 or not _is_number(columns[0]):
        yield f"its output is {said}, but a {policy.kind} model answers one number per row"


def _width(columns: Sequence[Mapping[str, Any]]) -> int | None:
    """Return how many values the model answers per row; None when the signature leaves it open."""
    if len(columns) > 1 or columns[0].get("type") != "tensor":
        return len(columns)
    shape = _shape(columns[0])
    if len(shape) == 1:
        return 1
    # A second dimension of 1 is no number per row: it comes back as a table, which no metric takes.
    return shape[1] if len(shape) == _TABLE and isinstance(shape[1], int) and shape[1] > 1 else None


def _shape(column: Mapping[str, Any]) -> Sequence[Any]:
    return _sequence(_mapping(column.get("tensor-spec")).get("shape"))


def _is_number(column: Mapping[str, Any]) -> bool:
    if column.get("type") == "tensor":
        return str(_mapping(column.get("tensor-spec")).get("dtype")).startswith(_NUMBER_KINDS)
    return column.get("type") in _NUMBERS


def _text(column: Mapping[str, Any]) -> str:
    """Return a column of the signature as `name: type`."""
    kind = str(column.get("type"))
    if kind == "tensor":
        kind = f"{_mapping(column.get('tensor-spec')).get('dtype')} of shape ({', '.join(map(str, _shape(column)))})"
    return f"{column['name']}: {kind}" if column.get("name") else kind


def _is_within(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []
