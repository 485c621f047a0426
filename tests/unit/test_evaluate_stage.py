"""The evaluation stage: what models of every kind answer to a holdout becomes figures and stored predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.domain.metrics import compute
from taxiway.errors import ContractError, GateFailed, IntegrityError
from taxiway.stages.evaluate import REFERENCE
from taxiway.stages.gate import judge
from taxiway.stages.golden import GOLDEN
from taxiway.stages.slices import slice_figures
from taxiway.stages.stored_predictions import PREDICTIONS, stored_predictions
from tests.unit.evaluated_build import (
    ALL_METRICS,
    ANSWERS,
    METRICS,
    Evaluated,
    evaluated_with_champion,
    holdout,
    spec_for,
)

pytestmark = pytest.mark.timeout(600)  # the first test may have to make the models' environment


@pytest.fixture(scope="module", params=ANSWERS)
def evaluated(request: pytest.FixtureRequest, keys: tuple[Path, Path]) -> tuple[Evaluated, Evidence]:
    """A build of each kind of answers, evaluated against a champion."""
    return evaluated_with_champion(request.param, keys)


def test_both_models_are_measured_by_every_metric(evaluated: tuple[Evaluated, Evidence]) -> None:
    """Each gated metric has the value of both models, which their stored predictions give, and an interval."""
    found, evidence = evaluated
    rows, task = stored_predictions(found.registry, found.build.run_id), found.spec.task
    figures: Any = evidence.figures

    assert evidence.verdict is Verdict.PASSED
    assert set(figures["metrics"]) == set(ALL_METRICS[found.answers])
    for name, figure in figures["metrics"].items():
        for model, predictions in (("candidate", rows.candidate), ("champion", rows.champion)):
            assert predictions is not None
            expected = compute(task.kind, name, rows.labels, predictions, classes=task.classes)
            assert figure[model] == pytest.approx(expected), (name, model)
        assert figure["interval"]["difference"] == pytest.approx(figure["candidate"] - figure["champion"])
        assert figure["interval"]["blocks"] == len(np.unique(rows.days)) == 10


def test_groups_have_the_values_of_both_models(evaluated: tuple[Evaluated, Evidence]) -> None:
    """Every value of a slice column is a group, in order, and so are the rows without a value."""
    found, evidence = evaluated
    slices: Any = evidence.figures["slices"]
    named = [next(iter(row["group"].items())) for row in slices]

    assert [name for column, name in named if column == "carrier"] == ["<b>'&", "AA", "UA", "missing"]
    assert [name for column, name in named if column == "gate"] == ["9", "10", "11", "missing"]
    assert sum(row["rows"] for row in slices) == 2 * len(found.frame)
    assert all(row["value"] is not None and row["champion"] is not None for row in slices if row["rows"] >= 50)


def test_the_gate_judges_what_was_measured(evaluated: tuple[Evaluated, Evidence]) -> None:
    """The figures of every kind of task reach a verdict."""
    found, _ = evaluated

    assert judge(found.spec, found.build, registry=found.registry, clock=found.clock).verdict is Verdict.PASSED


def test_reference_and_golden_rows_hold_the_answers(evaluated: tuple[Evaluated, Evidence]) -> None:
    """What monitoring and staging compare with are the candidate's answers as they came: numbers, texts or lists."""
    found, _ = evaluated
    reference, golden = found.parquet(REFERENCE), found.registry.get_json(found.build.run_id, GOLDEN)
    stored = stored_predictions(found.registry, found.build.run_id).candidate

    assert len(golden["predictions"]) == len(golden["inputs"]["data"]) == 20
    assert golden["predictions"] == stored[-20:].tolist()
    assert [np.asarray(value).tolist() for value in reference["prediction"]] == stored.tolist()


def test_predictions_are_stored_with_what_explains_them(evaluated: tuple[Evaluated, Evidence]) -> None:
    """Whoever looks later finds key, time, label and slice columns of each row, and needs no model."""
    found, _ = evaluated
    stored = found.parquet(PREDICTIONS)

    assert list(stored.columns) == ["key", "timestamp", "label", "candidate", "champion", "carrier", "gate"]
    assert stored["key"].tolist() == found.frame["flight"].tolist()


