"""The files of a version, and the one check that they are what was registered and signed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from taxiway.errors import IntegrityError, NotFoundError
from taxiway.ports import Registry, Verifier
from taxiway.stages.digests import directory_digest, file_digest
from taxiway.stages.sandbox import is_plain

SIGNATURE, STORED_LOCK = "taxiway/model.sig", "taxiway/requirements.txt"
_NEXT = "find out who changed the stored files; build the commit again."


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of one version on this disk: model directory, its signature, and the lock of its environment."""

    directory: Path

    @property
    def model(self) -> Path:
        """The MLflow model."""
        return self.directory / "model"

    @property
    def signature(self) -> Path:
        """The signature over the model directory."""
        return self.directory / "model.sig"

    @property
    def lock(self) -> Path:
        """The lock of the model's environment."""
        return self.directory / "requirements.txt"


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """Where a version's files are, and what was registered about them (None, which nothing equals: nothing was)."""

    name: str
    run_id: str
    digest: str | None
    lock_digest: str | None


def fetch_files(version: StoredVersion, directory: Path, registry: Registry) -> ModelFiles:
    """Download the version's files to the directory; nothing is verified yet.

    Raises NotFoundError when the run has no model or lock, IntegrityError when it is not signed, RegistryUnavailable.
    """
    files = ModelFiles(directory)
    directory.mkdir(parents=True, exist_ok=True)
    registry.get_directory(version.run_id, "model", files.model)
    registry.get_file(version.run_id, STORED_LOCK, files.lock)
    try:
        registry.get_file(version.run_id, SIGNATURE, files.signature)
    except NotFoundError as error:
        raise IntegrityError("the model is not signed", where=version.name, next_step=_NEXT) from error
    return files


def verify_files(version: StoredVersion, files: ModelFiles, verifier: Verifier) -> None:
    """Check that model and lock are those of the version, and that the platform has signed the model.

    Every use of stored files comes through here: admission, evaluation beside a candidate, and each start of a
    scorer. Raises IntegrityError.
    """
    if not is_plain(files.model):
        raise _refused(version, "the model is no directory of plain files: it has links or special files, or is gone")
    if (found := directory_digest(files.model)) != version.digest:
        raise _refused(version, f"the model has digest {found}, not {version.digest}")
    verifier.verify_directory(files.model, files.signature)
    if not is_plain(files.lock) or file_digest(files.lock) != version.lock_digest:
        raise _refused(version, f"the lock of the model's environment is not {version.lock_digest}")


def _refused(version: StoredVersion, what: str) -> IntegrityError:
    return IntegrityError(what, where=version.name, next_step=_NEXT)
