"""From figures to a verdict, and from a verdict to a signed candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from taxiway.adapters.model_signing import KeySigner, KeyVerifier
from taxiway.domain.evidence import Evidence, Verdict
from taxiway.errors import GateFailed, IntegrityError, PermanentError, SettingsError, TrainingError
from taxiway.stages.build import Build
from taxiway.stages.candidates import DIGEST, fetch_verified
from taxiway.stages.digests import directory_digest, file_digest
from taxiway.stages.evidence_store import record
from taxiway.stages.gate import judge
from taxiway.stages.model_files import SIGNATURE, STORED_LOCK
from taxiway.stages.register import close_build, register
from tests.fakes import FakeClock, FakeNotifier, FakeRegistry
from tests.unit.model_versions import MLMODEL, MODEL, example_spec

SPEC = example_spec()
ENCRYPTED_KEY = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"password")
)
CLOCK = FakeClock()


def interval(difference: float, lower: float | None, upper: float | None) -> dict[str, Any]:
    """Return bounds as the evaluation records them; null: nothing bounds the difference."""
    deviation = None if lower is None else 0.01
    return {"difference": difference, "lower": lower, "upper": upper, "standard_deviation": deviation, "blocks": 14}


def figures(auc: float, *, champion: float | None = None, bounds: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what the evaluation stage measured."""
    metric: dict[str, Any] = {"candidate": auc}
    if champion is not None:
        metric |= {"champion": champion, "interval": bounds}
    return {
        "champion": None if champion is None else 1,
        "metrics": {"roc_auc": metric},
        "slices": [{"group": {"origin": "JFK"}, "rows": 5000, "value": auc}],
    }


def evaluated(
    registry: FakeRegistry, tmp_path: Path, measured: dict[str, Any], name: str = "commit-1", **package: float
) -> Build:
    """Return a build that was trained, evaluated and served, and what is unusual about its package."""
    run_id = registry.open_build(MODEL, name, {})
    model = tmp_path / name
    model.mkdir()
    (model / "MLmodel").write_text(MLMODEL)
    (model / "model.pkl").write_bytes(b"a pickle")
    registry.put_directory(run_id, "model", model)
    (tmp_path / "lock").write_text("scikit-learn==1.9.1\n")
    registry.put_file(run_id, STORED_LOCK, tmp_path / "lock")
    lock_digest = file_digest(tmp_path / "lock")
    subject = {"commit": "1" * 40, "data": "sha256:data", "digest": directory_digest(model)}
    at = CLOCK.now()
    record(registry, run_id, Evidence("snapshot", Verdict.PASSED, at, (), subject, {"data_end": "2013-04-01"}))
    record(registry, run_id, Evidence("evaluation", Verdict.PASSED, at, (), subject, measured))
    served: dict[str, Any] = {"latency_p99_ms": 10.0, "size_mb": 1.0, **package}
    record(registry, run_id, Evidence("package_checks", Verdict.PASSED, at, (), subject, served))
    return Build(MODEL, name, run_id, "1" * 40, "ds@example.com", "sha256:src", lock_digest, "commit", "ds@example.com")


def test_a_first_model_is_judged_by_its_limits_alone(tmp_path: Path) -> None:
    """Without a champion there is nothing to compare with, and good figures pass."""
    registry = FakeRegistry()
    build = evaluated(registry, tmp_path, figures(0.71))

    assert judge(SPEC, build, registry=registry, clock=CLOCK).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("measured", "package", "says"),
    [
        (figures(0.55), {}, "roc_auc 0.550 is below the minimum 0.600"),
        (figures(0.66, champion=0.72, bounds=interval(-0.06, -0.09, -0.03)), {}, "is worse than the champion's 0.720"),
        (figures(0.71), {"latency_p99_ms": 900.0}, "latency p99 in ms 900.000 is above the maximum"),
        (figures(0.71), {"size_mb": 900.0}, "size in MB 900.000 is above the maximum"),
        (
            {**figures(0.71), "slices": [{"group": {"origin": "LGA"}, "rows": 5000, "value": 0.5}]},
            {},
            "origin=LGA (5000 rows) 0.5000",
        ),
    ],
    ids=["minimum", "champion", "latency", "size", "slice"],
)
def test_a_failed_gate_says_which_figure_failed(
    tmp_path: Path, measured: dict[str, Any], package: dict[str, float], says: str
) -> None:
    """Each gate that fails ends the build with its figures, and leaves them as evidence."""
    registry = FakeRegistry()
    build = evaluated(registry, tmp_path, measured, **package)

    with pytest.raises(GateFailed, match="production stays as it is") as raised:
        judge(SPEC, build, registry=registry, clock=CLOCK)

    assert says in str(raised.value)
    assert "failed" == registry.get_json(build.run_id, "taxiway/gate.json")["verdict"]


