"""Signatures of model directories (OpenSSF model-signing) and of statements, with one EC P-256 key pair."""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from taxiway.errors import IntegrityError, SettingsError

if TYPE_CHECKING:
    from model_signing.hashing import Config

PRIVATE_KEY = "platform.key"
PUBLIC_KEY = "platform.pub"
_STATEMENT_TYPE = b"application/vnd.taxiway.statement+json"
_MAKE_KEYS = "`taxiway up` makes a key pair; or set TAXIWAY_SIGNING_KEY and TAXIWAY_VERIFY_KEY."
_DIGESTS = re.compile(r": Expected 'Digest\(.*?\)', Actual 'Digest\(.*?\)'")
_NEVER_SERVE = "do not serve it; build the candidate again, and find out who changed it."


def generate_keys(directory: Path) -> tuple[Path, Path]:
    """Make the platform's key pair (PEM; the private key with mode 0600) unless it exists; return (private, public).

    An existing private key is never overwritten; a missing public key is derived from it again.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    private, public = directory / PRIVATE_KEY, directory / PUBLIC_KEY
    if not private.exists():
        pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _create(private, pem, 0o600)
    if not public.exists():
        key = _private_key(private).public_key()
        pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        _create(public, pem, 0o644)
    return private, public


class KeySigner:
    """Signs with the platform's private key."""

    def __init__(self, private_key: Path) -> None:
        self._path = private_key

    def sign_directory(self, directory: Path, signature: Path) -> None:
        """Sign all files of the directory; the signature is written outside of it.

        Raises IntegrityError when the directory is empty or holds anything but plain files and directories.
        """
        from model_signing.signing import Config

        _private_key(self._path)
        _check_plain(directory)
        signature.parent.mkdir(parents=True, exist_ok=True)
        signer = Config().use_elliptic_key_signer(private_key=self._path)
        signer.set_hashing_config(_every_file()).sign(directory, signature)

    def sign_statement(self, statement: Mapping[str, Any]) -> str:
        """Return the statement with its signature, as one JSON text: {"payload": base64, "signature": base64}.

        The payload is canonical JSON; the signature is ECDSA over SHA-256 of its DSSE pre-authentication encoding.
        """
        payload = json.dumps(
            statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()
        signature = _private_key(self._path).sign(_authenticated(payload), ec.ECDSA(hashes.SHA256()))
        return json.dumps({"payload": _text(payload), "signature": _text(signature)})


class KeyVerifier:
    """Verifies with the platform's public key."""

    def __init__(self, public_key: Path) -> None:
        self._path = public_key

    def verify_directory(self, directory: Path, signature: Path) -> None:
        """Raise IntegrityError when any file was added, removed or changed, or the key is unknown."""
        from model_signing.verifying import Config

        _public_key(self._path)
        _check_plain(directory)
        if not signature.is_file():
            raise IntegrityError("the model is not signed", where=str(signature), next_step=_NEVER_SERVE)
        verifier = Config().use_elliptic_key_verifier(public_key=self._path)
        try:
            verifier.set_hashing_config(_every_file()).verify(directory, signature)
        except Exception as error:  # the library raises ValueError, InvalidSignature and parser errors alike
            detail = _DIGESTS.sub("", str(error)) or type(error).__name__
            raise IntegrityError(
                f"the model's signature does not hold: {detail}", where=str(directory), next_step=_NEVER_SERVE
            ) from error

    def verify_statement(self, signed: str) -> dict[str, Any]:
        """Return the statement; raises IntegrityError when the signature does not hold."""
        key = _public_key(self._path)
        try:
            envelope = json.loads(signed)
            payload = base64.b64decode(envelope["payload"], validate=True)
            signature = base64.b64decode(envelope["signature"], validate=True)
            key.verify(signature, _authenticated(payload), ec.ECDSA(hashes.SHA256()))
            statement: dict[str, Any] = json.loads(payload)
        except InvalidSignature as error:
            raise IntegrityError(
                "the statement was changed, or signed with another key", next_step="ask for a new statement."
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"this is no signed statement: {error!r}") from error
        return statement


def _every_file() -> Config:
    """Return a hashing configuration that leaves nothing out (the default skips .git*)."""
    from model_signing.hashing import Config

    config: Config = Config().set_ignored_paths(paths=[], ignore_git_paths=False)
    return config


def _check_plain(directory: Path) -> None:
    """Refuse what a signature over files cannot cover."""
    if directory.is_symlink() or not directory.is_dir():
        raise IntegrityError("there is no model directory", where=str(directory))
    paths = list(directory.rglob("*"))
    for path in paths:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityError(
                f"{path.relative_to(directory)} is a link or a special file; a model directory holds plain files only",
                where=str(directory),
                next_step="save the model with copies instead of links.",
            )
    if not any(path.is_file() for path in paths):
        raise IntegrityError("the model directory is empty", where=str(directory))


def _authenticated(payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding, so that no other kind of payload can pass for a statement."""
    return b"DSSEv1 %d %s %d %s" % (len(_STATEMENT_TYPE), _STATEMENT_TYPE, len(payload), payload)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _create(path: Path, content: bytes, mode: int) -> None:
    """Write a file that appears complete or not at all, and never replaces one that is there."""
    with tempfile.NamedTemporaryFile(dir=path.parent) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), mode)
        try:
            path.hardlink_to(file.name)
        except FileExistsError:
            return  # another process was faster: its key is the platform's key


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(
            f"the signing key cannot be read: {error}", where=str(path), next_step=_MAKE_KEYS
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SettingsError("the signing key is not an elliptic-curve key", where=str(path), next_step=_MAKE_KEYS)
    return key


def _public_key(path: Path) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"the public key cannot be read: {error}", where=str(path), next_step=_MAKE_KEYS) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SettingsError("the public key is not an elliptic-curve key", where=str(path), next_step=_MAKE_KEYS)
    return key
