"""Bad candidates of one model on the real gateway, and callers who ask it all the time."""

from __future__ import annotations

import json
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from taxiway.adapters.gateway_target import GatewayTarget
from taxiway.adapters.system_clock import SystemClock
from taxiway.domain.evidence import Evidence, Verdict
from taxiway.domain.rollout import Phase
from taxiway.domain.rollout import State as Rollout
from taxiway.domain.values import CHAMPION, Release, TrafficPlan
from taxiway.stages.candidates import APPROVAL, DIGEST, LOCK, STATE, State
from taxiway.stages.deliver import Delivery
from taxiway.stages.environments import ensure_environment
from taxiway.stages.evidence_store import evidence_of
from taxiway.stages.orders import Orders
from taxiway.stages.roll_out import RollOut
from tests import gateway_models
from tests.fakes import FakeNotifier, FakeRegistry
from tests.gateway_process import TOKEN, GatewayProcess, Publisher, wait_until
from tests.packaged_models import small_spec

RARE = 0.97
"""Callers send 0.00, 0.01 ... 0.99 in turn: 3 % are as large as this."""
SHADOW = {"shadow": {"duration": "1s", "min_requests": 200}, "steps": [{"traffic": 50}, {"traffic": 100}]}
CANARY = {"steps": [{"traffic": 50, "duration": "1s"}, {"traffic": 100}]}
NUMBERS, CLASSES = "numbers", "classes"
LOADS = "pass"
MAKE = """
import json, sys
from pathlib import Path
import mlflow, pandas as pd
from mlflow.models import infer_signature

root = Path(sys.argv[1])
for model, codes in json.loads(sys.argv[2]).items():
    for version, (predict, load) in enumerate(codes, start=1):
        script = root / f"{model}-{version}.py"
        script.write_text(f'''
import os, time
import mlflow, numpy as np

HELD = []

class Model(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        {load}
    def predict(self, context, model_input, params=None):
        x = model_input["x"].to_numpy()
        {predict}

mlflow.models.set_model(Model())
''')
        frame = pd.DataFrame({"x": [0.5]})
        signature = infer_signature(frame, frame["x"] if model == "numbers" else pd.Series(["low"]))
        mlflow.pyfunc.save_model(root / model / str(version), python_model=str(script), signature=signature,
                                 pip_requirements=["mlflow-skinny"])
"""


class Code(NamedTuple):
    """What a candidate does."""

    predict: str
    load: str = LOADS


Models = Mapping[str, Mapping[str, Code]]
"""Model -> name of a candidate -> what it does; their versions are counted from 1, which is the champion."""


@dataclass
class Answers:
    """What callers got: the HTTP status, the version and the value that they had sent, in turn."""

    got: list[tuple[int, str, float]] = field(default_factory=list)

    def versions(self) -> set[str]:
        """Return who answered."""
        return {version for _, version, _ in self.got}


