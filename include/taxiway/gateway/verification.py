"""What must hold before a version is loaded: the bytes are the signed ones, and they are approved for here."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from taxiway.domain.release import check_approval
from taxiway.domain.values import Release
from taxiway.errors import IntegrityError
from taxiway.ports import Registry, Verifier
from taxiway.stages.digests import directory_digest, file_digest

_REDELIVER = "find out who changed the stored files; build the commit again."


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """The files of one served version: model directory, its signature, and the lock of its environment."""

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


def fetch(release: Release, files: VersionFiles, registry: Registry) -> None:
    """Download the files of the release, replacing what is there; raises NotFoundError or RegistryUnavailable."""
    remove(files)
    files.directory.mkdir(parents=True)
    registry.get_directory(release.run_id, "model", files.model)
    try_files = {"taxiway/model.sig": files.signature, "taxiway/requirements.txt": files.lock}
    for path, destination in try_files.items():
        registry.get_file(release.run_id, path, destination)


def remove(files: VersionFiles) -> None:
    """Delete the files of a version."""
    shutil.rmtree(files.directory, ignore_errors=True)


def verify(release: Release, files: VersionFiles, environment: str, verifier: Verifier) -> None:
    """Check approval, digest, signature and lock of files on this disk; raises IntegrityError."""
    check_approval(verifier.verify_statement(release.approval), release, environment)
    where = f"{release.model} version {release.version} in {environment}"
    found = directory_digest(files.model)
    if found != release.digest:
        raise IntegrityError(f"the model has digest {found}, not {release.digest}", where=where, next_step=_REDELIVER)
    verifier.verify_directory(files.model, files.signature)
    lock = file_digest(files.lock)
    if lock != release.lock_digest:
        what = f"the lock has digest {lock}, not {release.lock_digest}"
        raise IntegrityError(what, where=where, next_step=_REDELIVER)
