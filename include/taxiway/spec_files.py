"""Reads model specs and the environments file from YAML: every problem named, good specs kept."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from taxiway.errors import SpecError
from taxiway.spec import ModelSpec
from taxiway.spec_values import Section

DEFAULTS = "_defaults.yaml"
_CORRECT = "correct the file, then run `taxiway validate`."
_BOOL = "tag:yaml.org,2002:bool"
_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in one file."""

    file: Path
    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.file.name}: {self.key}: {self.text}" if self.key else f"{self.file.name}: {self.text}"


@dataclass(frozen=True, slots=True)
class SpecSet:
    """The valid specs by model name, and every problem of the broken ones."""

    specs: Mapping[str, ModelSpec]
    problems: tuple[Problem, ...]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.2 booleans (only true and false, so that the key `on` stays a word), and no key twice."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL or first in "tTfF"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; a repeated key, of which YAML would keep the last one in silence, is an error."""
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


class EmbeddedGateway(Section):
    """An environment served by Taxiway's own gateway."""

    kind: Literal["gateway"]
    url: str
    token: str


def load_specs(directory: Path, variables: Mapping[str, str], *, only: str | None = None) -> SpecSet:
    """Read every spec of the directory in name order (or `only` one model's); broken ones become problems, no more."""
    specs: dict[str, ModelSpec] = {}
    problems: list[Problem] = []
    for path in spec_paths(directory):
        if only not in (None, path.stem):
            continue
        spec, found = _load(path, variables)
        problems += found
        if spec is not None:
            specs[spec.model] = spec
    return SpecSet(specs, tuple(problems))


def load_spec(path: Path, variables: Mapping[str, str]) -> ModelSpec:
    """Read one spec; raises SpecError that lists all its problems."""
    spec, problems = _load(path, variables)
    if spec is None:
        raise SpecError(
            "\n".join(str(problem) for problem in problems),
            where=path.name,
            next_step=_CORRECT,
        )
    return spec


def spec_paths(directory: Path) -> list[Path]:
    """Return the spec files of the directory, sorted; raises SpecError when it does not exist."""
    if not directory.is_dir():
        raise SpecError("the directory of model specs does not exist", where=str(directory))
    return sorted(path for path in directory.glob("*.yaml") if not path.name.startswith("_"))


def load_environments(path: Path, variables: Mapping[str, str]) -> dict[str, EmbeddedGateway]:
    """Read `environments.yaml`; raises SpecError."""
    try:
        document = _substitute(_read_yaml(path), variables)
        return TypeAdapter(dict[str, EmbeddedGateway]).validate_python(document)
    except ValidationError as error:
        problems = [_problem(path, dict(item), EmbeddedGateway) for item in error.errors()]
        text = "\n".join(str(problem) for problem in problems)  # pydantic's own text would show the tokens
        raise SpecError(text, where=str(path), next_step=_CORRECT) from error
    except (ValueError, OSError) as error:
        raise SpecError(str(error), where=str(path), next_step=_CORRECT) from error


def _load(path: Path, variables: Mapping[str, str]) -> tuple[ModelSpec | None, list[Problem]]:
    try:
        defaults_path = path.parent / DEFAULTS
        defaults = _read_yaml(defaults_path) if defaults_path.exists() else {}
        document = _substitute(_merge(defaults, _read_yaml(path)), variables)
        spec = ModelSpec.model_validate(document)
    except ValidationError as error:
        return None, [_problem(path, dict(item), ModelSpec) for item in error.errors()]
    except (ValueError, OSError) as error:
        return None, [Problem(path, "", str(error))]
    if spec.model != path.stem:
        return None, [Problem(path, "model", f"{spec.model!r} must equal the file's name {path.stem!r}")]
    return spec, []


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 (a safe loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path.name} must be a mapping of keys, but is {type(document).__name__}")
    return document


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _substitute(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _substitute(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, variables) for item in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _variable(match[1], variables), value)
    return value


def _variable(name: str, variables: Mapping[str, str]) -> str:
    if name not in variables:
        known = ", ".join(sorted(variables)) or "none"
        raise ValueError(f"${{{name}}} is not a known variable (known: {known})")
    return variables[name]


def _problem(path: Path, item: Mapping[str, Any], root: type[BaseModel]) -> Problem:
    parts = (str(part) for part in item["loc"])
    location = [part for part in parts if not part.startswith(("function-", "literal[", "[key]"))]
    key = ".".join(location)
    value = item.get("input")
    shown = f" (value: {value!r})" if isinstance(value, str | int | float | bool | None) else ""
    if item["type"] == "extra_forbidden":
        return Problem(path, key, f"unknown key{_nearest(location[-1], _keys_at(root, location[:-1]))}")
    if item["type"] == "missing":
        return Problem(path, key, "is required, but missing")
    hint = ""
    if item["type"] == "literal_error" and isinstance(value, str):
        hint = _nearest(value, re.findall(r"'([^']+)'", item["ctx"]["expected"]))
    return Problem(path, key, f"{item['msg'].removeprefix('Value error, ')}{hint}{shown}")


def _nearest(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(choices))}"


def _keys_at(section: type[BaseModel], location: list[str]) -> list[str]:
    for part in location:
        if part.isdigit() or part not in section.model_fields:
            continue
        inner = _section_of(section.model_fields[part].annotation)
        if inner is None:
            return []
        section = inner
    return list(section.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is None:
        return None
    return next((found for argument in get_args(annotation) if (found := _section_of(argument))), None)
