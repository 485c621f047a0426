"""Model rules: the `MLmodel` file of a packaged model is code, so it is read and judged before anything is signed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from taxiway.domain.evidence import Json
from taxiway.domain.packaged_model import DESCRIPTION, MODULE_FILES, PackagedModel, PackagePolicy, violations
from taxiway.errors import TrainingError
from taxiway.spec import ModelSpec

_LARGEST_BYTES = 1_000_000
_LARGEST_NAME_BYTES = 200
_MALFORMED = (AttributeError, LookupError, TypeError, ValueError)  # PyYAML, of a value that is not what its tag says


@dataclass(frozen=True, slots=True)
class Package:
    """What a packaged model is (loader, flavors, code, inputs, outputs, files), and why it may not be signed."""

    description: Mapping[str, Json]
    violations: tuple[str, ...]

    def refuse(self, where: str) -> None:
        """Raise TrainingError with everything that is wrong with it; nothing happens when nothing is."""
        if self.violations:
            raise TrainingError(
                f"the packaged model is refused: {'; '.join(self.violations)}",
                where=where,
                next_step="see docs/model-repository.md for what a package may be; correct the code and push again.",
            )


def judge_package(spec: ModelSpec, directory: Path) -> Package:
    """Read a directory of plain files as a packaged model and judge it by the spec.

    An `MLmodel` file is not read when it is too large to be a description, has a key twice (two readers could obey
    different ones), or aliases (a few lines of which can stand for millions).
    """
    files = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    sizes = {name: path.stat().st_size for name, path in files.items()}
    modules = {
        name: _beginning(path, _LARGEST_NAME_BYTES).decode(errors="replace")
        for name, path in files.items()
        if path.name in MODULE_FILES
    }
    try:
        model = PackagedModel(_document(directory / DESCRIPTION), sizes, modules)
    except (OSError, yaml.YAMLError, RecursionError, *_MALFORMED) as error:
        problem = f"its {DESCRIPTION} file cannot be read: {str(error) or type(error).__name__}"
        return Package(PackagedModel({}, sizes).describe(), (problem,))
    return Package(model.describe(), violations(model, _policy(spec)))


def _policy(spec: ModelSpec) -> PackagePolicy:
    return PackagePolicy(
        loaders=spec.package.loaders,
        code=spec.package.code,
        features=spec.data.features,
        kind=spec.task.kind,
        classes=len(spec.task.classes),
    )


def _document(path: Path) -> Mapping[str, Any]:
    content = _beginning(path, _LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise ValueError(f"it is larger than {_LARGEST_BYTES} bytes")
    document = yaml.load(content, _Strict)  # noqa: S506 (a SafeLoader)
    if not isinstance(document, Mapping):
        raise ValueError("it is no mapping")
    return document


def _beginning(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


class _Strict(yaml.SafeLoader):
    """Reads plain YAML as MLflow does, but neither aliases nor keys that occur twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it has aliases: write the values out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [key for key, times in keys.items() if times > 1]:
            raise ValueError(f"the key {twice[0]!r} occurs twice")
        return super().construct_mapping(node, deep)