def test_metrics_are_shown_in_the_registry(evaluated: tuple[Evaluated, Evidence]) -> None:
    """MLflow's table has the metrics of candidate and champion."""
    found, _ = evaluated
    shown = found.registry.runs[found.build.run_id].metrics

    assert {METRICS[found.answers], f"champion_{METRICS[found.answers]}"} <= set(shown)


@pytest.mark.parametrize(
    ("body", "inputs", "says"),
    [
        ("", ("temp", "dep_hour"), "it needs dep_hour, which data.features does not have"),
        ("raise ValueError('no weather')", (), "predict raised ValueError"),
        ("return frame['temp'].to_numpy()", (), "roc_auc: the scores of a binary model must be in [0, 1]"),
    ],
    ids=["columns", "raises", "answers"],
)
def test_a_champion_that_cannot_be_measured_stops_no_candidate(
    keys: tuple[Path, Path], body: str, inputs: tuple[str, ...], says: str
) -> None:
    """When the schema moved on, the candidate is judged by its limits alone, and a person decides."""
    found = Evaluated("binary", keys)
    found.promote(body, inputs=inputs)

    evidence = found.evaluate()
    gate = judge(found.spec, found.build, registry=found.registry, clock=found.clock)

    assert evidence.verdict is gate.verdict is Verdict.INCONCLUSIVE
    assert evidence.reasons[0].startswith("the champion could not be measured: version 1: ")
    assert says in evidence.reasons[0]
    assert says in gate.reasons[0]
    assert "champion" not in found.parquet(PREDICTIONS)


def test_a_champion_that_somebody_changed_is_no_matter_of_measuring(keys: tuple[Path, Path], tmp_path: Path) -> None:
    """Stored files that are not what was signed stop the build."""
    found = Evaluated("binary", keys)
    found.promote()
    champion = found.registry.candidate("delays", 1)
    (tmp_path / "other").write_text("flavors: {}\n")
    found.registry.put_file(champion.run_id, "model/MLmodel", tmp_path / "other")

    with pytest.raises(IntegrityError):
        found.evaluate()


def test_a_candidate_that_cannot_be_measured_is_refused(keys: tuple[Path, Path]) -> None:
    """A candidate that answers labels where the gate asks for scores breaks the contract, and says which metric."""
    found = Evaluated("labels", keys)
    gates = {"metrics": {"log_loss": {"max": 1.0}}}
    found.spec = spec_for("labels", gates=gates)

    with pytest.raises(ContractError, match="log_loss: this metric needs class probabilities") as failure:
        found.evaluate()
    assert failure.value.where == found.build.where


def test_a_group_above_the_maximum_of_a_loss_fails(keys: tuple[Path, Path]) -> None:
    """A slice gate with a maximum holds a loss down in every group that is large enough."""
    found = Evaluated("regression", keys)
    slices = {"by": ["carrier"], "metric": "mae", "max": 0.5, "min_rows": 50}
    found.spec = spec_for("regression", gates={"metrics": {"rmse": {}}, "slices": slices})
    found.evaluate()

    with pytest.raises(GateFailed, match=r"mae by carrier misses the maximum 0\.500 in 3 of 3 judged groups"):
        judge(found.spec, found.build, registry=found.registry, clock=found.clock)


def test_small_groups_are_bounded_and_large_ones_are_not() -> None:
    """A column with a value per row lists its largest hundred groups; whatever is to be judged is always there."""
    frame = holdout("binary")
    slices = {"by": ["flight"], "metric": "accuracy", "min": 0.5}
    scores = np.full(len(frame), 0.7)

    def groups(min_rows: int, rows: pd.DataFrame) -> list[Any]:
        gates = {"metrics": {"accuracy": {}}, "slices": {**slices, "min_rows": min_rows}}
        features = {"uri": "file:///nowhere", "features": ["flight"]}
        return slice_figures(spec_for("binary", gates=gates, data=features), rows, scores, None)

    one_large = frame.assign(flight=frame["flight"].where(frame.index >= 5, "zz"))

    assert len(groups(1, frame)) == len(frame)
    assert len(groups(2, frame)) == 100
    assert [row["rows"] for row in groups(2, one_large)] == [*[1] * 99, 5]
    assert groups(2, one_large)[-1]["champion"] is None
