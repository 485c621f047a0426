"""Bad candidates on the real gateway, under traffic: each is stopped where it shows, and callers never notice."""

from __future__ import annotations

import json
import subprocess
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from taxiway.adapters.gateway_target import GatewayTarget
from taxiway.adapters.system_clock import SystemClock
from taxiway.domain.evidence import Evidence, Verdict
from taxiway.domain.rollout import Phase
from taxiway.domain.rollout import State as Rollout
from taxiway.domain.values import CHAMPION, Release, TrafficPlan
from taxiway.errors import DeliveryStopped
from taxiway.stages.candidates import APPROVAL, DIGEST, LOCK, STATE, State
from taxiway.stages.deliver import Delivery
from taxiway.stages.environments import ensure_environment
from taxiway.stages.evidence_store import evidence_of
from taxiway.stages.orders import Orders
from taxiway.stages.roll_out import RollOut
from tests import gateway_process
from tests.fakes import FakeNotifier, FakeRegistry
from tests.gateway_process import CACHE, TOKEN, GatewayProcess, Publisher, wait_until
from tests.packaged_models import small_spec

pytestmark = pytest.mark.timeout(600)  # the first test may have to build the models' environment
RARE = 0.97
"""Callers send 0.00, 0.01 ... 0.99 in turn: 3 % are as large as this."""
SHADOW = {"shadow": {"duration": "1s", "min_requests": 200}, "steps": [{"traffic": 50}, {"traffic": 100}]}
CANARY = {"steps": [{"traffic": 50, "duration": "1s"}, {"traffic": 100}]}
GOOD = "return x"
FAILS = f"if (x >= {RARE}).any(): raise ValueError('never seen')\n        {GOOD}"
NUMBERS = {
    "good": GOOD,
    "slower": f"time.sleep(0.05); {GOOD}",
    "fails": FAILS,
    "shifted": "return x + 0.4",
    "crashes": f"if (x >= {RARE}).any(): os._exit(7)\n        {GOOD}",
    "dies": "return x",
}
"""Name -> what the model does; their versions are counted from 1, which is the champion."""
CLASSES = {"good": "return np.where(x < 0.5, 'low', 'high')", "shifted": "return np.where(x < 0.1, 'low', 'high')"}
MAKE = """
import json, sys
from pathlib import Path
import mlflow, pandas as pd
from mlflow.models import infer_signature

root = Path(sys.argv[1])
for model, bodies in json.loads(sys.argv[2]).items():
    for version, (name, body) in enumerate(bodies.items(), start=1):
        script = root / f"{model}-{name}.py"
        loads = "os._exit(3)" if name == "dies" else "pass"
        script.write_text(f'''
import os, time
import mlflow, numpy as np

class Model(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        {loads}
    def predict(self, context, model_input, params=None):
        x = model_input["x"].to_numpy()
        {body}

mlflow.models.set_model(Model())
''')
        frame = pd.DataFrame({"x": [0.5]})
        signature = infer_signature(frame, frame["x"] if model == "numbers" else pd.Series(["low"]))
        mlflow.pyfunc.save_model(root / model / str(version), python_model=str(script), signature=signature,
                                 pip_requirements=["mlflow-skinny"])
"""


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
        kind = "regression" if self.model == "numbers" else "multiclass"
        analysis = {"max_latency_ratio": 5}  # this machine may be busy
        spec = small_spec(kind, model=self.model, rollout={"analysis": analysis, **rollout})
        clock, orders = SystemClock(), self.orders
        return RollOut(spec, self.version(name), self.registry, self.target, clock, orders)  # type: ignore[arg-type]

    def evidence(self, name: str) -> Evidence:
        """Return the evidence of a candidate's rollout."""
        return evidence_of(self.registry, self.registry.candidate(self.model, self.version(name)).run_id, "rollout")

    def is_alone(self, name: str) -> bool:
        """Tell whether all traffic is on the champion, and the stopped candidate is out when its delivery has ended."""
        assert self.target.status(self.model).plan == TrafficPlan(stable=1)
        spec, version = small_spec(model=self.model), self.version(name)
        delivery = Delivery(spec, version, self.registry, SystemClock(), self.orders)  # type: ignore[arg-type]
        delivery.stop("its rollout was aborted", production=self.target, notifier=FakeNotifier())
        return self.version(name) not in {item.version for item in self.target.status(self.model).versions}

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


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the models of both kinds in one process."""
    root = tmp_path_factory.mktemp("bad-models")
    python = ensure_environment(gateway_process.LOCK, CACHE, timeout=timedelta(minutes=10)).python
    bodies = json.dumps({"numbers": NUMBERS, "classes": CLASSES})
    subprocess.run([python, "-c", MAKE, root, bodies], check=True, cwd=root)
    return root


@pytest.fixture(scope="module")
def productions(
    tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path], models: Path
) -> Iterator[dict[str, Production]]:
    """One gateway with everything deployed at once, which is quicker than one after the other."""
    root, registry = tmp_path_factory.mktemp("registry"), FakeRegistry()
    gateway = GatewayProcess(tmp_path_factory.mktemp("gateway"), root, keys[1])
    gateway.start()
    target = GatewayTarget(gateway.url, TOKEN)
    try:
        made, releases = {}, []
        for model, bodies in (("numbers", NUMBERS), ("classes", CLASSES)):
            publisher = Publisher(root, models / model, keys[0])
            releases += [approved(publisher, registry, model, version) for version in range(1, len(bodies) + 1)]
            made[model] = Production(gateway, target, registry, model, list(bodies))
        dying = releases[made["numbers"].version("dies") - 1]
        with ThreadPoolExecutor(len(releases)) as deployments:
            list(deployments.map(target.deploy, [release for release in releases if release is not dying]))
        for model in made:
            registry.set_alias(model, CHAMPION, 1)
            target.set_traffic(model, TrafficPlan(stable=1))
        yield made
    finally:
        gateway.remove()


@pytest.fixture
def numbers(productions: dict[str, Production]) -> Production:
    return productions["numbers"]


@pytest.fixture
def classes(productions: dict[str, Production]) -> Production:
    return productions["classes"]


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


def test_a_candidate_that_fails_on_rare_rows_ends_in_its_shadow(numbers: Production) -> None:
    """3 % of the rows make it fail, 1 % are allowed: it is out before a caller depends on it."""
    with numbers.traffic() as answers:
        state = watched(numbers.roll_out("fails", SHADOW), Phase.ABORTED)

    assert "requests failed; the policy allows 1.00% (surely more than" in state.reason
    evidence = numbers.evidence("fails")
    assert (evidence.verdict, evidence.reasons) == (Verdict.FAILED, (state.reason,))
    phases = [entry["phase"] for entry in evidence.figures["history"]]  # type: ignore[union-attr,index,call-overload]
    assert phases == ["deploying", "shadow", "aborting", "aborted"]
    assert 0.02 < evidence.figures["history"][2]["measured"]["compared"]["error_rate"] < 0.05  # type: ignore[index,call-overload,operator]
    assert {(200, "1")} == {(status, version) for status, version, _ in answers.got}
    assert numbers.is_alone("fails")


def test_a_slower_candidate_ends_in_its_shadow(numbers: Production) -> None:
    """Many times the champion's latency is sure after few requests, and nobody waited for it."""
    with numbers.traffic() as answers:
        state = watched(numbers.roll_out("slower", SHADOW), Phase.ABORTED)

    assert "latency is" in state.reason
    assert "allowed is 5 x" in state.reason
    assert {(200, "1")} == {(status, version) for status, version, _ in answers.got}
    assert numbers.is_alone("slower")


