"""The build's wheel: the repository's code, packaged once; what is checked, tested and trained comes out of it."""

from __future__ import annotations

import re
import shutil
import stat
import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taxiway.errors import BuildError, ContractError, IntegrityError
from taxiway.ports import Registry
from taxiway.stages.checkout import Checkout
from taxiway.stages.digests import file_digest
from taxiway.stages.environments import ModelEnvironment
from taxiway.stages.evidence_store import evidence_of
from taxiway.stages.sandbox import SCRIPTS, CommandLimits, is_plain, run

DIST = "taxiway/dist"

_MOST_FILES, _MOST_BYTES = 20_000, 1024**3
_WHEEL = re.compile(r"[\w.!+-]{1,200}\.whl", re.ASCII)
_SHOWN_LINES = 6
_LONGEST_NAME, _LONGEST_PATH = 200, 1000  # bytes: what every file system takes
_NEXT = "run `uv build --wheel` in the model repository, see what is in dist/, correct it and push again."


@dataclass(frozen=True, slots=True)
class Packaged:
    """A build's code as its wheel has it (`code`), and the rest of its repository (`path`), which has the tests."""

    path: Path
    code: Path

    @property
    def python_path(self) -> str:
        """What tests need on PYTHONPATH: the code, and the root for what tests share."""
        return f"{self.code}:{self.path}"


def build_wheel(checkout: Checkout, environment: ModelEnvironment, limits: CommandLimits, directory: Path) -> Path:
    """Return the wheel of the checkout's code, built in the sandbox without a network below `directory`.

    Raises BuildError with the end of uv's output.
    """
    source, dist = directory / "source", directory / "dist"
    shutil.copytree(checkout.path, source, symlinks=True)
    dist.mkdir()
    uv = Path(sys.executable).with_name("uv")
    # start.py becomes uv: so the sandbox shows the model's environment, and of Taxiway's only this one file.
    command: list[str | Path] = [environment.python, SCRIPTS / "start.py", "exec", "--", uv, "build", "--wheel"]
    command += ["--offline", "--no-build-isolation", "--no-create-gitignore", "--python", environment.python]
    outcome = run([*command, "--out-dir", dist, source], cwd=source, limits=limits, reads=(uv,), writes=(dist,))
    print(outcome.output)  # noqa: T201 (the packaging's own output belongs into the task's log)
    wheels = list(dist.iterdir()) if outcome.succeeded and is_plain(dist) else []
    if len(wheels) != 1 or not _WHEEL.fullmatch(wheels[0].name):
        said = outcome.output.partition("\nhint:")[0].strip().splitlines()  # uv's hints are about indexes
        ending = outcome.limit or " | ".join(said[-_SHOWN_LINES:])
        raise BuildError(f"the code cannot be built into a wheel: {ending}", where=_place(checkout), next_step=_NEXT)
    return wheels[0]


def unpack(wheel: Path, destination: Path) -> Path:
    """Write the wheel's files below `destination`, which must not exist, and return it.

    Raises ContractError when it is no wheel, is unreasonably large, or has an entry that leads elsewhere.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            _check(archive.infolist())
            for entry in archive.infolist():
                target = destination / entry.filename
                (target if entry.is_dir() else target.parent).mkdir(parents=True, exist_ok=True)
                if not entry.is_dir():
                    with archive.open(entry) as packed, target.open("xb") as file:
                        shutil.copyfileobj(packed, file)  # never more than the size that was checked
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise _unusable(wheel, str(error)) from error
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise _unusable(wheel, "two entries have one name") from error
    return destination


def code_of(run_id: str, registry: Registry, directory: Path) -> Path:
    """Return the files of the build's wheel, written below `directory`; raises NotFoundError, IntegrityError."""
    built = evidence_of(registry, run_id, "build").figures
    wheel = directory / "packaged.whl"
    registry.get_file(run_id, f"{DIST}/{built['wheel']}", wheel)
    if file_digest(wheel) != built["wheel_digest"]:
        raise IntegrityError(
            "the stored wheel is not the one that was built",
            where=f"{built['wheel']} of run {run_id}",
            next_step="find out who changed it, and build the commit again.",
        )
    return unpack(wheel, directory / "code")


def without_code(checkout: Checkout, code: Path, destination: Path) -> Packaged:
    """Copy the repository without what the wheel has of it, so that nothing but the wheel's code can be tested."""
    packaged = {entry.name for entry in code.iterdir()} - {"tests"}
    places = {str(checkout.path), str(checkout.path / "src")}

    def left_out(folder: str, names: list[str]) -> set[str]:
        return packaged.intersection(names) if folder in places else set()

    shutil.copytree(checkout.path, destination, symlinks=True, ignore=left_out)
    return Packaged(destination, code)


def check_entry(checkout: Checkout, code: Path) -> None:
    """Raise ContractError when the wheel does not have the module of the train function."""
    module = checkout.entry.partition(":")[0]
    file = code.joinpath(*module.split("."))
    if not (file.with_suffix(".py").is_file() or (file / "__init__.py").is_file()):
        found = ", ".join(sorted(entry.name for entry in code.iterdir() if entry.suffix != ".dist-info")) or "nothing"
        raise ContractError(
            f"the wheel has no module {module}, which [tool.taxiway] names; it has {found}",
            where=_place(checkout),
            next_step=_NEXT,
        )


def _check(entries: Sequence[zipfile.ZipInfo]) -> None:
    """Raise BadZipFile for what trusted code should not write to its disk."""
    size = sum(entry.file_size for entry in entries)
    if len(entries) > _MOST_FILES or size > _MOST_BYTES:
        raise zipfile.BadZipFile(f"{len(entries)} files of {size} bytes are too much")
    for entry in entries:
        if not _is_harmless(entry):
            raise zipfile.BadZipFile(f"the entry {entry.filename[:_LONGEST_NAME]!r} is no plain file below its root")


def _is_harmless(entry: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where the packager says nothing about it
    parts = entry.filename.removesuffix("/").split("/")
    plain = kind in (0, stat.S_IFREG, stat.S_IFDIR) and len(entry.filename.encode()) <= _LONGEST_PATH
    return plain and all(_is_name(part) for part in parts)


def _is_name(part: str) -> bool:
    usual = part.isprintable() and not set(part) & set("\\:") and len(part.encode()) <= _LONGEST_NAME
    return usual and part not in ("", ".", "..")


def _unusable(wheel: Path, why: str) -> ContractError:
    return ContractError(f"the wheel cannot be used: {why}", where=wheel.name, next_step=_NEXT)


def _place(checkout: Checkout) -> str:
    return f"commit {checkout.commit.sha[:12]}"
