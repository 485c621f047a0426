"""The composition root: reads settings, wires adapters to stages; the only reader of os.environ.

Every process of an installation (Airflow, gateways, CLI) calls `settings()`; task bodies call `services()`.
Heavy libraries are imported inside the functions, because DAG files import this module.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from taxiway.errors import NotFoundError, SettingsError
from taxiway.spec_files import SpecSet, load_environments, load_spec, load_specs, spec_paths

if TYPE_CHECKING:
    from taxiway.ports import (
        BillOfMaterials,
        Clock,
        DataSource,
        DataTests,
        EvaluationPages,
        GitHost,
        Notifier,
        PredictionLog,
        Registry,
        Reports,
        ServingTarget,
        Signer,
        Verifier,
    )
    from taxiway.spec import ModelSpec
    from taxiway.stages.orders import Orders
    from taxiway.stages.rollback import Rollbacks

_IN_A_HURRY = 10.0  # seconds that a rollback waits for an answer of MLflow
PROJECT = Path(__file__).resolve().parents[2]
_SCORER_MEMORY_MB = 4096


@dataclass(frozen=True, slots=True)
class Settings:
    """Where everything of one installation is. All values come from TAXIWAY_* variables."""

    home: Path
    models: Path
    environments: Path
    mlflow_url: str
    airflow_url: str
    signing_key: Path
    verify_key: Path
    variables: Mapping[str, str]
    scorer_memory_mb: int = _SCORER_MEMORY_MB

    @property
    def spec_variables(self) -> dict[str, str]:
        """What a model spec may refer to: never the tokens, because a spec is shown to everybody."""
        return {"TAXIWAY_HOME": str(self.home)}

    @property
    def cache(self) -> Path:
        """Checkouts, model environments and temporary workspaces of this machine; safe to delete when idle."""
        return self.home / "cache"


def settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment; raises SettingsError when TAXIWAY_HOME is missing, or one is wrong."""
    environ = os.environ if environ is None else environ
    if "TAXIWAY_HOME" not in environ:
        raise SettingsError("TAXIWAY_HOME is not set", next_step="start Taxiway with `taxiway up`, or set it.")
    home = Path(environ["TAXIWAY_HOME"]).absolute()
    include = PROJECT / "include"
    return Settings(
        home=home,
        models=Path(environ.get("TAXIWAY_MODELS", include / "models")),
        environments=Path(environ.get("TAXIWAY_ENVIRONMENTS", include / "environments.yaml")),
        mlflow_url=environ.get("TAXIWAY_MLFLOW_URL", "http://127.0.0.1:5000"),
        airflow_url=environ.get("TAXIWAY_AIRFLOW_URL", "http://127.0.0.1:8080"),
        signing_key=Path(environ.get("TAXIWAY_SIGNING_KEY", home / "keys" / "platform.key")),
        verify_key=Path(environ.get("TAXIWAY_VERIFY_KEY", home / "keys" / "platform.pub")),
        variables={name: value for name, value in environ.items() if name.startswith("TAXIWAY_")},
        scorer_memory_mb=_megabytes(environ, "TAXIWAY_SCORER_MEMORY_MB", _SCORER_MEMORY_MB),
    )


def _megabytes(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, str(default))
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise SettingsError(f"{name} is {text!r}", next_step="set it to a number of megabytes, such as 4096.")
    return int(text)


