"""Evaluate: candidate and champion predict the same holdout; trusted code measures both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxiway.domain.evidence import Evidence, Json, Verdict
from taxiway.domain.values import CHAMPION, Candidate
from taxiway.ports import Clock, Registry, Verifier
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build, stored_environment
from taxiway.stages.candidates import fetch_verified, where
from taxiway.stages.data import HOLDOUT, stored_frame
from taxiway.stages.evidence_store import evidence_of, record
from taxiway.stages.golden import GOLDEN
from taxiway.stages.predict import Predictions, predict
from taxiway.stages.workspaces import workspace

if TYPE_CHECKING:
    import pandas as pd

REFERENCE = "taxiway/reference.parquet"
_RESAMPLES = 1000
_SEED = 20130101
_GOLDEN_ROWS = 20


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Measures one build on this machine."""

    spec: ModelSpec
    build: Build
    registry: Registry
    verifier: Verifier
    cache: Path
    clock: Clock

    def run(self) -> Evidence:
        """Predict, measure and record; the evidence holds every figure that the gate needs."""
        holdout = stored_frame(self.registry, self.build.run_id, HOLDOUT)
        trained = evidence_of(self.registry, self.build.run_id, "train")
        candidate = self._predict_candidate(holdout)
        champion = self.registry.by_alias(self.spec.model, CHAMPION)
        champion_values = self._predict_champion(champion, holdout).values if champion else None
        self._store_reference(holdout, candidate)
        figures: dict[str, Json] = {
            "holdout_rows": len(holdout),
            "champion": champion.version if champion else None,
            "metrics": measure(self.spec, holdout, candidate.values, champion_values),
            "slices": _slices(self.spec, holdout, candidate.values),
        }
        self.registry.log_metrics(self.build.run_id, _flat_metrics(figures))
        snapshot = evidence_of(self.registry, self.build.run_id, "snapshot")
        subject = {**snapshot.subject, **trained.subject}
        evidence = Evidence("evaluation", Verdict.PASSED, self.clock.now(), (), subject, figures)
        return record(self.registry, self.build.run_id, evidence)

    def _predict_candidate(self, holdout: pd.DataFrame) -> Predictions:
        with workspace("evaluate") as directory:
            model = directory / "model"
            self.registry.get_directory(self.build.run_id, "model", model)
            environment = stored_environment(
                self.spec, self.build.run_id, registry=self.registry, cache=self.cache, workspace=directory
            )
            return predict(self.spec, model, environment, holdout, where=self.build.where)

    def _predict_champion(self, champion: Candidate, holdout: pd.DataFrame) -> Predictions:
        with workspace("champion") as directory:
            model = fetch_verified(champion, directory, registry=self.registry, verifier=self.verifier)
            environment = stored_environment(
                self.spec, champion.run_id, registry=self.registry, cache=self.cache, workspace=directory
            )
            return predict(self.spec, model, environment, holdout, where=where(champion))

    def _store_reference(self, holdout: pd.DataFrame, predictions: Predictions) -> None:
        """Keep the holdout with its predictions: what monitoring compares with, and the golden rows."""
        values = predictions.values.tolist()
        golden = holdout[[self.spec.task.key, self.spec.task.timestamp, *self.spec.data.features]].tail(_GOLDEN_ROWS)
        document = {
            "inputs": _as_split(golden),
            "predictions": values[-len(golden) :],
        }
        self.registry.put_json(self.build.run_id, GOLDEN, document)
        with workspace("reference") as directory:
            path = directory / "reference.parquet"
            holdout.assign(prediction=values).to_parquet(path, index=False)
            self.registry.put_file(self.build.run_id, REFERENCE, path)


def measure(spec: ModelSpec, holdout: pd.DataFrame, candidate: Any, champion: Any | None) -> dict[str, Json]:
    """Return every gated metric of the candidate, and the interval of its difference to the champion's."""
    import numpy as np

    from taxiway.domain.metrics import compute
    from taxiway.domain.statistics import PairedRows, finite, paired_block_bootstrap

    labels = holdout[spec.task.label].to_numpy()
    days = holdout[spec.task.timestamp].dt.floor("D").astype("int64").to_numpy()
    figures: dict[str, Json] = {}
    for name in spec.gates.metrics:
        figure: dict[str, Json] = {"candidate": finite(compute(spec.task.kind, name, labels, candidate))}
        if champion is not None:
            figure["champion"] = finite(compute(spec.task.kind, name, labels, champion))
            interval = paired_block_bootstrap(
                spec.task.kind,
                name,
                PairedRows(labels, champion, candidate, days),
                confidence=spec.gates.confidence,
                resamples=_RESAMPLES,
                rng=np.random.default_rng(_SEED),
            )
            figure["interval"] = interval.to_json()
        figures[name] = figure
    return figures


def _slices(spec: ModelSpec, holdout: pd.DataFrame, candidate: Any) -> list[Json]:
    """Return the slice metric for each value of each slice column, with its rows; null where it is not defined."""
    from taxiway.domain.metrics import compute
    from taxiway.domain.statistics import finite

    policy = spec.gates.slices
    if policy is None:
        return []
    labels = holdout[spec.task.label].to_numpy()
    rows: list[Json] = []
    for column in policy.by:
        for value, positions in sorted(holdout.reset_index(drop=True).groupby(column).indices.items(), key=str):
            metric = compute(spec.task.kind, policy.metric, labels[positions], candidate[positions])
            rows.append({"group": {column: str(value)}, "rows": len(positions), "value": finite(metric)})
    return rows


def _flat_metrics(figures: dict[str, Any]) -> dict[str, float]:
    """Return the figures that MLflow shows as metrics of the run."""
    flat = {"holdout_rows": figures["holdout_rows"]}
    for name, figure in figures["metrics"].items():
        flat[name] = figure["candidate"]
        flat[f"champion_{name}"] = figure.get("champion")
    return {name: float(value) for name, value in flat.items() if value is not None}


def _as_split(frame: pd.DataFrame) -> Any:
    import json

    document = json.loads(frame.to_json(orient="split", date_format="iso"))
    return {"columns": document["columns"], "data": document["data"]}
