"""Looks at a model repository's code; runs with the model environment's python.

`static.py sources REPOSITORY CODE REPORT` compiles every source file and looks up every import of the packaged code
(CODE, an unpacked wheel) and of the tests, without running any of it.

`static.py imports REPOSITORY CODE ENTRY REPORT` imports every packaged module, and sees whether ENTRY
(`module:function`) can be called.

REPORT gets JSON: how many files or modules were looked at, the findings (file, line, problem), and how many more there
were. Standard library only.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import NamedTuple

MOST_FINDINGS, LONGEST = 50, 300
NOT_PROVIDED = "imports {}, which neither the lock nor the repository provides"
OPTIONAL = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
CONDITIONS = {"TYPE_CHECKING", "version_info", "platform", "implementation"}


class Finding(NamedTuple):
    """One thing that is wrong; line 0 is the whole file."""

    file: str
    line: int
    problem: str


class Imported(NamedTuple):
    """One import statement's module: `level` dots, its dotted name, and the names that are taken out of it."""

    line: int
    level: int
    module: str
    names: tuple[str, ...]


def main() -> int:
    """Check and write the report."""
    kind, repository, code, *entry, report = sys.argv[1:]
    warnings.simplefilter("ignore")
    if kind == "sources":
        checked, findings = check_sources(Path(repository), Path(code))
    else:
        checked, findings = check_imports(Path(repository), Path(code), *entry)
    unique = sorted(set(findings))
    shown = [{"file": item.file, "line": item.line, "problem": item.problem[:LONGEST]} for item in unique]
    document = {"checked": checked, "findings": shown[:MOST_FINDINGS], "more": len(shown[MOST_FINDINGS:])}
    Path(report).write_text(json.dumps(document), encoding="utf-8")
    return 0


def check_sources(repository: Path, code: Path) -> tuple[int, list[Finding]]:
    """Return the number of source files and what is wrong with them."""
    findings: list[Finding] = []
    trees: dict[Path, ast.Module] = {}
    files = list(source_files(repository))
    packaged = {path: name_of(path, code, repository) for path in source_files(code)}
    named = {path: path.relative_to(repository).as_posix() for path in files} | packaged
    for path, name in named.items():
        try:
            trees[path] = compiled(path, name)
        except SyntaxError as error:
            findings.append(Finding(name, error.lineno or 0, f"does not compile: {error.msg}"))
        except (ValueError, RecursionError, MemoryError) as error:
            findings.append(Finding(name, 0, f"does not compile: {error}"))
    tests = repository / "tests"
    lookup, beside = Lookup(code, [code]), Lookup(code, [code, repository], names_below(tests))
    for path, tree in trees.items():
        if path in packaged:
            findings += unprovided(tree, named[path], lookup, path.parent.relative_to(code).parts)
        elif path.is_relative_to(tests) or path == repository / "conftest.py":
            findings += unprovided(tree, named[path], beside, None)
    return len(files), findings


def source_files(directory: Path) -> Iterator[Path]:
    """Yield the Python files, in order, without hidden folders and links."""
    for path in sorted(directory.rglob("*.py")):
        hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
        if not hidden and path.is_file() and not path.is_symlink():
            yield path


def name_of(path: Path, code: Path, repository: Path) -> str:
    """Return the name by which the author knows a packaged file: the one in the repository, where it is there."""
    inside = path.relative_to(code)
    places = (inside, Path("src") / inside)
    return next((place for place in places if (repository / place).is_file()), inside).as_posix()


def compiled(path: Path, name: str) -> ast.Module:
    """Return the file's syntax tree once it compiles."""
    source = path.read_bytes()
    compile(source, name, "exec", dont_inherit=True)
    return ast.parse(source, name)


def names_below(tests: Path) -> set[str]:
    """Return what a test may import of its neighbours, wherever pytest was told to look for them."""
    return {path.stem for path in tests.rglob("*.py")} | {path.name for path in tests.rglob("*") if path.is_dir()}


class Lookup:
    """Tells which modules are there, by looking at files; no module is run."""

    def __init__(self, code: Path, own: list[Path], known: Iterable[str] = ()) -> None:
        """Look in `own` and in the environment; `known` are names that count as there."""
        self.code = code
        self.folders = [*own, *map(Path, sys.path)]
        self.known = set(known) | set(sys.stdlib_module_names) | {"__main__"}

    def provides(self, module: str, names: tuple[str, ...] = ()) -> bool:
        """Tell whether a module can be imported, and so the names out of a folder that is no package."""
        top, *rest = module.split(".")
        if top in self.known:
            return True
        places = find(top, self.folders)
        if places is None:
            return importlib.util.find_spec(top) is not None  # a hook of the environment may have it
        for part in rest:
            if self._may_make_its_own(places):
                return True
            places = find(part, places)
            if places is None:
                return False
        return not names or not is_namespace(places) or all(find(name, places) is not None for name in names)

    def _may_make_its_own(self, places: list[Path]) -> bool:
        """Other people's packages may make modules while they run; the repository's own are files."""
        foreign = not any(place.is_relative_to(self.code) for place in places)
        return foreign and not is_namespace(places)


