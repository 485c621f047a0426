"""What the documentation says is what the code has."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import textwrap
from pathlib import Path

import pytest
import typer
import yaml
from jsonschema import Draft202012Validator

from taxiway import cli, errors, spec_reference
from taxiway.spec_files import load_spec
from tests.architecture.sources import PROJECT, place, project_files, python_files

DOCS = PROJECT / "docs"
PAGES = [path for path in project_files() if path.suffix == ".md"]
OPERATIONS = (DOCS / "operations.md").read_text(encoding="utf-8")
README = (PROJECT / "README.md").read_text(encoding="utf-8")
SPECS = sorted((PROJECT / "include" / "models").glob("[!_]*.yaml"))


def test_spec_reference_is_generated_from_the_code() -> None:
    """docs/model-spec.md says what spec.py has (else: `make reference`)."""
    assert (DOCS / spec_reference.PAGE).read_text(encoding="utf-8") == spec_reference.page()


def test_json_schema_is_generated_from_the_code() -> None:
    """The schema that editors use says what spec.py has (else: `make reference`)."""
    assert json.loads((DOCS / spec_reference.JSON_SCHEMA).read_text(encoding="utf-8")) == spec_reference.json_schema()


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_json_schema_accepts_the_specs(path: Path) -> None:
    """An editor finds no mistake in a spec that Taxiway accepts."""
    text = path.read_text(encoding="utf-8").replace(" on:", ' "on":')  # safe_load reads YAML 1.1: on is true
    document = yaml.safe_load(text)
    mistakes = [error.message for error in Draft202012Validator(spec_reference.json_schema()).iter_errors(document)]

    assert mistakes == []


def test_every_key_has_a_meaning() -> None:
    """No row of the spec reference has an empty last cell."""
    assert [line for line in spec_reference.page().splitlines() if line.endswith("|  |")] == []


def test_every_command_is_documented() -> None:
    """README.md has a row for each command of the CLI, and for no other."""
    assert set(re.findall(r"^\| `taxiway ([\w-]+)` \|", README, re.MULTILINE)) == _commands()


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_named_commands_exist(page: Path) -> None:
    """Every `taxiway ...` and `make ...` that a page tells people to type exists."""
    text = page.read_text(encoding="utf-8")
    typed = re.findall(r"(?:`|^ {4})((?:taxiway|make) [a-z]+)", text, re.MULTILINE)
    known = {f"taxiway {name}" for name in _commands()} | {f"make {name}" for name in _targets()}

    assert sorted(set(typed) - known) == []


def test_every_variable_is_documented() -> None:
    """docs/operations.md names each TAXIWAY_* variable that the code uses, and no other."""
    sources = [*python_files("include", "dags", "plugins"), *(PROJECT / "include").rglob("*.yaml")]
    used = {name for path in sources for name in re.findall(r"\bTAXIWAY_[A-Z_]+\b", path.read_text(encoding="utf-8"))}

    assert set(re.findall(r"\bTAXIWAY_[A-Z_]+\b", OPERATIONS)) == used


def test_every_error_is_documented() -> None:
    """docs/operations.md has a row for each error that is raised, and for no other."""
    classes = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}
    parents = {base.__name__ for value in classes.values() for base in value.__bases__}
    documented = re.findall(r"^\| `([A-Z][a-z]\w+)` \|", OPERATIONS, re.MULTILINE)

    assert set(documented) == set(classes) - parents


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page leads to a file of the project."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []


def test_example_specs_are_valid(tmp_path: Path) -> None:
    """The model spec in README.md is complete: it can be copied as it stands."""
    blocks = [textwrap.dedent(block) for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)]
    shutil.copy(PROJECT / "include" / "models" / "_defaults.yaml", tmp_path)
    for block in blocks:
        path = tmp_path / f"{yaml.safe_load(block)['model']}.yaml"
        path.write_text(block, encoding="utf-8")

        assert load_spec(path, {}).model == path.stem
    assert blocks


def _commands() -> set[str]:
    app = next(value for value in vars(cli).values() if isinstance(value, typer.Typer))
    return set(getattr(typer.main.get_command(app), "commands", {}))


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
