"""The model spec: `include/models/<name>.yaml` as typed, validated values.

`_defaults.yaml` is merged under every spec. Unknown keys, wrong types and unknown names are problems that name
the file, the key, the value and the nearest valid choice. `${NAME}` in a string is replaced by the variable of
that name (bootstrap passes TAXIWAY_HOME); nothing else is evaluated.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


def parse_duration(value: object) -> object:
    """Read `30s`, `10m`, `12h`, `7d` or `2w` as a timedelta; other values are left to pydantic."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    raise ValueError("a duration is a number and a unit, such as 30s, 10m, 12h, 7d or 2w")


def _check_schedule(value: str) -> str:
    if value.startswith("@") or len(value.split()) == 5:
        return value
    raise ValueError("a schedule is a cron expression of five fields, or @hourly, @daily, @weekly, @monthly")


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Schedule = Annotated[str, AfterValidator(_check_schedule)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Share = Annotated[float, Field(ge=0, le=1)]
MetricName = Literal["roc_auc", "pr_auc", "accuracy", "brier", "log_loss", "f1_macro", "rmse", "mae", "r2"]


class Section(BaseModel):
    """A part of the spec: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Repository(Section):
    """Where the model's code lives."""

    url: str = Field(min_length=1, description="Git URL of the model repository")
    branch: str = Field("main", min_length=1, description="the branch whose pushes are built")
    poll: Duration = Field(timedelta(seconds=30), description="how often the watcher looks for pushes")


class Task(Section):
    """What is predicted, and which columns say what."""

    kind: Literal["binary", "multiclass", "regression"] = Field(
        description="what the model answers: a score, a class, or a number"
    )
    label: str = Field(description="column with the truth, known later")
    key: str = Field(description="column that identifies a row; late labels are joined by it")
    timestamp: str = Field(description="column with the time of a row (data time)")
    label_delay: Duration = Field(timedelta(0), description="how long after its timestamp a row's label is known")


class DataChecks(Section):
    """Checks of every training and holdout window."""

    min_rows: int = Field(1, ge=1, description="fewest rows of the training window")
    max_missing: dict[str, Share] = Field(default_factory=dict, description="column -> largest share of missing values")
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict, description="column -> [lowest, highest]")


class Data(Section):
    """Where the rows come from and how they are split by time."""

    uri: str = Field(min_length=1, description="Parquet dataset, partitioned by time")
    features: tuple[str, ...] = Field(min_length=1, description="columns that the model may see")
    train_window: Literal["all"] | Duration = Field("all", description="how far back training looks from the holdout")
    holdout_window: Duration = Field(timedelta(days=14), description="the newest labelled data, never trained on")
    checks: DataChecks = DataChecks()


class MetricGate(Section):
    """One metric: an absolute limit, and how much worse than the champion is still acceptable."""

    min: float | None = Field(None, description="the metric may not be below this")
    max: float | None = Field(None, description="the metric may not be above this")
    margin: float | None = Field(
        None, ge=0, description="how much worse than the champion is still acceptable; none: no comparison"
    )


class SliceGate(Section):
    """The metric's minimum in each group of rows that is large enough."""

    by: tuple[str, ...] = Field(min_length=1, description="columns; each of their values is one group")
    metric: MetricName = Field(description="the metric that is judged in each group")
    min: float = Field(description="the metric may not be below this in any judged group")
    min_rows: int = Field(300, ge=1, description="smaller groups are listed, not judged")


class Gates(Section):
    """What a candidate has to prove before it is registered."""

    metrics: dict[MetricName, MetricGate] = Field(min_length=1)
    slices: SliceGate | None = None
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="confidence of each one-sided bound of the difference to the champion"
    )
    latency_p99_ms: float = Field(200, gt=0, description="slowest acceptable 99th percentile of single-row predictions")
    size_mb: float = Field(500, gt=0, description="largest acceptable size of the packaged model")


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
    max_latency_ratio: float = Field(1.5, gt=0, description="largest p99 latency as a multiple of the champion's")
    max_prediction_shift: float = Field(
        0.2, gt=0, description="largest shift of the mean prediction against the champion's"
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


class Limits(Section):
    """What one command of the model repository may use, all its processes together."""

    build: Duration = Field(timedelta(minutes=15), description="longest build of the environment")
    test: Duration = Field(timedelta(minutes=10), description="longest run of unit or integration tests")
    train: Duration = Field(timedelta(hours=1), description="longest training")
    predict: Duration = Field(timedelta(minutes=10), description="longest prediction of a holdout")
    cpu: Duration = Field(timedelta(hours=4), description="most CPU time of a command, over all its processes")
    memory_mb: int = Field(
        4096, ge=256, description="most memory of a command, and largest address space of each of its processes"
    )
    processes: int = Field(256, ge=1, description="most processes that a command may have at a time")
    disk_mb: int = Field(10240, ge=16, description="most disk space that the files of a command may take")
    log_kb: int = Field(1024, ge=1, description="how much of the end of the output is kept")


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
    params: dict[str, bool | int | float | str] = Field(default_factory=dict, description="handed to `train`")
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
        slices = self.gates.slices.by if self.gates.slices else ()
        named = {"data.checks": (*self.data.checks.max_missing, *self.data.checks.ranges), "gates.slices.by": slices}
        for key, columns in named.items():
            if unknown := sorted(set(columns) - set(self.data.features)):
                raise ValueError(f"{key} names {', '.join(unknown)}, which data.features does not have")
        return self
