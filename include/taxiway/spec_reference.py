"""Writes what a model spec may say, from the code: a page for people and a JSON Schema for editors.

`python -m taxiway.spec_reference docs` (or `make reference`) writes docs/model-spec.md and
docs/model-spec.schema.json; a test holds both to `taxiway.spec`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from taxiway.spec import ModelSpec

Schema = Mapping[str, Any]

PAGE = "model-spec.md"
JSON_SCHEMA = "model-spec.schema.json"
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}
_WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
}
_INTRODUCTION = """\
# Model spec

*Generated from `include/taxiway/spec.py` by `make reference`; do not edit.*

One model is one file, `include/models/<model>.yaml`; the file is named for its model. `_defaults.yaml` of the same
folder is merged under each: what a spec does not say is taken from there, then from the defaults below. Lists are
replaced as a whole. A key that is not on this page is an error. Check all specs with `taxiway validate`.

- A **duration** is a number and a unit: `30s`, `10m`, `12h`, `7d`, `2w`.
- A **schedule** is a cron expression of five fields, or `@hourly`, `@daily`, `@weekly`, `@monthly`.
- `${TAXIWAY_HOME}` in a text is the folder of the installation's state. Nothing else is evaluated.
- Only `true` and `false` are booleans (YAML 1.2), so that `on:` is a key like any other.

For completion and checks in an editor, name the schema in the first line of the file:

    # yaml-language-server: $schema=../../docs/model-spec.schema.json
"""


class _SpecSchema(GenerateJsonSchema):
    """JSON Schema of what people write: durations are texts such as `7d`, defaults are written like values."""

    def timedelta_schema(self, schema: core_schema.TimedeltaSchema) -> JsonSchemaValue:
        """Describe a duration."""
        return {"type": "string", "format": "duration", "pattern": r"^\s*\d+(\.\d+)?\s*[smhdw]\s*$"}

    def encode_default(self, dft: Any) -> Any:
        """Return the default as it would be written in the YAML."""
        return _written(dft)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a model spec."""
    schema = ModelSpec.model_json_schema(schema_generator=_SpecSchema)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def page() -> str:
    """Return the reference page, in Markdown: one table per section of the spec."""
    schema = json_schema()
    sections = [("The whole spec", schema), *_sections(schema, schema["$defs"], prefix="")]
    return "\n".join([_INTRODUCTION, *(_section(key, section, schema["$defs"]) for key, section in sections)])


def write(directory: Path) -> None:
    """Write both files into the directory."""
    (directory / PAGE).write_text(page(), encoding="utf-8")
    (directory / JSON_SCHEMA).write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")


def _written(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {name: _written(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, timedelta):
        return _duration(value)
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_written(item) for item in value]
    return value


def _duration(value: timedelta) -> str:
    for unit, length in _UNITS.items():
        if value and value % length == timedelta(0):
            return f"{value // length}{unit}"
    return f"{value.total_seconds():g}s"


def _sections(section: Schema, known: Schema, *, prefix: str) -> Iterator[tuple[str, Schema]]:
    """Yield every section below, with its dotted key, in the order of the code."""
    for name, value in section["properties"].items():
        for suffix, reference in _references(value):
            yield f"{prefix}{name}{suffix}", known[reference]
            yield from _sections(known[reference], known, prefix=f"{prefix}{name}{suffix}.")


def _references(value: Schema) -> Iterator[tuple[str, str]]:
    """Yield the sections that a value may hold: `[]` marks those of a list, `.NAME` those of a mapping."""
    if "$ref" in value:
        yield "", value["$ref"].rpartition("/")[2]
    for suffix, key in (("[]", "items"), (".NAME", "additionalProperties")):
        if isinstance(value.get(key), Mapping):
            yield from ((suffix + deeper, found) for deeper, found in _references(value[key]))
    for option in value.get("anyOf", ()):
        yield from _references(option)


def _section(key: str, section: Schema, known: Schema) -> str:
    required = section.get("required", ())
    head = [f"## {key}", "", section["description"], "", "| key | value | default | meaning |", "|---|---|---|---|"]
    rows = [_row(name, value, known, required=name in required) for name, value in section["properties"].items()]
    return "\n".join([*head, *rows, ""])


def _row(name: str, value: Schema, known: Schema, *, required: bool) -> str:
    default = "*required*" if required else _default(value)
    meanings = [value.get("description"), *(known[reference]["description"] for _, reference in _references(value))]
    meaning = next((text for text in meanings if text), "")
    return f"| `{name}` | {_kind(value)} | {default} | {meaning} |"


def _default(value: Schema) -> str:
    if "$ref" in value:
        return "see below"
    default = value.get("default", {})  # what a factory makes is not in the schema: an empty mapping
    return "none" if default is None else f"`{_flow(default)}`"


def _flow(value: Any) -> str:
    """Return the value as YAML in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_flow(item)}" for name, item in value.items() if item is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) and not value.startswith("@") else json.dumps(value)


def _kind(value: Schema) -> str:
    """Return what may be written, in words."""
    if "$ref" in value:
        return "section"
    if "anyOf" in value:
        return " or ".join(_kind(option) for option in value["anyOf"] if option.get("type") != "null")
    if "enum" in value or "const" in value:
        choices = value["enum"] if "enum" in value else [value["const"]]
        return " or ".join(f"`{choice}`" for choice in choices)
    if value.get("format") == "duration":
        return "duration"
    if value["type"] == "array":
        return _list_kind(value)
    if value["type"] == "object":
        return f"names, each with: {_kind(value['additionalProperties'])}"
    return ", ".join([_WORDS[value["type"]], *_bounds(value)])


def _list_kind(value: Schema) -> str:
    if "prefixItems" in value:
        return "[" + ", ".join(map(_kind, value["prefixItems"])) + "]"
    return f"list of {_kind(value['items'])}{'s' if '$ref' in value['items'] else ''}"


def _bounds(value: Schema) -> list[str]:
    return [text.format(f"{value[key]:g}") for key, text in _LIMITS.items() if key in value]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    print(f"wrote {PAGE} and {JSON_SCHEMA}")
