"""The model whose versions are rolled out under traffic: its branches, its spec, and who calls it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxiway.demo.commits import BareRepository, Change, replace
from taxiway.domain.values import TrafficPlan
from taxiway.errors import TransientError
from tests.live.conftest import LiveInstallation
from tests.live.live_model import LiveModel
from tests.live.repositories_setup import COMMITTED_AT, make_tumours, spec_text, tumours, write_tumours
from tests.live.traffic import Traffic

MODEL = "ramp"
RARE_FROM = 1000.0
"""A mean radius that no patient has: only traffic does, so that only a rollout meets it."""
FATAL_FROM = 10 * RARE_FROM
"""A mean radius at which some versions fail, but not before somebody sends it."""
_PREDICT = "        return self.pipeline.predict_proba(model_input.to_numpy())[:, 1]\n"
SHORT = {
    "shadow": {"duration": "3s", "min_requests": 20},
    "steps": [{"traffic": 30, "duration": "3s"}, {"traffic": 100}],
    # Four percent of the rows shift no distribution by much: the shadow's agreement with the champion tells.
    "analysis": {"max_error_rate": 0.01, "max_latency_ratio": 20, "min_agreement": 0.9, "min_requests": 20},
}
"""The rollout of the spec."""


def _same(factor: str) -> Change:
    return replace("src/tumours/model.py", _PREDICT, _PREDICT.replace("[:, 1]", f"[:, 1] * {factor}"))


def _shifted(score: str) -> Change:
    return replace(
        "src/tumours/model.py",
        _PREDICT,
        f"        if (model_input.to_numpy()[:, 0] >= {FATAL_FROM}).any():\n"
        '            raise ValueError("too much")\n'
        "        scores = self.pipeline.predict_proba(model_input.to_numpy())[:, 1]\n"
        f"        return np.where(model_input.to_numpy()[:, 0] >= {RARE_FROM}, {score}, scores)\n",
    )


BRANCHES: dict[str, Change] = {
    "good": _same("1.0"),
    "struck-and-promoted": _same("1.00"),
    "struck-and-aborted": _same("1.000"),
    "fails-on-rare-rows": replace(
        "src/tumours/model.py",
        _PREDICT,
        f"        if (model_input.to_numpy()[:, 0] >= {RARE_FROM}).any():\n"
        '            raise ValueError("never seen")\n' + _PREDICT,
    ),
    "outdated": _same("1.0000"),
    "shifted": _shifted("25.0"),
    "shifted-and-fatal": _shifted("25.00"),
}
"""Branch -> what its model does differently in production."""


@dataclass
class Ramp(LiveModel):
    """The model whose versions are rolled out."""

    repository: BareRepository
    data: Path

    def declare(self, rollout: dict[str, Any]) -> None:
        """Write the spec with this rollout; one with the same steps takes effect at once."""
        # What is tested here passes CI, and shows only in production.
        gates = {"metrics": {"roc_auc": {"min": 0.9}}}
        sections = {"gates": gates, "rollout": rollout, "limits": dict.fromkeys(("test", "train", "predict"), "5m")}
        text = spec_text(model=MODEL, repository=self.repository.url, data=f"file://{self.data}", **sections)
        self.installation.add_spec(MODEL, text)

    def build(self, branch: str) -> int:
        """Build a branch and return the version that it made."""
        self.installation.airflow().trigger(f"{self.name}.ci", branch, {"ref": branch})
        built = self.run("ci", branch)
        assert built["state"] == "success", built
        return self.installation.services.registry.candidates(self.name)[0].version

    def traffic(self, rare: float = RARE_FROM) -> Traffic:
        """Return callers who send rows to production, some of them with a rare radius, while the block runs."""
        frame = tumours().drop(columns="malignant").astype({"examined_at": str})
        frame.loc[frame.index % 25 == 0, "mean_radius"] = rare
        split = json.loads(frame.to_json(orient="split", index=False))
        address = f"{self.installation.settings.url('production')}/models/{self.name}/invocations"
        rows = [{"dataframe_split": {"columns": split["columns"], "data": [row]}} for row in split["data"]]
        return Traffic(address, rows)

    def plan(self) -> TrafficPlan | None:
        """Return who gets which traffic in production now; None while nobody can say."""
        try:
            return self.installation.services.target("production").status(self.name).plan
        except TransientError:
            return None


def make_ramp(installation: LiveInstallation, directory: Path) -> Ramp:
    """Bring the first version into production."""
    repository = make_tumours(directory / "ramp.git")
    for branch, change in BRANCHES.items():
        repository.commit(f"Try: {branch}", change, at=COMMITTED_AT, branch=branch, base="main")
    write_tumours(directory / "data")
    ramp = Ramp(installation, MODEL, repository, directory / "data")
    ramp.declare(SHORT)
    first = ramp.run("ci", f"commit-{repository.find('Tell malignant from benign tumours')}")
    assert first["state"] == "success", first
    ramp.let_into_production(1)
    delivered = ramp.run("delivery", "candidate-1")
    assert delivered["state"] == "success", delivered
    return ramp
