"""Tests say what must hold, and test the real thing."""

from __future__ import annotations

import ast

from tests.architecture.sources import functions, imported_modules, place, python_files, syntax_tree

PATCHING = {"delattr", "patch", "setattr", "setitem"}


def test_every_test_says_what_must_hold() -> None:
    """Each test has a docstring: one sentence about behaviour."""
    silent = [
        f"{place(path, function)} {function.name}"
        for path in python_files("tests", "examples")
        for function in functions(syntax_tree(path))
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]

    assert silent == []


def test_no_mocks() -> None:
    """No test imports a mocking library: fakes are in tests/fakes.py."""
    mocking = {"unittest.mock", "mock", "pytest_mock"}
    users = [place(path) for path in python_files("tests") if imported_modules(syntax_tree(path)) & mocking]

    assert users == []


def test_no_patching() -> None:
    """No test changes a module or an object behind its back (setting the environment or the directory is fine)."""
    patches = [
        place(path, node)
        for path in python_files("tests")
        for node in ast.walk(syntax_tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in PATCHING
        and ast.unparse(node.func.value) in {"monkeypatch", "mock", "mocker"}
    ]

    assert patches == []
