"""Files and functions stay small enough to be read at one sight."""

from __future__ import annotations

import ast

from tests.architecture.sources import Function, functions, place, python_files, syntax_tree

LONGEST_FILE = 400
LONGEST_FUNCTION = 40


def test_files_are_short() -> None:
    """No Python file has more than 400 lines."""
    lengths = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}

    assert {file: lines for file, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_functions_are_short() -> None:
    """No function has more than 40 lines of its own: its docstring and the functions inside it do not count."""
    too_long = {
        f"{place(path, function)} {function.name}": own_lines(function)
        for path in python_files()
        for function in functions(syntax_tree(path))
        if own_lines(function) > LONGEST_FUNCTION
    }

    assert too_long == {}


def test_own_lines_leave_out_docstring_and_inner_functions() -> None:
    """A function of two lines stays one of two lines whatever is inside its docstring or its inner functions."""
    source = 'def outer():\n    """One.\n\n    Two.\n    """\n    def inner():\n        return 1\n    return inner\n'
    outer, inner = functions(ast.parse(source))

    assert (own_lines(outer), own_lines(inner)) == (2, 2)


def own_lines(function: Function) -> int:
    """Return how many lines the function has, without its decorators, docstring and inner functions."""
    total = _lines(function)
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        total -= _lines(first)
    return total - sum(_lines(inner) for inner in _inner_functions(function))


def _inner_functions(node: ast.AST) -> list[Function]:
    found: list[Function] = []
    for child in ast.iter_child_nodes(node):
        found += [child] if isinstance(child, Function) else _inner_functions(child)
    return found


def _lines(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1