def test_a_candidate_that_crashes_ends_in_its_canary(numbers: Production) -> None:
    """Rows that end its process, and all that it could not answer meanwhile, are its errors; the champion answers."""
    with numbers.traffic() as answers:
        state = watched(numbers.roll_out("crashes", CANARY), Phase.ABORTED)

    assert "requests failed; the policy allows 1.00%" in state.reason or "failed:" in state.reason
    assert {200} == {status for status, _, _ in answers.got}
    assert answers.versions() == {"1", str(numbers.version("crashes"))}
    assert {"1"} == {version for _, version, x in answers.got if x >= RARE}
    assert numbers.is_alone("crashes")


def test_a_candidate_that_does_not_load_moves_no_traffic(numbers: Production) -> None:
    """It never becomes ready: its rollout does not begin, and production serves on."""
    with numbers.traffic() as answers, pytest.raises(DeliveryStopped, match="ended while it loaded the model"):
        numbers.roll_out("dies", SHADOW).start()

    assert {(200, "1")} >= {(status, version) for status, version, _ in answers.got}
    assert numbers.is_alone("dies")


def test_shifted_numbers_wait_for_a_person(numbers: Production) -> None:
    """Other predictions are not worse ones: the shadow stays a shadow until somebody says no."""
    rollout = numbers.roll_out("shifted", SHADOW)
    with numbers.traffic() as answers:
        held = watched(rollout, Phase.WAITING, Phase.ABORTED)
        assert rollout.look().phase is Phase.WAITING
        rollout.look(False)
        wait_until(lambda: rollout.look().phase is Phase.ABORTED)

    assert "the predictions are shifted by 0.4" in held.reason
    assert "allowed is 0.2" in held.reason
    history = numbers.evidence("shifted").figures["history"]
    assert [entry["phase"] for entry in history] == ["deploying", "shadow", "waiting", "aborting", "aborted"]  # type: ignore[union-attr,index,call-overload]
    compared = history[2]["measured"]["compared"]  # type: ignore[index,call-overload]
    assert 0 < compared["agreement"] < 0.7
    assert {(200, "1")} == {(status, version) for status, version, _ in answers.got}
    assert numbers.is_alone("shifted")


def test_shifted_classes_wait_for_a_person(classes: Production) -> None:
    """Another share of each class is a shift too; the canary keeps its share until somebody says no."""
    rollout = classes.roll_out("shifted", CANARY)
    with classes.traffic() as answers:
        held = watched(rollout, Phase.WAITING, Phase.ABORTED)
        assert classes.target.status("classes").plan == TrafficPlan(stable=1, challenger=2, challenger_percent=50)
        rollout.look(False)
        wait_until(lambda: rollout.look().phase is Phase.ABORTED)

    assert "the predictions are shifted by 0." in held.reason
    assert {200} == {status for status, _, _ in answers.got}
    assert classes.is_alone("shifted")
