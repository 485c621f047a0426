"""What may be imported where, beyond the contracts that import-linter holds (pyproject.toml)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import PACKAGE, PROJECT, imported_modules, place, python_files, syntax_tree

HEAVY = ("boto3", "evidently", "matplotlib", "mlflow", "model_signing", "pandas", "pyarrow", "sklearn")
THIRD_PARTIES = {
    "include/taxiway/domain": {"numpy", "taxiway.domain", "taxiway.errors"},
    "include/taxiway/sandbox": {
        "fastapi",
        "mlflow",
        "numpy",
        "pandas",
        "pyarrow",
        "scoring_frame",  # its neighbour: a script finds those in its own directory
        "starlette",
        "uvicorn",
    },
}
REFUSE_IMPORTS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ImportError(f"{name} is imported, but must not be")

sys.meta_path.insert(0, Refuse())
"""
LOAD_DAG_FILES = """
import importlib.util, pathlib
for path in sorted(pathlib.Path("dags").glob("*.py")):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        sys.exit(f"{path}: {error}")
"""
LOAD_MODULES = """
import importlib
for name in NAMES:
    try:
        importlib.import_module(name)
    except ImportError as error:
        sys.exit(f"{name}: {error}")
"""


@pytest.mark.parametrize("folder", THIRD_PARTIES)
def test_closed_folders_import_only_what_is_listed(folder: str) -> None:
    """The domain needs numpy only; sandbox scripts need what every model environment has, and nothing of Taxiway."""
    allowed = THIRD_PARTIES[folder]
    found = {
        f"{place(path)}: {module}"
        for path in python_files(folder)
        for module in imported_modules(syntax_tree(path))
        if not _is_allowed(module, allowed)
    }

    assert found == set()


def test_dag_files_load_without_heavy_libraries(tmp_path: Path) -> None:
    """Every DAG file can be parsed where pandas, mlflow and their like cannot be imported."""
    result = _python(f"REFUSED = {HEAVY!r}{REFUSE_IMPORTS}{LOAD_DAG_FILES}", tmp_path)

    assert result.returncode == 0, result.stderr


def test_everything_but_orchestration_works_without_airflow(tmp_path: Path) -> None:
    """Gateway, console, CLI and stages can be imported where Airflow cannot."""
    names = [_module_name(path) for path in python_files("include/taxiway")]
    free = [name for name in names if not name.startswith(("taxiway.orchestration", "taxiway.sandbox"))]
    result = _python(f"REFUSED = ('airflow',)\nNAMES = {free!r}{REFUSE_IMPORTS}{LOAD_MODULES}", tmp_path)

    assert result.returncode == 0, result.stderr


def _is_allowed(module: str, allowed: set[str]) -> bool:
    parents = {module.rsplit(".", count)[0] for count in range(module.count(".") + 1)}
    return module.partition(".")[0] in sys.stdlib_module_names or bool(parents & allowed)


def _module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _python(script: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the script in a process of its own, as an installation in an empty home would."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "TAXIWAY"))}
    environment |= {"AIRFLOW_HOME": str(home), "TAXIWAY_HOME": str(home), "HOME": str(home)}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
