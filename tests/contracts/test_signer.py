"""The signer and verifier ports: what was signed holds, and nothing else does."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from taxiway.adapters.model_signing import KeySigner, KeyVerifier, generate_keys
from taxiway.errors import IntegrityError, SettingsError
from taxiway.ports import Signer, Verifier

STATEMENT = {"model": "flight_delays", "version": 3, "reasons": ["größer"], "figures": {"roc_auc": 0.7, "none": None}}


@pytest.fixture
def signer(keys: tuple[Path, Path]) -> Signer:
    return KeySigner(keys[0])


@pytest.fixture
def verifier(keys: tuple[Path, Path]) -> Verifier:
    return KeyVerifier(keys[1])


@pytest.fixture
def stranger(tmp_path: Path) -> Signer:
    """Somebody else's key."""
    return KeySigner(generate_keys(tmp_path / "stranger")[0])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    (directory / "data").mkdir(parents=True)
    (directory / "MLmodel").write_text("flavors: {}")
    (directory / "data/weights.bin").write_bytes(bytes(range(256)) * 100)
    for name in (".gitignore", ".gitattributes", ".hidden"):
        (directory / name).write_text("something")
    for name in (".git", ".github"):
        (directory / name).mkdir()
        (directory / name / "config").write_text("something")
    return directory


@pytest.fixture
def signature(signer: Signer, model: Path, tmp_path: Path) -> Path:
    signer.sign_directory(model, tmp_path / "signatures/model.sig")
    return tmp_path / "signatures/model.sig"


def test_a_copy_under_another_name_holds(verifier: Verifier, model: Path, signature: Path, tmp_path: Path) -> None:
    """The signature is about the files: it holds for a copy anywhere, and is not inside of what it signs."""
    shutil.copytree(model, tmp_path / "elsewhere/copy")
    verifier.verify_directory(tmp_path / "elsewhere/copy", signature)
    assert not signature.is_relative_to(model)


def flip_a_byte(model: Path) -> None:
    content = bytearray((model / "data/weights.bin").read_bytes())
    content[1000] ^= 1
    (model / "data/weights.bin").write_bytes(content)