@dataclass
class Production:
    """The gateway and a registry, with one model's candidates approved, and the first one the champion."""

    gateway: GatewayProcess
    target: GatewayTarget
    registry: FakeRegistry
    model: str
    names: list[str]

    @property
    def orders(self) -> Orders:
        """The lock of whoever moves traffic."""
        return Orders(self.gateway.home / "rollbacks")

    def version(self, name: str) -> int:
        """Return the version of a candidate."""
        return self.names.index(name) + 1

    def roll_out(self, name: str, rollout: dict[str, Any]) -> RollOut:
        """Return the rollout of a candidate by a spec with these steps."""
        kind = "regression" if self.model == NUMBERS else "multiclass"
        analysis = {"max_latency_ratio": 5}  # this machine may be busy
        spec = small_spec(kind, model=self.model, rollout={"analysis": analysis, **rollout})
        clock, orders = SystemClock(), self.orders
        return RollOut(spec, self.version(name), self.registry, self.target, clock, orders)  # type: ignore[arg-type]

    def evidence(self, name: str, stage: str = "rollout") -> Evidence:
        """Return what a stage found about a candidate."""
        return evidence_of(self.registry, self.registry.candidate(self.model, self.version(name)).run_id, stage)

    def history(self, name: str) -> list[Any]:
        """Return the phases of a candidate's rollout, each with why it was entered."""
        return list(self.evidence(name).figures["history"])  # type: ignore[arg-type]

    def check_stopped(self, name: str, reason: str, *phases: str) -> None:
        """Check that traffic is on the champion and evidence says why; the candidate is gone with its delivery."""
        assert self.target.status(self.model).plan == TrafficPlan(stable=1)
        assert [entry["phase"] for entry in self.history(name)] == [*phases, "aborting", "aborted"]
        spec, version = small_spec(model=self.model), self.version(name)
        delivery = Delivery(spec, version, self.registry, SystemClock(), self.orders)  # type: ignore[arg-type]
        delivery.stop(reason, production=self.target, notifier=FakeNotifier())
        for stage in ("rollout", "delivery"):
            evidence = self.evidence(name, stage)
            assert (evidence.verdict, evidence.reasons) == (Verdict.FAILED, (reason,))
        assert version not in {item.version for item in self.target.status(self.model).versions}

    @contextmanager
    def traffic(self) -> Iterator[Answers]:
        """Send one row after the other until the block ends."""
        answers, over = Answers(), threading.Event()
        caller = threading.Thread(target=self._call, args=(answers, over))
        caller.start()
        try:
            yield answers
        finally:
            over.set()
            caller.join()

    def _call(self, answers: Answers, over: threading.Event) -> None:
        address = f"{self.gateway.url}/models/{self.model}/invocations"
        with httpx.Client(timeout=90, trust_env=False) as client:
            for number in range(1_000_000):
                if over.wait(0.002):
                    return
                x = number % 100 / 100
                response = client.post(address, json={"dataframe_records": [{"x": x}]})
                version = response.headers.get("X-Taxiway-Model-Version", "")
                answers.got.append((response.status_code, version, x))


@contextmanager
def production(
    homes: pytest.TempPathFactory, keys: tuple[Path, Path], models: Models, *options: str
) -> Iterator[dict[str, Production]]:
    """Run a gateway with these options that serves all candidates which load, and the champions to everybody."""
    packages, root, registry = packaged(homes.mktemp("bad-models"), models), homes.mktemp("registry"), FakeRegistry()
    gateway = GatewayProcess(homes.mktemp("gateway"), root, keys[1], *options)
    gateway.start()
    target = GatewayTarget(gateway.url, TOKEN)
    try:
        made, releases = {}, []
        for model, codes in models.items():
            publisher = Publisher(root, packages / model, keys[0])
            versions = [approved(publisher, registry, model, version) for version in range(1, len(codes) + 1)]
            releases += [release for release, code in zip(versions, codes.values(), strict=True) if code.load == LOADS]
            made[model] = Production(gateway, target, registry, model, list(codes))
        with ThreadPoolExecutor(len(releases)) as deployments:  # quicker than one after the other
            list(deployments.map(target.deploy, releases))
        for model in made:
            registry.set_alias(model, CHAMPION, 1)
            target.set_traffic(model, TrafficPlan(stable=1))
        yield made
    finally:
        gateway.remove()


def packaged(directory: Path, models: Models) -> Path:
    """Make the models in the directory, all in one process."""
    python = ensure_environment(gateway_models.LOCK, gateway_models.CACHE, timeout=timedelta(minutes=10)).python
    codes = json.dumps({model: list(candidates.values()) for model, candidates in models.items()})
    subprocess.run([python, "-c", MAKE, directory, codes], check=True, cwd=directory)
    return directory


def approved(publisher: Publisher, registry: FakeRegistry, model: str, version: int) -> Release:
    """Publish and register a version as its delivery leaves it before the rollout."""
    release = publisher.release(model, version)
    run_id = registry.open_build(model, f"{version} {uuid.uuid4().hex}", {})
    (publisher.registry / run_id).symlink_to(publisher.run_of(model, version))
    release = replace(release, run_id=run_id)
    tags = {DIGEST: release.digest, LOCK: release.lock_digest, APPROVAL: release.approval}
    registry.register(model, run_id, {**tags, STATE: State.APPROVED.value}, "")
    return release


def watched(rollout: RollOut, *phases: Phase) -> Rollout:
    """Look at production until the rollout is in one of the phases."""
    rollout.start()

    def arrived() -> Rollout | None:
        state = rollout.look()
        assert state.phase not in (Phase.PROMOTING, Phase.PROMOTED), state
        return state if state.phase in phases else None

    return wait_until(arrived, seconds=180)
