"""The model spec: `include/models/<name>.yaml` as typed, validated values.

`_defaults.yaml` is merged under every spec. Unknown keys, wrong types and unknown names are problems that name
the file, the key, the value and the nearest valid choice. `${NAME}` in a string is replaced by the variable of
that name (bootstrap passes TAXIWAY_HOME); nothing else is evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Literal

from pydantic import Field, model_validator

from taxiway.spec_ci import Behaviour, Build, Data, Gates, Limits, Package, Repository, Task, Tests
from taxiway.spec_values import SUITED_METRICS, Duration, MetricName, Name, Schedule, Section, Share


class Uat(Section):
    """User acceptance testing in staging."""

    testers: tuple[str, ...] = Field(min_length=1, description="who may sign off; their names in Airflow")
    quorum: int = Field(1, ge=1, description="how many acceptances pass")
    timeout: Duration = Field(
        timedelta(days=3), description="after this the verdict is inconclusive and the approver decides"
    )
    cases: int = Field(20, ge=1, description="how many recent rows testers are shown")

    @model_validator(mode="after")
    def _quorum_is_reachable(self) -> Uat:
        if self.quorum > len(self.testers):
            raise ValueError(f"quorum {self.quorum} is more than the {len(self.testers)} testers")
        return self


class Approval(Section):
    """Who decides about production: a person (delivery) or nobody (deployment)."""

    mode: Literal["delivery", "deployment"] = Field(
        "delivery",
        description="`delivery`: a person approves; `deployment`: only an inconclusive verdict asks a person",
    )
    approvers: tuple[str, ...] = Field(min_length=1, description="who may approve; their names in Airflow")
    four_eyes: bool = Field(True, description="whoever asked for the change may not approve it")
    timeout: Duration = Field(timedelta(days=7), description="after this the delivery ends without promotion")


class Shadow(Section):
    """The challenger answers copies of requests; callers never see it."""

    duration: Duration = Field(description="how long copies of requests are answered at least")
    min_requests: int = Field(1, ge=0, description="how many requests it takes at least")


class Step(Section):
    """One step of a rollout."""

    traffic: float = Field(gt=0, le=100, description="percent of requests that the challenger answers")
    duration: Duration = Field(timedelta(0), description="how long the step takes at least")


class Analysis(Section):
    """When a step of a rollout is good enough."""

    max_error_rate: Share = Field(0.01, description="largest share of failed requests (4xx and 5xx)")
    max_latency_ratio: float = Field(
        1.5, gt=0, description="largest p99 latency (p95 to p50 for few requests) as a multiple of the champion's"
    )
    max_prediction_shift: float = Field(
        0.2,
        gt=0,
        le=1,
        description="largest distance of the predictions' distribution from the champion's, 0 to 1 (docs/rollout.md)",
    )
    min_agreement: float | None = Field(
        None, gt=0, le=1, description="least agreement of the shadow's answers with the champion's (docs/rollout.md)"
    )
    min_requests: int = Field(200, ge=0, description="fewer requests than this decide nothing")


class Rollout(Section):
    """How traffic moves from champion to challenger."""

    shadow: Shadow | None = None
    steps: tuple[Step, ...] = (Step(traffic=100),)
    analysis: Analysis = Analysis()

    @model_validator(mode="after")
    def _steps_rise_to_all(self) -> Rollout:
        shares = [step.traffic for step in self.steps]
        if not shares or shares[-1] != 100 or shares != sorted(set(shares)):
            raise ValueError("the steps' traffic must rise and end at 100")
        return self

    @property
    def watched_steps(self) -> list[str]:
        """The name of each step that is watched before promotion: `shadow`, `canary_5`, `canary_25` ..."""
        canaries = [f"canary_{step.traffic:g}".replace(".", "_") for step in self.steps if step.traffic < 100]
        return [*(["shadow"] if self.shadow else []), *canaries]


class Drift(Section):
    """When inputs or predictions moved too far (population stability index on reference quantiles)."""

    column: float = Field(0.2, gt=0, description="PSI from which a column counts as drifted")
    share: Share = Field(0.3, description="share of drifted columns that makes a warning")
    prediction: float = Field(0.25, gt=0, description="PSI of the predictions that asks for retraining")


class Performance(Section):
    """When late labels say that the model got worse."""

    metric: MetricName = Field(description="the metric that late labels give")
    max_drop: float = Field(gt=0, description="how much worse than on the holdout is still acceptable")
    min_labels: int = Field(1000, ge=1, description="fewer labels than this decide nothing")


class Monitoring(Section):
    """How production is watched."""

    schedule: Schedule = Field("@daily", description="when production is looked at (cron, UTC)")
    window: Duration = Field(timedelta(days=28), description="length of a window that names no start")
    drift: Drift = Drift()
    performance: Performance
    report_rows: int = Field(5000, ge=100, description="sample size of the Evidently report")


class Retraining(Section):
    """When a new model is trained on fresh data."""

    schedule: Schedule | None = Field(None, description="when to retrain without being asked (cron, UTC)")
    on: frozenset[Literal["drift", "performance"]] = Field(
        frozenset({"performance"}), description="which alarms of monitoring ask for retraining"
    )
    cooldown: Duration = Field(timedelta(days=7), description="shortest data time between two models' data")
    max_per_week: int = Field(2, ge=1, description="most retrainings within a week of data time")
    min_new_labels: int = Field(1000, ge=0, description="fewest labelled rows that the newest model has not seen")


class Notify(Section):
    """One channel that hears about this model."""

    channel: Literal["log", "webhook"] = Field("log", description="`log`: the task log; `webhook`: a POST to `url`")
    url: str | None = Field(None, description="address of the webhook")

    @model_validator(mode="after")
    def _webhook_has_url(self) -> Notify:
        if self.channel == "webhook" and not self.url:
            raise ValueError("a webhook channel needs a url")
        return self


class Environments(Section):
    """Names of `include/environments.yaml`."""

    staging: str = Field("staging", description="where candidates are tested")
    production: str = Field("production", description="where the champion serves")


class ModelSpec(Section):
    """Everything that Taxiway is told about one model."""

    model: Name = Field(description="name of the model, and of the file")
    description: str = Field(description="what it predicts, in one sentence")
    owner: str = Field(description="team that owns the model")
    repository: Repository
    task: Task
    data: Data
    build: Build = Build()
    tests: Tests = Tests()
    params: dict[str, bool | int | float | str] = Field(default_factory=dict, description="handed to `train`")
    behaviour: Behaviour = Behaviour()
    package: Package = Package()
    gates: Gates
    uat: Uat
    approval: Approval
    rollout: Rollout = Rollout()
    monitoring: Monitoring
    retraining: Retraining = Retraining()
    limits: Limits = Limits()
    notify: tuple[Notify, ...] = (Notify(),)
    environments: Environments = Environments()

    @model_validator(mode="after")
    def _label_is_no_feature(self) -> ModelSpec:
        if self.task.label in self.data.features:
            raise ValueError(f"data.features contains the label {self.task.label!r}")
        return self

    @model_validator(mode="after")
    def _named_columns_are_features(self) -> ModelSpec:
        for key, columns in self._named_columns():
            if unknown := sorted(set(columns) - set(self.data.features)):
                raise ValueError(f"{key} names {', '.join(unknown)}, which data.features does not have")
        return self

    @model_validator(mode="after")
    def _metrics_suit_the_task(self) -> ModelSpec:
        suited = SUITED_METRICS[self.task.kind]
        for key, metric in self._named_metrics():
            if metric not in suited:
                known = ", ".join(suited)
                raise ValueError(f"{key} names {metric}, which suits no {self.task.kind} task; choose from {known}")
        return self

    @model_validator(mode="after")
    def _direction_has_one_number(self) -> ModelSpec:
        if self.task.kind == "multiclass" and self.behaviour.direction:
            raise ValueError("behaviour.direction needs one number per row, which a multiclass model does not answer")
        return self

    def _named_columns(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        checks, behaviour = self.data.checks, self.behaviour
        yield "data.checks", (*checks.max_missing, *checks.ranges, *checks.max_new_categories)
        yield "data.checks.types", tuple(set(checks.types) - {self.task.key, self.task.timestamp, self.task.label})
        yield "behaviour.invariance", tuple(test.column for test in behaviour.invariance)
        yield "behaviour.direction", tuple(test.column for test in behaviour.direction)
        yield "gates.slices.by", self.gates.slices.by if self.gates.slices else ()

    def _named_metrics(self) -> Iterator[tuple[str, MetricName]]:
        for metric in self.gates.metrics:
            yield "gates.metrics", metric
        if self.gates.slices:
            yield "gates.slices.metric", self.gates.slices.metric
        yield "monitoring.performance.metric", self.monitoring.performance.metric