CHANGES: dict[str, Callable[[Path], object]] = {
    "changed": flip_a_byte,
    "added": lambda model: (model / "extra.py").write_text("x"),
    "added hidden": lambda model: (model / "data/.extra").write_text("x"),
    "removed": lambda model: (model / "data/weights.bin").unlink(),
    "renamed": lambda model: (model / "data/weights.bin").rename(model / "data/weights2.bin"),
    "changed .gitignore": lambda model: (model / ".gitignore").write_text("else"),
    "changed .gitattributes": lambda model: (model / ".gitattributes").write_text("else"),
    "changed .git": lambda model: (model / ".git/config").write_text("else"),
    "added to .git": lambda model: (model / ".git/extra").write_text("else"),
    "changed .github": lambda model: (model / ".github/config").write_text("else"),
    "changed .hidden": lambda model: (model / ".hidden").write_text("else"),
    "link to a file": lambda model: (model / "link").symlink_to(model / "MLmodel"),
    "link to a directory": lambda model: (model / "link").symlink_to(model / "data"),
    "broken link": lambda model: (model / "link").symlink_to("nowhere"),
    "pipe": lambda model: os.mkfifo(model / "pipe"),
    "all gone": shutil.rmtree,
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_is_found(change: str, verifier: Verifier, model: Path, signature: Path) -> None:
    """A file changed, added, removed or renamed, and any link or special file, breaks the signature."""
    verifier.verify_directory(model, signature)
    CHANGES[change](model)
    with pytest.raises(IntegrityError):
        verifier.verify_directory(model, signature)


def test_a_file_replaced_by_a_link_to_the_same_bytes_is_found(verifier: Verifier, model: Path, signature: Path) -> None:
    """A link is refused even where it leads to the bytes that were signed."""
    (model / "MLmodel").rename(model.parent / "MLmodel")
    (model / "MLmodel").symlink_to(model.parent / "MLmodel")
    with pytest.raises(IntegrityError, match="link"):
        verifier.verify_directory(model, signature)


def test_an_unknown_key_does_not_count(stranger: Signer, verifier: Verifier, model: Path, tmp_path: Path) -> None:
    """A directory that somebody else signed is refused."""
    stranger.sign_directory(model, tmp_path / "stranger.sig")
    with pytest.raises(IntegrityError):
        verifier.verify_directory(model, tmp_path / "stranger.sig")


def test_a_signature_of_another_model_does_not_count(
    signer: Signer, verifier: Verifier, model: Path, signature: Path, tmp_path: Path
) -> None:
    """A genuine signature of another directory is refused."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/MLmodel").write_text("other")
    signer.sign_directory(tmp_path / "other", tmp_path / "other.sig")
    with pytest.raises(IntegrityError):
        verifier.verify_directory(model, tmp_path / "other.sig")


@pytest.mark.parametrize("content", [None, "", "{}", "not json", '{"mediaType": "x"}'])
def test_a_broken_signature_does_not_count(
    content: str | None, verifier: Verifier, model: Path, tmp_path: Path
) -> None:
    """A missing, empty or nonsensical signature is refused."""
    if content is not None:
        (tmp_path / "model.sig").write_text(content)
    with pytest.raises(IntegrityError):
        verifier.verify_directory(model, tmp_path / "model.sig")


def test_an_edited_signature_does_not_count(verifier: Verifier, model: Path, signature: Path) -> None:
    """A file that is added to directory and signed manifest alike is found by the manifest's signature."""
    bundle = json.loads(signature.read_text())
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    payload["predicate"]["resources"] = payload["predicate"]["resources"][1:]
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    signature.write_text(json.dumps(bundle))
    with pytest.raises(IntegrityError):
        verifier.verify_directory(model, signature)


def test_a_directory_with_links_is_not_signed(signer: Signer, model: Path, tmp_path: Path) -> None:
    """What a signature over files cannot cover is refused before signing, and so is an empty directory."""
    (model / "link").symlink_to("/etc/passwd")
    (tmp_path / "empty/deep").mkdir(parents=True)
    for directory in (model, tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(IntegrityError):
            signer.sign_directory(directory, tmp_path / "model.sig")
    assert not (tmp_path / "model.sig").exists()


def test_a_statement_comes_back(signer: Signer, verifier: Verifier) -> None:
    """A signed statement is one JSON text and comes back equal."""
    signed = signer.sign_statement(STATEMENT)
    assert set(json.loads(signed)) == {"payload", "signature"}
    assert verifier.verify_statement(signed) == STATEMENT


def test_the_payload_is_canonical(signer: Signer) -> None:
    """The same statement has the same payload whatever the order of its keys."""
    backwards = dict(reversed(STATEMENT.items()))
    payloads = {json.loads(signer.sign_statement(statement))["payload"] for statement in (STATEMENT, backwards)}
    assert len(payloads) == 1


def test_an_edited_statement_does_not_hold(signer: Signer, verifier: Verifier) -> None:
    """A payload that was changed, even to one that was signed elsewhere, is refused."""
    signed, other = (json.loads(signer.sign_statement({**STATEMENT, "version": number})) for number in (3, 4))
    with pytest.raises(IntegrityError):
        verifier.verify_statement(json.dumps({**signed, "payload": other["payload"]}))
    edited = base64.b64encode(base64.b64decode(signed["payload"]).replace(b"3", b"5")).decode()
    with pytest.raises(IntegrityError):
        verifier.verify_statement(json.dumps({**signed, "payload": edited}))


def test_a_strangers_statement_does_not_hold(stranger: Signer, verifier: Verifier) -> None:
    """A statement that was signed with another key is refused."""
    with pytest.raises(IntegrityError):
        verifier.verify_statement(stranger.sign_statement(STATEMENT))


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "{}", '{"payload": "e30=", "signature": ""}', '{"payload": 1}', "null"]
)
def test_nonsense_is_no_statement(text: str, verifier: Verifier) -> None:
    """Anything that is no signed statement is refused."""
    with pytest.raises(IntegrityError):
        verifier.verify_statement(text)


def test_a_manifest_signature_is_no_statement(verifier: Verifier, signature: Path) -> None:
    """The signature of a model directory, made with the same key, does not pass for a statement."""
    envelope = json.loads(signature.read_text())["dsseEnvelope"]
    posing = {"payload": envelope["payload"], "signature": envelope["signatures"][0]["sig"]}
    with pytest.raises(IntegrityError):
        verifier.verify_statement(json.dumps(posing))


def test_keys_are_made_once(tmp_path: Path) -> None:
    """The private key is for its owner only; a second call changes neither key; a lost public key is made again."""
    private, public = generate_keys(tmp_path / "keys")
    before = private.read_bytes(), public.read_bytes()
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    public.unlink()
    assert generate_keys(tmp_path / "keys") == (private, public)
    assert (private.read_bytes(), public.read_bytes()) == before
    assert {path.name for path in (tmp_path / "keys").iterdir()} == {private.name, public.name}


@pytest.mark.parametrize("content", [None, b"", b"not a key"])
def test_an_unusable_key_is_a_wrong_setting(content: bytes | None, tmp_path: Path, model: Path) -> None:
    """A missing or broken key says which file it is, whatever is signed or verified with it."""
    key = tmp_path / "platform.key"
    if content is not None:
        key.write_bytes(content)
    for action in (
        lambda: KeySigner(key).sign_statement({}),
        lambda: KeySigner(key).sign_directory(model, tmp_path / "model.sig"),
        lambda: KeyVerifier(key).verify_statement("{}"),
        lambda: KeyVerifier(key).verify_directory(model, tmp_path / "model.sig"),
    ):
        with pytest.raises(SettingsError, match=r"platform\.key"):
            action()
