"""Registered versions as CI leaves them, in a fake registry with real signatures, for tests of later stages."""

from __future__ import annotations

import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taxiway.adapters.model_signing import KeySigner, KeyVerifier
from taxiway.bootstrap import PROJECT
from taxiway.domain.evidence import Evidence, Verdict
from taxiway.domain.values import Candidate
from taxiway.spec import ModelSpec, Rollout
from taxiway.spec_files import load_spec
from taxiway.stages.candidates import DIGEST, LOCK, REQUESTED_BY, STATE, VERDICT, State
from taxiway.stages.deliver import Approved, Delivery
from taxiway.stages.digests import directory_digest, file_digest
from taxiway.stages.evidence_store import record
from taxiway.stages.golden import GOLDEN
from taxiway.stages.model_files import SIGNATURE, STORED_LOCK
from taxiway.stages.orders import Orders
from taxiway.stages.roll_out import RollOut
from taxiway.stages.rollback import Rollbacks
from tests.fakes import FakeClock, FakeNotifier, FakeRegistry
from tests.fakes_serving import FakeServingTarget

MODEL = "flight_delays"
MLMODEL = """
flavors:
  python_function: {loader_module: mlflow.sklearn, model_path: model.pkl, predict_fn: predict}
signature:
  inputs: '[{"type": "double", "name": "distance", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]'
"""
"""The description of a model that the spec allows; its data is in `model.pkl`."""


def example_spec() -> ModelSpec:
    """Return the example's spec with a rollout of no steps but the last."""
    spec = load_spec(PROJECT / "include" / "models" / f"{MODEL}.yaml", {"TAXIWAY_HOME": "/nowhere"})
    return spec.model_copy(update={"rollout": Rollout()})


@dataclass
class Field:
    """A registry, two environments and the people's keys: everything that a delivery touches."""

    keys: tuple[Path, Path]
    spec: ModelSpec = field(default_factory=example_spec)
    clock: FakeClock = field(default_factory=FakeClock)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    notifier: FakeNotifier = field(default_factory=FakeNotifier)

    def __post_init__(self) -> None:
        """Make signer, verifier and the two environments."""
        self.orders = Orders(self.keys[0].parent / "rollbacks" / uuid.uuid4().hex)
        self.signer, self.verifier = KeySigner(self.keys[0]), KeyVerifier(self.keys[1])
        self.staging = FakeServingTarget(self.clock, environment="staging", verifier=self.verifier)
        self.production = FakeServingTarget(self.clock, environment="production", verifier=self.verifier)

    def candidate(
        self, name: str, *, verdict: Verdict = Verdict.PASSED, tags: dict[str, str] | None = None
    ) -> Candidate:
        """Register a signed version whose golden predictions are its version number."""
        run_id = self.registry.open_build(MODEL, name, {})
        with tempfile.TemporaryDirectory() as directory:
            model, signature = Path(directory) / "model", Path(directory) / "model.sig"
            model.mkdir()
            (model / "MLmodel").write_text(f"{MLMODEL}run_id: {name}\n")
            (model / "model.pkl").write_text(name)
            lock = Path(directory) / "requirements.txt"
            lock.write_text(f"# {name}\n")
            digest, lock_digest = directory_digest(model), file_digest(lock)
            self.signer.sign_directory(model, signature)
            self.registry.put_directory(run_id, "model", model)
            self.registry.put_file(run_id, SIGNATURE, signature)
            self.registry.put_file(run_id, STORED_LOCK, lock)
        record(self.registry, run_id, Evidence("gate", verdict, self.clock.now(), ("roc_auc holds",)))
        all_tags = {DIGEST: digest, LOCK: lock_digest, REQUESTED_BY: "ds@example.com", VERDICT: verdict.value}
        all_tags |= {STATE: State.CANDIDATE.value, "taxiway.commit": name, "taxiway.author": "ds@example.com"}
        candidate = self.registry.register(MODEL, run_id, {**all_tags, **(tags or {})}, name)
        golden = {"inputs": {"columns": ["distance"], "data": [[1.0], [2.0]]}}
        answers: list[Any] = [float(candidate.version)] * 2
        self.registry.put_json(run_id, GOLDEN, {**golden, "predictions": answers})
        return candidate

    def delivery(self, version: int) -> Delivery:
        """Return the delivery of a version."""
        return Delivery(self.spec, version, self.registry, self.clock, self.orders)

    def rollout(self, version: int) -> RollOut:
        """Return the rollout of a version."""
        return RollOut(self.spec, version, self.registry, self.production, self.clock, self.orders)

    @property
    def rollbacks(self) -> Rollbacks:
        """Return the model's rollbacks."""
        return Rollbacks(self.spec, self.registry, self.production, self.orders, self.clock, self.notifier)

    def approve(self, version: int) -> Delivery:
        """Take a version through staging to its approval, and return its delivery."""
        delivery = self.delivery(version)
        delivery.admit(self.verifier)
        delivery.deploy_staging(self.staging, self.signer)
        delivery.approve(Approved("dana", self.clock.now()), self.signer)
        return delivery

    def promote(self, name: str) -> Delivery:
        """Take a new version into production, where nobody has verified it yet, and return its delivery."""
        version = self.candidate(name).version
        delivery = self.approve(version)
        rollout = self.rollout(version)
        rollout.start()
        rollout.finish()
        delivery.promote(self.production)
        return delivery

    def deliver(self, name: str) -> Candidate:
        """Take a new version all the way into production."""
        delivery = self.promote(name)
        delivery.verify_production(self.production)
        return self.registry.candidate(MODEL, delivery.version)
