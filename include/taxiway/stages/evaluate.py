"""Evaluate: candidate and champion predict the same holdout; trusted code measures both."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxiway.domain.evidence import Evidence, Json, Verdict
from taxiway.domain.values import CHAMPION, Candidate
from taxiway.errors import BuildError, ContractError
from taxiway.ports import Clock, Registry, Verifier
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build, stored_environment
from taxiway.stages.candidates import fetch_verified, where
from taxiway.stages.data import HOLDOUT, stored_frame
from taxiway.stages.evidence_store import evidence_of, record
from taxiway.stages.golden import GOLDEN
from taxiway.stages.predict import Predictions, predict
from taxiway.stages.slices import slice_figures
from taxiway.stages.stored_predictions import days_of, store_predictions
from taxiway.stages.workspaces import workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

REFERENCE = "taxiway/reference.parquet"
_LONGEST_PROBLEM = 400
_RESAMPLES = 1000
_SEED = 20130101
_GOLDEN_ROWS = 20


@dataclass(frozen=True, slots=True)
class Champion:
    """What the champion answered: no version when none serves; no values when it cannot be measured any more."""

    version: int | None = None
    values: NDArray[np.generic] | None = None
    problem: str = ""


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
        require_measurable(self.spec, holdout, candidate.values, where=self.build.where)
        champion = self._champion(holdout)
        self._store_reference(holdout, candidate)
        store_predictions(
            self.spec, self.build.run_id, holdout, candidate.values, champion.values, registry=self.registry
        )
        figures: dict[str, Json] = {
            "holdout_rows": len(holdout),
            "champion": champion.version,
            "metrics": measure(self.spec, holdout, candidate.values, champion.values),
            "slices": slice_figures(self.spec, holdout, candidate.values, champion.values),
        }
        self.registry.log_metrics(self.build.run_id, _flat_metrics(figures))
        snapshot = evidence_of(self.registry, self.build.run_id, "snapshot")
        subject = {**snapshot.subject, **trained.subject}
        verdict, reasons = Verdict.PASSED, tuple[str, ...]()
        if champion.problem:
            figures["champion_problem"] = champion.problem
            verdict, reasons = Verdict.INCONCLUSIVE, (f"the champion could not be measured: {champion.problem}",)
        evidence = Evidence("evaluation", verdict, self.clock.now(), reasons, subject, figures)
        return record(self.registry, self.build.run_id, evidence)

    def _predict_candidate(self, holdout: pd.DataFrame) -> Predictions:
        with workspace("evaluate") as directory:
            model = directory / "model"
            self.registry.get_directory(self.build.run_id, "model", model)
            environment = stored_environment(
                self.spec, self.build.run_id, registry=self.registry, cache=self.cache, workspace=directory
            )
            return predict(self.spec, model, environment, holdout, where=self.build.where)

    def _champion(self, holdout: pd.DataFrame) -> Champion:
        """Let the champion predict; that it no longer can is no fault of the candidate, and no reason to stop."""
        champion = self.registry.by_alias(self.spec.model, CHAMPION)
        if champion is None:
            return Champion()
        try:
            values = self._predict_champion(champion, holdout).values
            require_measurable(self.spec, holdout, values, where=where(champion))
        except (BuildError, ContractError) as error:
            return Champion(champion.version, problem=f"version {champion.version}: {_short(error.what)}")
        return Champion(champion.version, values)

    def _predict_champion(self, champion: Candidate, holdout: pd.DataFrame) -> Predictions:
        with workspace("champion") as directory:
            model = fetch_verified(champion, directory, registry=self.registry, verifier=self.verifier)
            if missing := required_inputs(model) - set(self.spec.data.features):
                raise ContractError(
                    f"it needs {', '.join(sorted(missing))}, which data.features does not have", where=where(champion)
                )
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


def require_measurable(spec: ModelSpec, holdout: pd.DataFrame, predictions: Any, *, where: str) -> None:
    """Raise ContractError when a metric of the gates cannot be computed from what a model answered."""
    from taxiway.domain.metrics import compute

    slices = (spec.gates.slices.metric,) if spec.gates.slices else ()
    labels = holdout[spec.task.label].to_numpy()
    for name in {**spec.gates.metrics, **dict.fromkeys(slices)}:
        try:
            compute(spec.task.kind, name, labels, predictions, classes=spec.task.classes)
        except ContractError as error:
            raise ContractError(f"{name}: {error.what}", where=where, next_step=error.next_step) from error


def required_inputs(model: Path) -> set[str]:
    """Return the columns without which the packaged model cannot predict, as its signature names them."""
    import yaml

    signature = yaml.safe_load((model / "MLmodel").read_text(encoding="utf-8")).get("signature") or {}
    inputs = json.loads(signature.get("inputs") or "[]") or []
    return {column["name"] for column in inputs if "name" in column and column.get("required", True)}


def measure(spec: ModelSpec, holdout: pd.DataFrame, candidate: Any, champion: Any | None) -> dict[str, Json]:
    """Return every gated metric of the candidate, and the interval of its difference to the champion's."""
    import numpy as np

    from taxiway.domain.metrics import compute
    from taxiway.domain.statistics import PairedRows, finite, paired_block_bootstrap

    task = spec.task
    labels, days = holdout[task.label].to_numpy(), days_of(holdout[task.timestamp])
    figures: dict[str, Json] = {}
    for name in spec.gates.metrics:
        figure: dict[str, Json] = {
            "candidate": finite(compute(task.kind, name, labels, candidate, classes=task.classes))
        }
        if champion is not None:
            figure["champion"] = finite(compute(task.kind, name, labels, champion, classes=task.classes))
            interval = paired_block_bootstrap(
                task.kind,
                name,
                PairedRows(labels, champion, candidate, days, task.classes),
                confidence=spec.gates.confidence,
                resamples=_RESAMPLES,
                rng=np.random.default_rng(_SEED),
            )
            figure["interval"] = interval.to_json()
        figures[name] = figure
    return figures


def _short(text: str) -> str:
    """Return the end of a long text: what an error ends with says the most."""
    return text if len(text) <= _LONGEST_PROBLEM else f"... {text[-_LONGEST_PROBLEM:]}"


def _flat_metrics(figures: dict[str, Any]) -> dict[str, float]:
    """Return the figures that MLflow shows as metrics of the run."""
    flat = {"holdout_rows": figures["holdout_rows"]}
    for name, figure in figures["metrics"].items():
        flat[name] = figure["candidate"]
        flat[f"champion_{name}"] = figure.get("champion")
    return {name: float(value) for name, value in flat.items() if value is not None}


def _as_split(frame: pd.DataFrame) -> Any:
    document = json.loads(frame.to_json(orient="split", date_format="iso"))
    return {"columns": document["columns"], "data": document["data"]}
