"""A file is named for the one thing it owns, and no two importable files share a name."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder

from tests.architecture.sources import PACKAGE, place, python_files

DRAWERS = {"base", "common", "constants", "core", "helper", "helpers", "misc", "shared", "tools", "util", "utils"}


def test_no_drawer_modules() -> None:
    """No module or folder is named for nothing in particular (utils, helpers, common, ...)."""
    named = [path for path in python_files() if {*path.relative_to(PACKAGE.parents[1]).parts[:-1], path.stem} & DRAWERS]

    assert [place(path) for path in named] == []


def test_airflow_files_clash_with_no_module() -> None:
    """No file of dags/ or plugins/ has the name of another importable module: Airflow imports them by bare stem."""
    stems = [path.stem for path in python_files("dags", "plugins")]
    elsewhere = [
        stem
        for stem in stems
        if stem in sys.stdlib_module_names or PathFinder.find_spec(stem, _installed()) is not None
    ]

    assert elsewhere == []
    assert len(set(stems)) == len(stems)


def test_one_plugin_file() -> None:
    """plugins/ has exactly one Python file, because Airflow executes each under its bare stem."""
    assert [place(path) for path in python_files("plugins")] == ["plugins/taxiway_plugin.py"]


def _installed() -> list[str]:
    return [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages", "include"))]
