"""The environment is read in one place and handed on as values."""

from __future__ import annotations

import ast

from tests.architecture.sources import place, python_files, syntax_tree

READERS = (
    "include/taxiway/bootstrap.py",
    "include/taxiway/adapters/mlflow_deployments.py",  # MLflow loads it into a process of the caller's
    "include/taxiway/cli.py",  # hands it to the supervisor
    "include/taxiway/stages/sandbox.py",  # composes what untrusted commands may see
    "include/taxiway/supervisor/",  # composes what the children of an installation see
)
NAMES = {"environ", "environb", "getenv", "putenv", "unsetenv"}


def test_only_the_composition_root_reads_the_environment() -> None:
    """`os.environ` and `os.getenv` appear only where settings are read and children's environments are made."""
    readers = {
        place(path, node)
        for path in python_files("include/taxiway", "dags", "plugins")
        if not place(path).startswith((*READERS, "include/taxiway/sandbox/"))
        for node in ast.walk(syntax_tree(path))
        if _touches_environment(node)
    }

    assert readers == set()


def _touches_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id == "os" and node.attr in NAMES
    return isinstance(node, ast.ImportFrom) and node.module == "os" and any(item.name in NAMES for item in node.names)