@pytest.mark.parametrize("bounds", [interval(0.0, -0.02, 0.02), interval(0.01, None, None)], ids=["wide", "unbounded"])
def test_figures_that_do_not_decide_go_on_as_inconclusive(tmp_path: Path, bounds: dict[str, Any]) -> None:
    """A difference that the holdout cannot settle is for the approver, not a failure."""
    registry = FakeRegistry()
    build = evaluated(registry, tmp_path, figures(0.71, champion=0.71, bounds=bounds))

    assert judge(SPEC, build, registry=registry, clock=CLOCK).verdict is Verdict.INCONCLUSIVE


def test_a_passed_model_becomes_a_signed_candidate(keys: tuple[Path, Path], tmp_path: Path) -> None:
    """The registered version has the digest that was evaluated, and a signature that verifies."""
    registry = FakeRegistry()
    build = evaluated(registry, tmp_path, figures(0.71))
    judge(SPEC, build, registry=registry, clock=CLOCK)

    candidate = register(SPEC, build, registry=registry, signer=KeySigner(keys[0]))

    model = fetch_verified(candidate, tmp_path / "fetched", registry=registry, verifier=KeyVerifier(keys[1]))
    assert candidate.tags[DIGEST] == directory_digest(model)


def test_the_same_build_makes_no_second_candidate(keys: tuple[Path, Path], tmp_path: Path) -> None:
    """The same commit, data, lock and params end at the version that exists, whatever the run is called."""
    registry = FakeRegistry()
    for name in ("commit-1", "manual"):
        build = evaluated(registry, tmp_path, figures(0.71), name)
        judge(SPEC, build, registry=registry, clock=CLOCK)
        candidate = register(SPEC, build, registry=registry, signer=KeySigner(keys[0]))

    assert candidate.version == 1
    assert len(registry.candidates(MODEL)) == 1


def test_a_model_that_changed_after_evaluation_is_not_signed(keys: tuple[Path, Path], tmp_path: Path) -> None:
    """Somebody who swaps the stored files between evaluation and signing gets no candidate."""
    registry = FakeRegistry()
    build = evaluated(registry, tmp_path, figures(0.71))
    judge(SPEC, build, registry=registry, clock=CLOCK)
    (tmp_path / "other").write_text("loader_module: evil\n")
    registry.put_file(build.run_id, "model/MLmodel", tmp_path / "other")

    with pytest.raises(IntegrityError, match="was evaluated"):
        register(SPEC, build, registry=registry, signer=KeySigner(keys[0]))
    assert [] == registry.candidates(MODEL)


def test_a_model_that_the_spec_does_not_allow_is_not_signed(keys: tuple[Path, Path], tmp_path: Path) -> None:
    """A policy that became stricter since the training holds: what is signed was checked just before."""
    registry = FakeRegistry()
    build = evaluated(registry, tmp_path, figures(0.71))
    judge(SPEC, build, registry=registry, clock=CLOCK)
    stricter = SPEC.model_copy(update={"package": SPEC.package.model_copy(update={"loaders": ("mlflow.onnx",)})})

    with pytest.raises(TrainingError, match=r"loader_module is 'mlflow\.sklearn'"):
        register(stricter, build, registry=registry, signer=KeySigner(keys[0]))
    assert [] == registry.candidates(MODEL)
    assert SIGNATURE not in registry.runs[build.run_id].files


@pytest.mark.parametrize(
    "content", [None, b"", b"no key", ENCRYPTED_KEY], ids=["missing", "empty", "text", "encrypted"]
)
def test_without_a_usable_key_nothing_is_registered(tmp_path: Path, content: bytes | None) -> None:
    """A missing or unreadable key is a mistake of the installation: the error names the file, and is not retried."""
    registry, key = FakeRegistry(), tmp_path / "secret" / "platform.key"
    build = evaluated(registry, tmp_path, figures(0.71))
    judge(SPEC, build, registry=registry, clock=CLOCK)
    key.parent.mkdir()
    if content is not None:
        key.write_bytes(content)

    with pytest.raises(SettingsError, match="the signing key cannot be read: ") as raised:
        register(SPEC, build, registry=registry, signer=KeySigner(key))

    assert isinstance(raised.value, PermanentError)
    assert str(key) in str(raised.value)
    assert "TAXIWAY_SIGNING_KEY" in str(raised.value)
    assert [] == registry.candidates(MODEL)


def test_owners_hear_of_a_build_that_failed(tmp_path: Path) -> None:
    """A build that ends before a good verdict is closed as failed and told; a passed one is not."""
    registry, notifier = FakeRegistry(), FakeNotifier()
    failed = evaluated(registry, tmp_path, figures(0.5), "bad")
    good = evaluated(registry, tmp_path, figures(0.7), "good")
    with pytest.raises(GateFailed):
        judge(SPEC, failed, registry=registry, clock=CLOCK)
    judge(SPEC, good, registry=registry, clock=CLOCK)

    for build in (failed, good):
        close_build(build, registry=registry, notifier=notifier)

    assert ["build_failed"] == [sent.event for sent in notifier.sent]
