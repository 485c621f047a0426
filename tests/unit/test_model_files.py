"""The one check of stored files: whatever was changed after signing is refused, wherever the files are used."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway.adapters.model_signing import KeySigner, KeyVerifier, generate_keys
from taxiway.domain.values import CHALLENGER
from taxiway.errors import IntegrityError, NotFoundError, TrainingError
from taxiway.stages.candidates import DIGEST, fetch_verified
from taxiway.stages.digests import directory_digest, file_digest
from taxiway.stages.model_files import SIGNATURE, STORED_LOCK, ModelFiles, StoredVersion, verify_files
from tests.unit.model_versions import MLMODEL, MODEL, Field

Change = Callable[[ModelFiles], object]


def sign_with_another_key(files: ModelFiles) -> None:
    """Sign as somebody would who is not this platform."""
    private, _ = generate_keys(files.directory / "other-keys")
    KeySigner(private).sign_directory(files.model, files.signature)


def add_hidden(files: ModelFiles) -> None:
    """Add files that signing tools like to leave out."""
    (files.model / ".gitignore").write_text("*")


def link_away(files: ModelFiles) -> None:
    """Replace a file by a link to the same bytes elsewhere, where they can be changed later."""
    moved = (files.model / "model.pkl").rename(files.directory / "elsewhere.pkl")
    (files.model / "model.pkl").symlink_to(moved)


def link_model(files: ModelFiles) -> None:
    """Replace the directory by a link to one with the same files."""
    files.model.symlink_to(files.model.rename(files.directory / "elsewhere"))


def link_lock(files: ModelFiles) -> None:
    """Replace the lock by a link to the same lock."""
    files.lock.symlink_to(files.lock.rename(files.directory / "elsewhere"))


STORED_CHANGES: dict[str, tuple[Change, str]] = {
    "changed": (lambda files: (files.model / "model.pkl").write_bytes(b"evil"), "digest"),
    "added": (lambda files: (files.model / "extra.py").write_text("evil"), "digest"),
    "added-hidden": (add_hidden, "digest"),
    "removed": (lambda files: (files.model / "model.pkl").unlink(), "digest"),
    "renamed": (lambda files: (files.model / "model.pkl").rename(files.model / "other.pkl"), "digest"),
    "unsigned": (lambda files: files.signature.unlink(), "not signed"),
    "no-signature": (lambda files: files.signature.write_text("{}"), "signature does not hold"),
    "another-key": (sign_with_another_key, "signature does not hold"),
    "other-lock": (lambda files: files.lock.write_text("evil==1.0\n"), "the lock of the model's environment is not"),
}
"""What can be done to stored files -> the check that finds it."""
CHANGES_AT_REST: dict[str, tuple[Change, str]] = STORED_CHANGES | {
    "link": (link_away, "links or special files"),
    "link-to-directory": (link_model, "links or special files"),
    "link-to-lock": (link_lock, "the lock of the model's environment is not"),
    "no-model": (lambda files: shutil.rmtree(files.model), "or is gone"),
    "no-lock": (lambda files: files.lock.unlink(), "the lock of the model's environment is not"),
}


@pytest.fixture
def field(keys: tuple[Path, Path]) -> Field:
    """An installation without any model yet."""
    return Field(keys)


@pytest.fixture
def signed(tmp_path: Path, keys: tuple[Path, Path]) -> tuple[StoredVersion, ModelFiles]:
    """The files of a version as they were signed."""
    files = ModelFiles(tmp_path)
    files.model.mkdir()
    (files.model / "MLmodel").write_text(MLMODEL)
    (files.model / "model.pkl").write_bytes(b"a pickle")
    files.lock.write_text("scikit-learn==1.9.1\n")
    KeySigner(keys[0]).sign_directory(files.model, files.signature)
    return StoredVersion("flights version 1", "run", directory_digest(files.model), file_digest(files.lock)), files


def test_what_was_signed_is_accepted(signed: tuple[StoredVersion, ModelFiles], keys: tuple[Path, Path]) -> None:
    """Untouched files pass."""
    verify_files(*signed, KeyVerifier(keys[1]))


@pytest.mark.parametrize("case", CHANGES_AT_REST)
def test_files_changed_at_rest_are_refused(
    signed: tuple[StoredVersion, ModelFiles], keys: tuple[Path, Path], case: str
) -> None:
    """Each change is found, and the error names the version and what to do."""
    version, files = signed
    change, says = CHANGES_AT_REST[case]
    change(files)

    with pytest.raises(IntegrityError, match=says) as raised:
        verify_files(version, files, KeyVerifier(keys[1]))
    assert "Next: " in str(raised.value)


def test_files_of_another_version_are_refused(
    signed: tuple[StoredVersion, ModelFiles], keys: tuple[Path, Path]
) -> None:
    """A good signature is not enough: the files must be those that were registered, or nothing was."""
    version, files = signed
    for other in (replace(version, digest="sha256:other"), replace(version, digest=None)):
        with pytest.raises(IntegrityError, match="the model has digest sha256:"):
            verify_files(other, files, KeyVerifier(keys[1]))
    with pytest.raises(IntegrityError, match="is not None"):
        verify_files(replace(version, lock_digest=None), files, KeyVerifier(keys[1]))


@pytest.mark.parametrize("case", STORED_CHANGES)
def test_admission_refuses_changed_files(field: Field, tmp_path: Path, case: str) -> None:
    """A delivery ends before anything serves when the stored files are not those that were signed."""
    candidate = field.candidate("first")
    files = ModelFiles(tmp_path)
    field.registry.get_directory(candidate.run_id, "model", files.model)
    field.registry.get_file(candidate.run_id, SIGNATURE, files.signature)
    field.registry.get_file(candidate.run_id, STORED_LOCK, files.lock)
    STORED_CHANGES[case][0](files)
    run = field.registry.runs[candidate.run_id]
    field.registry.put_directory(candidate.run_id, "model", files.model)
    run.files[STORED_LOCK] = files.lock.read_bytes()
    if files.signature.exists():
        run.files[SIGNATURE] = files.signature.read_bytes()
    else:
        del run.files[SIGNATURE]

    with pytest.raises(IntegrityError):
        field.delivery(candidate.version).admit(field.verifier)
    assert field.registry.by_alias(MODEL, CHALLENGER) is None


def test_admission_refuses_what_the_spec_no_longer_allows(field: Field) -> None:
    """A version that was built under a more generous policy is not delivered under a stricter one."""
    candidate = field.candidate("first")
    field.spec = field.spec.model_copy(update={"package": field.spec.package.model_copy(update={"loaders": ("x",)})})

    with pytest.raises(TrainingError, match=r"'mlflow\.sklearn', which package\.loaders does not have"):
        field.delivery(candidate.version).admit(field.verifier)
    assert field.registry.by_alias(MODEL, CHALLENGER) is None


def test_verified_files_lie_beside_each_other(field: Field, tmp_path: Path) -> None:
    """Who fetches a verified model finds the lock that was verified with it, under the name that environments use."""
    candidate = field.candidate("first")

    model = fetch_verified(candidate, tmp_path, registry=field.registry, verifier=field.verifier)

    assert directory_digest(model) == candidate.tags[DIGEST]
    assert (tmp_path / "requirements.txt").read_text() == "# first\n"


def test_a_version_without_files_is_not_found(field: Field, tmp_path: Path) -> None:
    """That the store lost the files is something else than that somebody changed them."""
    candidate = field.candidate("first")
    field.registry.runs[candidate.run_id].files.clear()

    with pytest.raises(NotFoundError):
        fetch_verified(candidate, tmp_path, registry=field.registry, verifier=field.verifier)