def find(name: str, folders: Iterable[Path]) -> list[Path] | None:
    """Return the module's file, its package's folder, or all its folders when it is no package; None without any."""
    spaces = []
    for folder in folders:
        if is_package(folder / name):
            return [folder / name]
        for suffix in all_suffixes():
            if (folder / f"{name}{suffix}").is_file():
                return [folder / f"{name}{suffix}"]
        if (folder / name).is_dir():
            spaces.append(folder / name)
    return spaces or None


def is_package(folder: Path) -> bool:
    """Tell whether the folder has an `__init__` module."""
    return any((folder / f"__init__{suffix}").is_file() for suffix in all_suffixes())


def is_namespace(places: list[Path]) -> bool:
    """Tell whether what was found is folders only."""
    return places[0].is_dir() and not is_package(places[0])


def unprovided(tree: ast.Module, name: str, lookup: Lookup, package: tuple[str, ...] | None) -> Iterator[Finding]:
    """Yield an import that nothing provides; `package` are the folders of a packaged file, None for a test."""
    for found in imports_of(tree):
        if found.level and package is None:
            continue  # pytest decides what a test's package is
        above = () if not found.level else (package or ())[: len(package or ()) - found.level + 1]
        module = ".".join([*above, *([found.module] if found.module else [])])
        if module and not lookup.provides(module, found.names):
            yield Finding(name, found.line, NOT_PROVIDED.format("." * found.level + (found.module or module)))


def imports_of(tree: ast.AST) -> Iterator[Imported]:
    """Yield the imports that nothing around them makes optional."""
    waiting = [tree]  # no recursion: code may be nested deeper than this
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (Imported(node.lineno, 0, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names if alias.name != "*")
            yield Imported(node.lineno, node.level, node.module or "", names)
        elif isinstance(node, ast.Try) and any(names_in(handler.type) & OPTIONAL for handler in node.handlers):
            waiting += (*node.orelse, *node.finalbody)
        elif not is_optional(node):
            waiting += ast.iter_child_nodes(node)


def is_optional(node: ast.AST) -> bool:
    """Tell whether a block runs only sometimes: for type checkers, on some systems, or with its ImportError kept."""
    if isinstance(node, ast.If):
        return bool(names_in(node.test) & CONDITIONS)
    kept = [item.context_expr for item in node.items] if isinstance(node, ast.With) else []
    return any("suppress" in names_in(context) and names_in(context) & OPTIONAL for context in kept)


def names_in(node: ast.AST | None) -> set[str]:
    """Return the names and attributes of an expression; a handler that catches everything has no expression."""
    if node is None:
        return {"BaseException"}
    found = {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}
    return found | {item.attr for item in ast.walk(node) if isinstance(item, ast.Attribute)}


def check_imports(repository: Path, code: Path, entry: str) -> tuple[int, list[Finding]]:
    """Return the number of packaged modules and which of them cannot be imported, or do not have the entry."""
    sys.path.remove(str(Path(__file__).resolve().parent))  # a module `train` or `static` is the repository's own
    modules = {".".join(module_of(path, code)): path for path in source_files(code) if path.stem != "__main__"}
    importable = {name: path for name, path in modules.items() if all(map(str.isidentifier, name.split(".")))}
    findings = []
    for name, path in sorted(importable.items()):
        if problem := failed_import(name):
            file, line = place_of(problem, path, code)
            text = f"cannot be imported: {type(problem).__name__}: {problem}"
            findings.append(Finding(name_of(file, code, repository), line, text))
    module, _, function = entry.partition(":")
    if not findings and not callable(getattr(importlib.import_module(module), function, None)):
        findings.append(Finding("pyproject.toml", 0, f"[tool.taxiway] train: {module} has no function {function}"))
    return len(importable), findings


def module_of(path: Path, code: Path) -> tuple[str, ...]:
    """Return the parts of a file's dotted name."""
    parts = path.relative_to(code).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def failed_import(module: str) -> BaseException | None:
    """Import a module; returns what it raised."""
    try:
        importlib.import_module(module)
    except BaseException as error:  # noqa: BLE001 (a module may raise whatever it likes, SystemExit too)
        return error
    return None


def place_of(error: BaseException, path: Path, code: Path) -> tuple[Path, int]:
    """Return the last line of packaged code on the way to the error; the whole file when there is none."""
    frames = [(Path(frame.filename), frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    own = [(file, line) for file, line in frames if file.is_relative_to(code)]
    return own[-1] if own else (path, 0)


if __name__ == "__main__":
    sys.exit(main())
