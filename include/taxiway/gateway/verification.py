"""What must hold before a version is loaded: the bytes are the signed ones, and they are approved for here."""

from __future__ import annotations

import os
import shutil

from taxiway.domain.release import check_approval
from taxiway.domain.values import Release
from taxiway.ports import Registry, Verifier
from taxiway.stages.model_files import ModelFiles, StoredVersion, fetch_files, verify_files


def fetch(release: Release, files: ModelFiles, registry: Registry) -> ModelFiles:
    """Download the files of the release next to where they belong, for `install`; each process has a place of its own.

    Raises NotFoundError when the run has no model, IntegrityError when it is not signed, RegistryUnavailable.
    """
    fresh = ModelFiles(files.directory.with_name(f"{files.directory.name}.{os.getpid()}.new"))
    remove(fresh)
    return fetch_files(_stored(release), fresh.directory, registry)


def install(fresh: ModelFiles, files: ModelFiles) -> None:
    """Put fetched files where they belong, in place of what is there."""
    remove(files)
    fresh.directory.rename(files.directory)


def remove(files: ModelFiles) -> None:
    """Delete the files of a version."""
    shutil.rmtree(files.directory, ignore_errors=True)


def verify_approval(release: Release, environment: str, verifier: Verifier) -> None:
    """Check that exactly this release is approved for the environment; raises IntegrityError."""
    check_approval(verifier.verify_statement(release.approval), release, environment)


def verify_release(release: Release, files: ModelFiles, environment: str, verifier: Verifier) -> None:
    """Check the approval, and that the files on this disk are the approved ones; raises IntegrityError."""
    verify_approval(release, environment, verifier)
    verify_files(_stored(release), files, verifier)


def _stored(release: Release) -> StoredVersion:
    name = f"{release.model} version {release.version}"
    return StoredVersion(name, release.run_id, release.digest, release.lock_digest)
