"""Static checks: every import is provided, every module imports, and untrusted reports are only believed in form."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.errors import ContractError
from taxiway.stages.sandbox import SCRIPTS
from taxiway.stages.static_checks import StaticChecks
from tests.unit.tiny_repositories import Workshop, required_packages


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path / "cache", required_packages(tmp_path / "packages", monkeypatch))


def check(workshop: Workshop, changes: Mapping[str, str | None]) -> Evidence:
    """Build the tiny repository with the changes and check it; returns the evidence that is stored."""
    of = workshop.built(changes)
    checks = StaticChecks(workshop.spec, of, workshop.git, workshop.registry, workshop.cache, workshop.clock)
    with suppress(ContractError):
        assert checks.run().verdict is Verdict.PASSED
    return workshop.evidence(of, "static_checks")


def findings(directory: Path, source: str, *, test: str = "") -> list[str]:
    """Return what the script finds in a packaged module `model.fit`, and in a test, as `file:line problem`."""
    files = {
        "src/model/__init__.py": "",
        "src/model/fit.py": source,
        "src/model/rows.py": "",
        "src/space/deep/code.py": "",
        "tests/unit/test_fit.py": test,
        "tests/unit/made_up.py": "",
        "tests/shared/rows.py": "",
    }
    for name, content in files.items():
        for path in (directory / "repository" / name, directory / "code" / name.removeprefix("src/")):
            if name.startswith("src/") or "repository" in path.parts:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
    arguments = [directory / "repository", directory / "code", directory / "report.json"]
    command = [sys.executable, "-I", SCRIPTS / "static.py", "sources", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((directory / "report.json").read_text())
    return [f"{found['file']}:{found['line']} {found['problem']}" for found in report["findings"]]


def test_a_good_repository_passes(workshop: Workshop) -> None:
    """The evidence says how much was looked at."""
    evidence = check(workshop, {})

    assert evidence.verdict is Verdict.PASSED
    assert evidence.figures == {"files": 4, "modules": 2}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"src/tiny/train.py": "def train(:\n"}, "src/tiny/train.py:1 does not compile: invalid syntax"),
        ({"scripts/x.py": "\n\n1 +\n"}, "scripts/x.py:3 does not compile: invalid syntax"),
        ({"tests/unit/test_tiny.py": "a = '\0'"}, "tests/unit/test_tiny.py does not compile"),
        ({"src/tiny/more.py": "\nimport torch\n"}, "src/tiny/more.py:2 imports torch, which neither the lock nor"),
        ({"tests/unit/test_tiny.py": "from torch import nn"}, "tests/unit/test_tiny.py:1 imports torch, which neither"),
        ({"src/tiny/more.py": "\nraise OSError('no disk')"}, "src/tiny/more.py:2 cannot be imported: OSError: no disk"),
        ({"src/tiny/more.py": "import sys; sys.exit()"}, "src/tiny/more.py:1 cannot be imported: SystemExit"),
        ({"src/tiny/more.py": "import os; os._exit(0)"}, "the check of modules did not finish: it ended without"),
        ({"src/tiny/train.py": "train = 7"}, "pyproject.toml [tool.taxiway] train: tiny.train has no function train"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(workshop: Workshop, changes: dict[str, str], reason: str) -> None:
    """Each finding is one sentence with file and line, in the error and in the evidence."""
    evidence = check(workshop, changes)

    assert evidence.verdict is Verdict.FAILED
    assert evidence.reasons[0].startswith(reason)


def test_a_finding_stops_the_build(workshop: Workshop) -> None:
    """The error says what to correct; it is permanent, so that no retry hides it."""
    of = workshop.built({"src/tiny/more.py": "import torch\n"})

    with pytest.raises(ContractError, match="imports torch") as raised:
        StaticChecks(workshop.spec, of, workshop.git, workshop.registry, workshop.cache, workshop.clock).run()

    assert "lock what it imports" in raised.value.next_step


def test_many_findings_are_counted_not_listed(workshop: Workshop) -> None:
    """A thousand wrong imports do not make an evidence of a thousand lines."""
    evidence = check(workshop, {"src/tiny/more.py": "".join(f"import torch{number}\n" for number in range(1000))})

    assert len(evidence.reasons) == 21
    assert evidence.reasons[-1] == "and 980 more"


@pytest.mark.parametrize(
    "written",
    [
        "[]",
        '{"checked": "many", "findings": [], "more": 0}',
        '{"checked": 1, "findings": [], "more": 0, "verdict": "passed"}',
        '{"checked": 1, "findings": [{"file": "x", "line": -1, "problem": ""}], "more": 0}',
        '{"checked": 1, "findings": [], "more": ' + "0" * 300_000 + "}",
    ],
    ids=["list", "type", "more keys", "value", "size"],
)
def test_a_report_of_another_form_is_not_believed(workshop: Workshop, written: str) -> None:
    """Code that runs while it is imported can write what it likes; what is no report is a failure."""
    forge = f"import os, pathlib, sys\npathlib.Path(sys.argv[-1]).write_text({written!r})\nos._exit(0)\n"

    assert check(workshop, {"src/tiny/more.py": forge}).verdict is Verdict.FAILED


def test_a_report_that_is_a_link_is_not_followed(workshop: Workshop, tmp_path: Path) -> None:
    """A link could make the platform read a file that the code itself may not."""
    (tmp_path / "secret.json").write_text('{"checked": 1, "findings": [], "more": 0}')
    forge = f"import os, sys\nos.symlink({str(tmp_path / 'secret.json')!r}, sys.argv[-1])\nos._exit(0)\n"

    assert check(workshop, {"src/tiny/more.py": forge}).verdict is Verdict.FAILED


def test_what_is_found_in_sources_cannot_be_hidden_by_running_code(workshop: Workshop) -> None:
    """Sources are parsed before any module runs, so a forged report of the imports hides nothing."""
    good = '{"checked": 1, "findings": [], "more": 0}'
    forge = f"import os, pathlib, sys\npathlib.Path(sys.argv[-1]).write_text({good!r})\nos._exit(0)\n"

    evidence = check(workshop, {"src/tiny/__init__.py": forge, "src/tiny/more.py": "def f():\n    import torch\n"})

    assert evidence.reasons == ("src/tiny/more.py:2 imports torch, which neither the lock nor the repository provides",)


@pytest.mark.parametrize(
    "source",
    [
        "import os.path, json, __main__",
        "x = " + "+".join(["1"] * 1200),
        "if a: pass\n" + "elif a: pass\n" * 900,
        "import numpy.linalg",
        "from model import rows",
        "from model.rows import anything",
        "from . import rows",
        "from .rows import anything",
        "from .. import model",
        "import space.deep.code",
        "from space.deep import code",
        "try:\n    import torch\nexcept ImportError:\n    import tensorflow",
        "try:\n    import torch\nexcept (KeyError, ModuleNotFoundError):\n    torch = None",
        "try:\n    import torch\nexcept:\n    pass",
        "import contextlib\nwith contextlib.suppress(ImportError):\n    import torch",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch",
        "import typing\nif typing.TYPE_CHECKING:\n    from torch import nn",
        "import sys\nif sys.version_info < (3, 11):\n    import tomli",
        "import sys\nif sys.platform == 'win32':\n    import win32api",
    ],
)
def test_provided_and_optional_imports_are_fine(tmp_path: Path, source: str) -> None:
    """The standard library, the environment, the repository, and what the code can do without."""
    assert findings(tmp_path, source) == []


@pytest.mark.parametrize(
    ("source", "line", "module"),
    [
        ("import torch.nn as nn", 1, "torch.nn"),
        ("def late():\n    from torch import nn", 2, "torch"),
        ("class A:\n    if nn:\n        import torch", 3, "torch"),
        ("try:\n    pass\nexcept ImportError:\n    pass\nelse:\n    import torch", 6, "torch"),
        ("try:\n    import torch\nexcept KeyError:\n    pass", 2, "torch"),
        ("with open('x'):\n    import torch", 2, "torch"),
        ("import model.columns", 1, "model.columns"),
        ("from .columns import names", 1, ".columns"),
        ("from model.rows.more import names", 1, "model.rows.more"),
        ("from space.deep import columns", 1, "space.deep"),
        ("import made_up", 1, "made_up"),
    ],
)
def test_missing_imports_are_found_wherever_they_are(tmp_path: Path, source: str, line: int, module: str) -> None:
    """Packaged code may import neither what nobody locked, nor own modules that are not there, nor test code."""
    problem = f"imports {module}, which neither the lock nor the repository provides"

    assert findings(tmp_path, source) == [f"src/model/fit.py:{line} {problem}"]


def test_tests_may_import_their_neighbours(tmp_path: Path) -> None:
    """A test gets the packaged code, modules beside it, and folders below tests; nothing else is forgiven."""
    test = "import made_up, shared.rows, tests.unit.made_up\nfrom model.fit import x\nfrom . import y\nimport torch\n"

    (finding,) = findings(tmp_path, "", test=test)

    assert finding.startswith("tests/unit/test_fit.py:4 imports torch")


def test_hostile_sources_end_in_a_finding(tmp_path: Path) -> None:
    """Code that no parser can take is one more file that does not compile."""
    (finding,) = findings(tmp_path, "(" * 5000 + ")" * 5000)

    assert finding.startswith("src/model/fit.py:")
    assert "does not compile" in finding
