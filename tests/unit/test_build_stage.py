"""The build stage: environment, bill of materials, audit and wheel, each once, and evidence of every way to fail."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from taxiway.domain.evidence import Verdict
from taxiway.errors import BuildError, ContractError, IntegrityError, TaxiwayError
from taxiway.spec_values import Duration
from taxiway.stages.digests import file_digest
from taxiway.stages.sandbox import weaknesses
from taxiway.stages.wheel import code_of
from tests.unit.tiny_repositories import OWN_BACKEND, PYPROJECT, Workshop, required_packages, write_wheel

WHEEL = "taxiway/dist/tiny-1.0-py3-none-any.whl"
INFO = """
def entries():
    info = "tiny-1.0.dist-info"
    yield f"{info}/METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n"
    yield f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    yield f"{info}/RECORD", ""
    yield "tiny/__init__.py", ""
"""
BACKEND = f"""
import os, pathlib, zipfile
{INFO}
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(directory, name), "w") as archive:
        for entry, content in [*entries(), ("tiny/train.py", f"train = print  # {{os.urandom(8).hex()}}"), *MORE]:
            archive.writestr(entry, content)
    return name
"""


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path / "cache", required_packages(tmp_path / "packages", monkeypatch))


def own_backend(code: str = "MORE = []\n") -> dict[str, str | None]:
    """Return the change that packages with code of the repository: each time another wheel."""
    return {"pyproject.toml": OWN_BACKEND, "backend.py": BACKEND + code}


def audited(workshop: Workshop, code: str, *words: str) -> None:
    """Have the lock audited by some Python code."""
    section = workshop.spec.build.model_copy(update={"audit": (sys.executable, "-c", code, *words)})
    workshop.spec = workshop.spec.model_copy(update={"build": section})


def limited(workshop: Workshop, build: Duration) -> None:
    """Give each command of a build so much time."""
    section = workshop.spec.limits.model_copy(update={"build": build})
    workshop.spec = workshop.spec.model_copy(update={"limits": section})


def test_a_build_leaves_wheel_bill_of_materials_and_evidence(workshop: Workshop, tmp_path: Path) -> None:
    """The run has the wheel of the commit's code, what its environment consists of, and the figures of both."""
    of = workshop.opened()

    evidence = workshop.build(of)

    assert evidence == workshop.evidence(of)
    assert evidence.verdict is Verdict.PASSED
    assert evidence.figures["environment"] == of.lock_digest
    assert (evidence.figures["reused"], evidence.figures["components"]) == (False, 4)
    assert evidence.figures["audit"] == "not configured"
    assert f"taxiway/dist/{evidence.figures['wheel']}" == WHEEL
    workshop.registry.get_file(of.run_id, WHEEL, tmp_path / "stored.whl")
    assert evidence.figures["wheel_digest"] == file_digest(tmp_path / "stored.whl")
    bill = json.loads(workshop.stored(of)["taxiway/sbom.cdx.json"])
    assert {item["name"] for item in bill["components"]} == {"mlflow-skinny", "pandas", "pyarrow", "pytest"}


def test_later_stages_get_the_code_that_was_packaged(workshop: Workshop, tmp_path: Path) -> None:
    """A machine that has nothing but the registry unpacks the wheel: the code and its metadata, and no tests."""
    code = code_of(workshop.built().run_id, workshop.registry, tmp_path)

    assert {entry.name for entry in code.iterdir()} == {"tiny", "tiny-1.0.dist-info"}
    assert "def train(" in (code / "tiny/train.py").read_text()


def test_the_wheel_is_built_once(workshop: Workshop) -> None:
    """A repeated task leaves the wheel that later stages may have read, even where packaging is not reproducible."""
    of = workshop.built(own_backend())
    first, wheel = workshop.evidence(of), workshop.stored(of)[WHEEL]

    again = workshop.build(of)

    assert workshop.stored(of)[WHEEL] == wheel
    assert again.figures == {**first.figures, "reused": True}


def test_code_alone_changes_no_environment(workshop: Workshop) -> None:
    """Another commit with the same lock uses the same environment; another lock gets its own."""
    first = workshop.build(workshop.opened())
    code = workshop.build(workshop.opened({"src/tiny/more.py": "MORE = 1\n"}, name="commit-2"))
    workshop.lock += "# a change\n"
    lock = workshop.build(workshop.opened(name="commit-3"))

    assert (code.figures["reused"], lock.figures["reused"]) == (True, False)
    assert code.figures["environment"] == first.figures["environment"] != lock.figures["environment"]
    assert code.figures["wheel_digest"] != first.figures["wheel_digest"]


def test_a_flat_repository_is_packaged_too(workshop: Workshop, tmp_path: Path) -> None:
    """Code may lie in the root; only what the wheel has is code."""
    settings = PYPROJECT + '\n[tool.uv.build-backend]\nmodule-root = ""\n'
    flat = {"src/tiny/__init__.py": None, "src/tiny/train.py": None}
    flat |= {"tiny/__init__.py": "", "tiny/train.py": "train = print\n", "pyproject.toml": settings}

    code = code_of(workshop.built(flat).run_id, workshop.registry, tmp_path)

    assert {entry.name for entry in code.iterdir()} == {"tiny", "tiny-1.0.dist-info"}


