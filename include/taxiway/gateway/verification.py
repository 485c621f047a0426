"""What must hold before a version is loaded: the bytes are the signed ones, and they are approved for here."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from taxiway.domain.release import check_approval
from taxiway.domain.values import Release
from taxiway.errors import IntegrityError, NotFoundError
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


def fetch(release: Release, files: VersionFiles, registry: Registry) -> VersionFiles:
    """Download the files of the release next to where they belong, for `install`.

    Raises NotFoundError when the run has no model, IntegrityError when it is not signed, RegistryUnavailable.
    """
    fresh = VersionFiles(files.directory.with_name(f"{files.directory.name}.new"))
    remove(fresh)
    fresh.directory.mkdir(parents=True)
    registry.get_directory(release.run_id, "model", fresh.model)
    registry.get_file(release.run_id, "taxiway/requirements.txt", fresh.lock)
    try:
        registry.get_file(release.run_id, "taxiway/model.sig", fresh.signature)
    except NotFoundError as error:
        raise IntegrityError("the model is not signed", where=_name(release), next_step=_REDELIVER) from error
    return fresh


def install(fresh: VersionFiles, files: VersionFiles) -> None:
    """Put fetched files where they belong, in place of what is there."""
    remove(files)
    fresh.directory.rename(files.directory)


def remove(files: VersionFiles) -> None:
    """Delete the files of a version."""
    shutil.rmtree(files.directory, ignore_errors=True)


def verify_approval(release: Release, environment: str, verifier: Verifier) -> None:
    """Check that exactly this release is approved for the environment; raises IntegrityError."""
    check_approval(verifier.verify_statement(release.approval), release, environment)


def verify_files(release: Release, files: VersionFiles, verifier: Verifier) -> None:
    """Check digest, signature and lock of the files on this disk; raises IntegrityError."""
    found = directory_digest(files.model)
    if found != release.digest:
        what = f"the model has digest {found}, not {release.digest}"
        raise IntegrityError(what, where=_name(release), next_step=_REDELIVER)
    verifier.verify_directory(files.model, files.signature)
    if not files.lock.is_file() or file_digest(files.lock) != release.lock_digest:
        what = f"the lock of the model's environment is not {release.lock_digest}"
        raise IntegrityError(what, where=_name(release), next_step=_REDELIVER)


def _name(release: Release) -> str:
    return f"{release.model} version {release.version}"
