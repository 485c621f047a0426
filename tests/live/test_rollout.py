"""A version takes over production step by step under traffic; a bad one is taken out by itself; nobody notices."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pandas as pd
import pytest

from taxiway.demo.commits import BareRepository, Change, replace
from taxiway.stages.evidence_store import evidence_of
from tests.live.conftest import LiveInstallation, wait_for
from tests.live.live_model import LiveModel
from tests.live.repositories_setup import COMMITTED_AT, make_tumours, spec_text, tumours, write_tumours

MODEL = "ramp"
RARE_FROM = 1000.0
"""A mean radius that no patient has: only traffic does, so that only a rollout meets it."""
_PAUSE = 0.02  # seconds between two requests, so that the rest of the machine gets on
_PREDICT = "        return self.pipeline.predict_proba(model_input.to_numpy())[:, 1]\n"
_ROLLOUT = {
    "shadow": {"duration": "3s", "min_requests": 20},
    "steps": [{"traffic": 30, "duration": "3s"}, {"traffic": 100}],
    # Four percent of the rows shift no distribution by much: the shadow's agreement with the champion tells.
    "analysis": {"max_error_rate": 0.01, "max_latency_ratio": 20, "min_agreement": 0.9, "min_requests": 20},
}
BRANCHES: dict[str, Change] = {
    "calmer": replace("src/tumours/model.py", _PREDICT, _PREDICT.replace("[:, 1]", "[:, 1] * 0.999")),
    "fails-on-rare-rows": replace(
        "src/tumours/model.py",
        _PREDICT,
        f"        if (model_input.to_numpy()[:, 0] >= {RARE_FROM}).any():\n"
        '            raise ValueError("never seen")\n' + _PREDICT,
    ),
    "shifted": replace(
        "src/tumours/model.py",
        _PREDICT,
        "        scores = self.pipeline.predict_proba(model_input.to_numpy())[:, 1]\n"
        f"        return np.where(model_input.to_numpy()[:, 0] >= {RARE_FROM}, 25.0, scores)\n",
    ),
}
"""Branch -> what its model does differently in production."""


@dataclass
class Ramp(LiveModel):
    """The model whose versions are rolled out."""

    repository: BareRepository

    def build(self, branch: str) -> int:
        """Build a branch and return the version that it made."""
        self.installation.airflow().trigger(f"{self.name}.ci", branch, {"ref": branch})
        built = self.run("ci", branch)
        assert built["state"] == "success", built
        return self.installation.services.registry.candidates(self.name)[0].version

    @contextmanager
    def traffic(self) -> Iterator[Counter[tuple[int, str]]]:
        """Send rows to production until the block ends; counts answers by (status, version)."""
        answers: Counter[tuple[int, str]] = Counter()
        over = threading.Event()
        caller = threading.Thread(target=self._call, args=(answers, over))
        caller.start()
        try:
            yield answers
        finally:
            over.set()
            caller.join()

    def _call(self, answers: Counter[tuple[int, str]], over: threading.Event) -> None:
        frame = tumours().drop(columns="malignant").astype({"examined_at": str})
        frame.loc[frame.index % 25 == 0, "mean_radius"] = RARE_FROM
        address = f"{self.installation.settings.url('production')}/models/{self.name}/invocations"
        with httpx.Client(timeout=60) as client:
            for number in range(1_000_000):
                if over.wait(_PAUSE):
                    return
                response = client.post(address, json={"dataframe_split": _row(frame, number % len(frame))})
                answers[response.status_code, response.headers.get("X-Taxiway-Model-Version", "")] += 1


def _row(frame: pd.DataFrame, position: int) -> dict[str, object]:
    document: dict[str, object] = json.loads(frame.iloc[[position]].to_json(orient="split", index=False))
    return document


@pytest.fixture(scope="module")
def ramp(installation: LiveInstallation, tmp_path_factory: pytest.TempPathFactory) -> Ramp:
    """The first version in production."""
    directory: Path = tmp_path_factory.mktemp("ramp")
    repository = make_tumours(directory / "ramp.git")
    for branch, change in BRANCHES.items():
        repository.commit(f"Try: {branch}", change, at=COMMITTED_AT, branch=branch, base="main")
    write_tumours(directory / "data")
    # What is tested here passes CI, and shows only in production.
    gates = {"metrics": {"roc_auc": {"min": 0.9}}}
    data = f"file://{directory / 'data'}"
    text = spec_text(model=MODEL, repository=repository.url, data=data, gates=gates, rollout=_ROLLOUT)
    installation.add_spec(MODEL, text)
    ramp = Ramp(installation, MODEL, repository)
    first = ramp.run("ci", f"commit-{repository.find('Tell malignant from benign tumours')}")
    assert first["state"] == "success", first
    ramp.let_into_production(1)
    delivered = ramp.run("delivery", "candidate-1")
    assert delivered["state"] == "success", delivered
    return ramp


def test_a_good_version_takes_over_step_by_step(ramp: Ramp) -> None:
    """It answers copies, then a share, then everything; the evidence has the figures; no request fails."""
    version = ramp.build("calmer")
    with ramp.traffic() as answers:
        ramp.let_into_production(version)
        finished = ramp.run("delivery", f"candidate-{version}")
        wait_for(lambda: answers[200, str(version)] > 100, "the new version to answer")

    assert finished["state"] == "success", finished
    assert {200} == {status for status, _ in answers}
    assert ramp.champion() == version
    registry = ramp.installation.services.registry
    rollout = evidence_of(registry, registry.candidate(MODEL, version).run_id, "rollout")
    phases = [entry["phase"] for entry in rollout.figures["history"]]
    assert phases == ["deploying", "shadow", "canary", "promoting", "promoted"]


def test_a_version_that_fails_on_rare_rows_is_taken_out_by_itself(ramp: Ramp) -> None:
    """Four percent of the rows make it fail: its shadow shows that, and callers never do."""
    before = ramp.champion()
    version = ramp.build("fails-on-rare-rows")
    with ramp.traffic() as answers:
        ramp.let_into_production(version)
        finished = ramp.run("delivery", f"candidate-{version}")

    assert (finished["state"], finished["tasks"]["rollout.shadow"]) == ("failed", "failed"), finished
    assert {(200, str(before))} == set(answers)
    assert ramp.champion() == before
    assert "requests failed; the policy allows 1.00%" in ramp.log("delivery", f"candidate-{version}", "rollout.shadow")
    status = ramp.installation.services.target("production").status(MODEL)
    assert version not in {item.version for item in status.versions}
    assert ramp.installation.services.registry.candidate(MODEL, version).tags["taxiway.state"] == "rejected"


def test_a_shifted_version_waits_for_a_person(ramp: Ramp) -> None:
    """Much higher predictions move nothing by themselves; the release manager stops them in Airflow."""
    before = ramp.champion()
    version = ramp.build("shifted")
    run_id = f"candidate-{version}"
    with ramp.traffic() as answers:
        ramp.let_into_production(version)
        ramp.decide(run_id, "rollout.decide_shadow", "Reject")
        finished = ramp.run("delivery", run_id)

    assert finished["state"] == "failed", finished
    assert {(200, str(before))} == set(answers)
    assert ramp.champion() == before