@pytest.mark.skipif(bool(weaknesses()), reason="bubblewrap does not work here")
def test_packaging_runs_in_the_sandbox(workshop: Workshop, tmp_path: Path) -> None:
    """The repository's build backend sees no file of this user and reaches no network."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        look = f"""
import socket
SEEN = [pathlib.Path({str(secret)!r}).exists(), "UV_FIND_LINKS" in os.environ]
try:
    socket.create_connection(("127.0.0.1", {server.getsockname()[1]}))
except OSError:
    SEEN.append(False)
MORE = [("tiny/seen.txt", repr(SEEN))]
"""
        code = code_of(workshop.built(own_backend(look)).run_id, workshop.registry, tmp_path)

    assert (code / "tiny/seen.txt").read_text() == "[False, False, False]"


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"src/tiny/__init__.py": None}, BuildError, "cannot be built into a wheel"),
        ({"pyproject.toml": PYPROJECT.replace("tiny.train:", "tiny.fit:")}, ContractError, "has no module tiny.fit"),
        (own_backend("MORE = [('../escaped.py', '')]\n"), ContractError, "no plain file below its root"),
        (own_backend("raise SystemExit('no such luck')\n"), BuildError, "no such luck"),
    ],
    ids=["no package", "other module", "hostile wheel", "backend raises"],
)
def test_code_that_cannot_be_packaged_is_one_clear_error(
    workshop: Workshop, changes: dict[str, str | None], error: type[TaxiwayError], reason: str
) -> None:
    """The error says what is wrong and what to do; no wheel is stored, and the evidence has the reason."""
    of = workshop.opened(changes)

    with pytest.raises(error, match=reason) as raised:
        workshop.build(of)

    assert raised.value.next_step
    assert WHEEL not in workshop.stored(of)
    evidence = workshop.evidence(of)
    assert (evidence.verdict, evidence.figures["components"]) == (Verdict.FAILED, 4)
    assert reason in evidence.reasons[0]


def test_a_lock_that_cannot_be_installed_leaves_evidence(workshop: Workshop, tmp_path: Path) -> None:
    """What is wrong with the lock is in the build's run, not only in a log."""
    write_wheel(tmp_path / "packages", "pandas", code="changed = True")
    of = workshop.opened()

    with pytest.raises(BuildError):
        workshop.build(of)

    evidence = workshop.evidence(of)
    assert (evidence.verdict, evidence.figures) == (Verdict.FAILED, {})
    assert "hash" in evidence.reasons[0].lower()


def test_the_audit_reads_lock_and_bill(workshop: Workshop) -> None:
    """The command gets the two files by their placeholders; when it finds nothing, the evidence says so."""
    check = "import sys, json; assert 'pandas==' in open(sys.argv[1]).read(); json.load(open(sys.argv[2][5:]))"
    audited(workshop, check, "{lock}", "file:{sbom}")

    assert workshop.build(workshop.opened()).figures["audit"] == "passed"


def test_what_the_audit_finds_stops_the_build(workshop: Workshop) -> None:
    """Findings are in the error and in the evidence, and no code of the repository has run by then."""
    audited(workshop, "print('pandas 1.0: CVE-2026-1'); raise SystemExit(1)")
    of = workshop.opened(own_backend())

    with pytest.raises(BuildError, match="CVE-2026-1"):
        workshop.build(of)

    evidence = workshop.evidence(of)
    assert (evidence.verdict, evidence.figures["audit"]) == (Verdict.FAILED, "failed")
    assert "CVE-2026-1" in evidence.reasons[0]
    assert WHEEL not in workshop.stored(of)


def test_an_audit_that_does_not_end_is_an_error_not_a_finding(workshop: Workshop) -> None:
    """At the limit nothing is known about the packages: the verdict is `error`."""
    workshop.build(workshop.opened())
    limited(workshop, workshop.spec.limits.build * 0.002)
    audited(workshop, "import threading; threading.Event().wait()")
    of = workshop.opened(name="commit-2")

    with pytest.raises(BuildError, match="wall time"):
        workshop.build(of)

    assert (workshop.evidence(of).verdict, workshop.evidence(of).figures["audit"]) == (Verdict.ERROR, "stopped")


def test_the_audit_sees_the_network_settings_and_no_secret(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The platform's command may need a proxy; it never gets what signs or deploys."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    monkeypatch.setenv("TAXIWAY_PRODUCTION_TOKEN", "s3cret")
    audited(workshop, "import os; print(sorted(os.environ))")

    workshop.build(workshop.opened())

    printed = capsys.readouterr().out
    assert "'HTTPS_PROXY'" in printed
    assert "TAXIWAY_PRODUCTION_TOKEN" not in printed


def test_a_stored_wheel_that_changed_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    """What is tested and trained is what was built, or nothing."""
    of = workshop.built()
    workshop.stored(of)[WHEEL] += b"more"

    with pytest.raises(IntegrityError, match="is not the one that was built"):
        code_of(of.run_id, workshop.registry, tmp_path)
