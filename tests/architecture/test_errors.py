"""Every exception is in one tree, is drawn there, and is raised."""

from __future__ import annotations

import ast
import inspect
import re

from taxiway import errors
from tests.architecture.sources import python_files, syntax_tree

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and value.__module__ == errors.__name__
}


def test_one_root() -> None:
    """Every class of errors.py inherits TaxiwayError."""
    assert all(issubclass(error, errors.TaxiwayError) for error in CLASSES.values())


def test_drawn_tree_is_the_class_tree() -> None:
    """The tree in the docstring names every class below its parent, and no other."""
    assert _drawn_tree(errors.__doc__ or "") == {
        name: error.__bases__[0].__name__ for name, error in CLASSES.items() if error is not errors.TaxiwayError
    }


def test_every_error_is_raised() -> None:
    """Each leaf of the tree is made somewhere outside of errors.py."""
    parents = {error.__bases__[0].__name__ for error in CLASSES.values()}
    made = {
        name
        for path in python_files("include/taxiway", "dags", "plugins")
        if path.name != "errors.py"
        for name in _names(syntax_tree(path))
    }

    assert sorted(set(CLASSES) - parents - made) == []


def test_no_exception_is_defined_elsewhere() -> None:
    """No other module of the package defines an exception of its own."""
    families = set(CLASSES) | {"BaseException", "Exception", "RuntimeError", "ValueError", "OSError", "LookupError"}
    strangers = [
        f"{path.name}: {node.name}"
        for path in python_files("include/taxiway", "dags", "plugins")
        if path.name != "errors.py" and path.parent.name != "sandbox"
        for node in ast.walk(syntax_tree(path))
        if isinstance(node, ast.ClassDef) and families & {base.id for base in node.bases if isinstance(base, ast.Name)}
    ]

    assert strangers == []


def _names(node: ast.AST) -> set[str]:
    """Return the names that are used, other than to catch an exception or to import it."""
    if isinstance(node, ast.Name):
        return {node.id}
    children = node.body if isinstance(node, ast.ExceptHandler) else ast.iter_child_nodes(node)
    return {name for child in children for name in _names(child)}


def _drawn_tree(text: str) -> dict[str, str]:
    """Return child -> parent, read from the indentation of the names."""
    parents: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for match in re.finditer(r"^(?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+)(?=\s{2,}|$)", text, re.MULTILINE):
        depth, name = len(match["branch"]), match["name"]
        above = [(other, parent) for other, parent in above if other < depth]
        if above:
            parents[name] = above[-1][1]
        above.append((depth, name))
    return parents