class Services:
    """The adapters of this installation, made when first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def specs(self) -> SpecSet:
        """Read all model specs again (a task sees the file as it is now)."""
        return load_specs(self.settings.models, self.settings.spec_variables)

    def spec(self, model: str) -> ModelSpec:
        """Return the model's spec; raises NotFoundError when there is none, SpecError when it is broken."""
        path = next((path for path in spec_paths(self.settings.models) if path.stem == model), None)
        if path is None:
            raise NotFoundError(f"there is no spec for model {model!r}", where=str(self.settings.models))
        return load_spec(path, self.settings.spec_variables)

    @cached_property
    def registry(self) -> Registry:
        from taxiway.adapters.mlflow_registry import MlflowRegistry

        return MlflowRegistry(self.settings.mlflow_url)

    @cached_property
    def git(self) -> GitHost:
        from taxiway.adapters.git import Git

        return Git()

    @cached_property
    def signer(self) -> Signer:
        from taxiway.adapters.model_signing import KeySigner

        return KeySigner(self.settings.signing_key)

    @cached_property
    def verifier(self) -> Verifier:
        from taxiway.adapters.model_signing import KeyVerifier

        return KeyVerifier(self.settings.verify_key)

    @cached_property
    def reports(self) -> Reports:
        from taxiway.adapters.evidently_reports import EvidentlyReports

        return EvidentlyReports()

    @cached_property
    def bill_of_materials(self) -> BillOfMaterials:
        from taxiway.adapters.cyclonedx_sbom import CycloneDx

        return CycloneDx()

    @cached_property
    def data_tests(self) -> DataTests:
        from taxiway.adapters.evidently_data_tests import EvidentlyDataTests

        return EvidentlyDataTests()

    @cached_property
    def evaluation_pages(self) -> EvaluationPages:
        from taxiway.adapters.evaluation_page import HtmlEvaluationPages

        return HtmlEvaluationPages()

    @cached_property
    def clock(self) -> Clock:
        from taxiway.adapters.system_clock import SystemClock

        return SystemClock()

    def data(self, spec: ModelSpec) -> DataSource:
        """Return the model's dataset."""
        from taxiway.adapters.parquet_data import ParquetData

        return ParquetData(spec.data.uri, timestamp=spec.task.timestamp, key=spec.task.key)

    def target(self, environment: str) -> ServingTarget:
        """Return the serving target of an environment; raises NotFoundError."""
        from taxiway.adapters.gateway_target import GatewayTarget

        environments = load_environments(self.settings.environments, self.settings.variables)
        if environment not in environments:
            raise NotFoundError(
                f"there is no environment {environment!r}; known: {', '.join(sorted(environments))}",
                where=str(self.settings.environments),
            )
        found = environments[environment]
        return GatewayTarget(found.url, found.token, self.data_token(environment))

    def data_token(self, environment: str) -> str:
        """Return the token of the environment's data path; empty when that is open to everybody."""
        return self.settings.variables.get(f"TAXIWAY_{environment.upper()}_DATA_TOKEN", "")

    @cached_property
    def orders(self) -> Orders:
        from taxiway.stages.orders import Orders

        return Orders(self.settings.home / "rollbacks")

    def rollbacks(self, spec: ModelSpec) -> Rollbacks:
        """Return what takes the model's production back, and records what was ordered before."""
        from taxiway.adapters.mlflow_registry import MlflowRegistry
        from taxiway.stages.rollback import Rollbacks

        registry = MlflowRegistry(self.settings.mlflow_url, seconds=_IN_A_HURRY)
        production = self.target(spec.environments.production)
        return Rollbacks(spec, registry, production, self.orders, self.clock, self.notifier(spec))

    def settle(self, spec: ModelSpec) -> None:
        """Record the rollbacks that wait for MLflow: they were ordered before whatever moves traffic now."""
        if self.orders.waiting(spec.model):
            self.rollbacks(spec).settle()

    def predictions(self, environment: str) -> PredictionLog:
        """Return the prediction log of an embedded environment."""
        from taxiway.adapters.prediction_log import ParquetPredictionLog

        return ParquetPredictionLog(self.settings.home / "gateways" / environment / "log")

    def notifier(self, spec: ModelSpec) -> Notifier:
        """Return what tells the model's owners."""
        from taxiway.adapters.notifiers import notifier_for

        return notifier_for(spec.notify)


@cache
def services() -> Services:
    """Return the services of this process, built from its environment."""
    return Services(settings())
