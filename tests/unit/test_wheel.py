"""Wheels come from untrusted code: what they may write to a trusted disk, and what of a repository they replace."""

from __future__ import annotations

import stat
import warnings
import zipfile
from pathlib import Path

import pytest

from taxiway.domain.values import Commit
from taxiway.errors import ContractError
from taxiway.stages.checkout import Checkout
from taxiway.stages.wheel import unpack, without_code
from tests.fakes import NOW


def wheel(directory: Path, *entries: str | zipfile.ZipInfo) -> Path:
    """Write an archive with these entries, which say their own name."""
    path = directory / "made.whl"
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicates
        for entry in entries:
            archive.writestr(entry, entry if isinstance(entry, str) else entry.filename)
    return path


def special(name: str, kind: int) -> zipfile.ZipInfo:
    """Return an entry that is a link or a device."""
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (kind | 0o644) << 16
    return entry


def lying(path: Path, size: int) -> Path:
    """Make the archive's only entry claim another size."""
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = content.index(signature) + offset
        content[start : start + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)
    return path


def test_files_and_folders_are_unpacked(tmp_path: Path) -> None:
    """Names with dots, dashes and letters of any language are files like others."""
    names = ["model/__init__.py", "model/data/größe.txt", "model-1.0.dist-info/METADATA", "folder/"]

    code = unpack(wheel(tmp_path, *names), tmp_path / "code")

    found = {path.relative_to(code).as_posix() for path in code.rglob("*") if path.is_file()}
    assert found == set(names) - {"folder/"}
    assert (code / "model/__init__.py").read_text() == "model/__init__.py"


@pytest.mark.parametrize(
    "entry",
    [
        *("/etc/taken", "../taken", "model/../../taken", "model//taken", "./taken", "model\\..\\taken", "C:taken"),
        *("tak\nen", "t" * 300, "/".join(["t" * 100] * 20)),
        *(special("model/link", stat.S_IFLNK), special("model/pipe", stat.S_IFIFO), special("device", stat.S_IFCHR)),
    ],
    ids=lambda entry: repr(getattr(entry, "filename", entry))[:40],
)
def test_entries_that_lead_elsewhere_are_refused(tmp_path: Path, entry: str | zipfile.ZipInfo) -> None:
    """One entry that is no plain file below the root, and nothing at all is written."""
    with pytest.raises(ContractError, match="no plain file"):
        unpack(wheel(tmp_path, "model/first.py", entry), tmp_path / "code")

    assert [path.name for path in tmp_path.iterdir()] == ["made.whl"]


@pytest.mark.parametrize("entries", [("a.py", "a.py"), ("a", "a/b.py"), ("a/b.py", "a")], ids=str)
def test_two_entries_with_one_name_are_refused(tmp_path: Path, entries: tuple[str, str]) -> None:
    """What an archive says twice is not decided by the order of its entries."""
    with pytest.raises(ContractError, match="one name"):
        unpack(wheel(tmp_path, *entries), tmp_path / "code")


def test_unreasonable_sizes_are_refused(tmp_path: Path) -> None:
    """Too many files, or files that say they are huge, are refused before anything is written."""
    for path in (wheel(tmp_path, *map(str, range(20_001))), lying(wheel(tmp_path, "a.py"), 2**31)):
        with pytest.raises(ContractError, match="too much"):
            unpack(path, tmp_path / "code")
    assert not (tmp_path / "code").exists()


def test_a_file_is_never_larger_than_it_says(tmp_path: Path) -> None:
    """An entry that unpacks to more than its size is refused, so that sizes cannot lie."""
    with pytest.raises(ContractError, match="cannot be used"):
        unpack(lying(wheel(tmp_path, "a.py"), 1), tmp_path / "code")

    assert not (tmp_path / "code/a.py").exists() or (tmp_path / "code/a.py").stat().st_size <= 1


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    """Any other file is a broken contract, not a crash."""
    (tmp_path / "made.whl").write_bytes(b"PK\x03\x04 and no more")

    with pytest.raises(ContractError, match="cannot be used"):
        unpack(tmp_path / "made.whl", tmp_path / "code")


def test_tests_run_without_the_code_that_was_packaged(tmp_path: Path) -> None:
    """The copy for the tests lacks the wheel's packages and modules wherever they are looked for, and nothing else."""
    files = ["src/model/a.py", "flat/b.py", "single.py", "tests/unit/test_a.py", "tests/flat/c.py", "data/flat/d.csv"]
    for name in ("pyproject.toml", *files):
        (tmp_path / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "files" / name).touch()
    code = unpack(wheel(tmp_path, "model/a.py", "flat/b.py", "single.py", "tests/oops.py"), tmp_path / "code")
    checkout = Checkout(tmp_path / "files", Commit("1" * 40, "ana", "change", NOW), "model.a:train")

    packaged = without_code(checkout, code, tmp_path / "copy")

    left = {path.relative_to(packaged.path).as_posix() for path in packaged.path.rglob("*") if path.is_file()}
    assert left == {"pyproject.toml", "tests/unit/test_a.py", "tests/flat/c.py", "data/flat/d.csv"}
    assert packaged.python_path.split(":") == [str(code), str(tmp_path / "copy")]
