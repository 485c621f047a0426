"""A regression with XGBoost and a multiclass model with scikit-learn go to production: a YAML and a repository each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pandas as pd
import pytest

from taxiway.demo.commits import BareRepository
from taxiway.domain.values import Candidate
from tests.live import air_time_setup, digits_setup
from tests.live.conftest import LiveInstallation
from tests.live.live_model import LiveModel

SETUPS: Mapping[str, ModuleType] = {setup.MODEL: setup for setup in (air_time_setup, digits_setup)}
STAGES = {"build", "unit_tests", "integration_tests", "snapshot", "check_data", "train", "evaluation", "gate"}
DELIVERY_STAGES = {"staging_checks", "uat", "approval", "production_checks", "release"}


@dataclass
class Delivered(LiveModel):
    """One of the models in a running installation."""

    repository: BareRepository
    data: Path

    @property
    def setup(self) -> Any:
        """The module that makes repository, data and spec."""
        return SETUPS[self.name]

    def deliver(self) -> None:
        """Follow the push through CI, let the people act, and wait for production."""
        built = self.run("ci", f"commit-{self.repository.find(self.setup.FIRST)}")
        assert built["state"] == "success", built
        self.let_into_production(1)
        delivered = self.run("delivery", "candidate-1")
        assert delivered["state"] == "success", delivered

    def served(self) -> Candidate:
        """Return the version that is in production."""
        found = self.installation.services.registry.by_alias(self.name, "champion")
        assert found is not None
        return found

    def ask(self, rows: pd.DataFrame) -> httpx.Response:
        """Send rows to production, as `curl` would."""
        document = {"dataframe_split": json.loads(rows.to_json(orient="split", index=False, date_format="iso"))}
        address = self.installation.settings.url("production")
        return httpx.post(f"{address}/models/{self.name}/invocations", json=document, timeout=30)


@pytest.fixture(scope="module")
def models(installation: LiveInstallation, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Delivered]:
    """Both models in production; their builds ran side by side."""
    made = {}
    for name, setup in SETUPS.items():
        directory = tmp_path_factory.mktemp(name)
        repository: BareRepository = setup.make_repository(directory / f"{name}.git")
        setup.write_data(directory / "data")
        made[name] = Delivered(installation, name, repository, directory / "data")
    for name, model in made.items():
        installation.add_spec(name, model.setup.spec_text(repository=model.repository.url, data=f"file://{model.data}"))
    for model in made.values():
        model.deliver()
    return made


def test_production_answers_minutes(models: dict[str, Delivered]) -> None:
    """The regression answers one number per row, near the minutes that the flights took."""
    flights = air_time_setup.flights().dropna().tail(50)

    response = models["air_time"].ask(flights.drop(columns="air_time"))

    assert response.status_code == httpx.codes.OK, response.text
    errors = flights["air_time"].to_numpy() - response.json()["predictions"]
    assert abs(errors).mean() < 20


def test_production_answers_a_score_for_each_digit(models: dict[str, Delivered]) -> None:
    """The multiclass model answers ten probabilities per row, and mostly the right digit."""
    scans = digits_setup.scans().tail(50)

    response = models["digits"].ask(scans.drop(columns="digit"))

    assert response.status_code == httpx.codes.OK, response.text
    scores = response.json()["predictions"]
    assert {len(row) for row in scores} == {10}
    assert sum(row.index(max(row)) == digit for row, digit in zip(scores, scans["digit"], strict=True)) > 40


@pytest.mark.parametrize(("name", "loader"), [("air_time", "mlflow.xgboost"), ("digits", "mlflow.sklearn")])
def test_evidence_of_every_stage_is_there(models: dict[str, Delivered], name: str, loader: str) -> None:
    """The version has evidence from build to release, and what was signed is an ordinary model without own code."""
    model = models[name]
    registry, champion = model.installation.services.registry, model.served()

    stages = {Path(path).stem for path in registry.list_files(champion.run_id, "taxiway")}
    package = registry.get_json(champion.run_id, "taxiway/train.json")["figures"]["package"]

    assert stages >= STAGES | DELIVERY_STAGES
    assert (package["loader"], package["code"]) == (loader, None)
    assert champion.tags["taxiway.state"] == "production"


def test_every_metric_of_the_spec_was_judged(models: dict[str, Delivered]) -> None:
    """Losses have their maxima, scores their minima; each is in the evaluation with its figure."""
    wanted = {"air_time": {"rmse", "mae"}, "digits": {"accuracy", "f1_macro", "log_loss"}}
    for name, metrics in wanted.items():
        registry, champion = models[name].installation.services.registry, models[name].served()
        figures = registry.get_json(champion.run_id, "taxiway/evaluation.json")["figures"]["metrics"]

        assert {metric for metric, figure in figures.items() if figure["candidate"] is not None} == metrics
        assert champion.tags["taxiway.verdict"] == "passed"


def test_a_worse_regression_is_stopped_by_its_champion(models: dict[str, Delivered]) -> None:
    """A commit within the absolute limits, but worse than the champion on the same days, ends at the gate."""
    model = models["air_time"]
    sha = air_time_setup.make_it_worse(model.repository)

    built = model.run("ci", f"commit-{sha}")

    assert [task for task, state in built["tasks"].items() if state == "failed"] == ["gate"], built
    assert "is worse than the champion's" in model.log("ci", f"commit-{sha}", "gate")
    assert model.champion() == 1
    assert len(model.installation.services.registry.candidates("air_time")) == 1


def test_the_doctor_finds_nothing_wrong_with_them(models: dict[str, Delivered]) -> None:
    """After two deliveries and a stopped commit Airflow, MLflow and the gateways agree about both models."""
    installation = next(iter(models.values())).installation

    diagnosis = json.loads(installation.taxiway("doctor", "--json").stdout)

    assert [finding for finding in diagnosis["findings"] if finding["about"] in models] == []
