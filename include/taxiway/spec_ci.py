"""The parts of a model spec that continuous integration reads: from the repository to the gates."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, field_validator, model_validator

from taxiway.spec_values import Duration, Kind, MetricName, Section, Share


class Repository(Section):
    """Where the model's code lives."""

    url: str = Field(min_length=1, description="Git URL of the model repository")
    branch: str = Field("main", min_length=1, description="the branch whose pushes are built")
    poll: Duration = Field(timedelta(seconds=30), description="how often the watcher looks for pushes")
    ignore: tuple[str, ...] = Field(
        ("*.md", "*.rst", "LICENSE*", ".gitignore", ".github/*", "docs/*"),
        description="files that no build reads (`*` matches slashes too): a commit that changes nothing else delivers "
        "nothing",
    )


class Task(Section):
    """What is predicted, and which columns say what."""

    kind: Kind = Field(description="what the model answers: a score, a class, or a number")
    label: str = Field(description="column with the truth, known later")
    key: str = Field(description="column that identifies a row; late labels are joined by it")
    timestamp: str = Field(description="column with the time of a row (data time)")
    label_delay: Duration = Field(timedelta(0), description="how long after its timestamp a row's label is known")
    classes: tuple[int, ...] | tuple[str, ...] = Field(
        (), description="multiclass only: every value that the label may have; the model's scores are in sorted order"
    )

    @model_validator(mode="after")
    def _multiclass_names_its_classes(self) -> Task:
        if self.kind == "multiclass" and len(set(self.classes)) < 3:
            raise ValueError("a multiclass task names three or more classes, all that the label may have")
        if self.kind != "multiclass" and self.classes:
            raise ValueError(f"a {self.kind} task has no classes to name")
        return self


class DataChecks(Section):
    """Checks of every training and holdout window."""

    min_rows: int = Field(1, ge=1, description="fewest rows of the training window")
    max_missing: dict[str, Share] = Field(default_factory=dict, description="column -> largest share of missing values")
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict, description="column -> [lowest, highest]")
    types: dict[str, Literal["number", "integer", "text", "boolean", "time"]] = Field(
        default_factory=dict, description="column -> what its values are; both windows always have the same types"
    )
    max_new_categories: dict[str, Share] = Field(
        default_factory=dict, description="column -> largest share of holdout rows whose value training never showed"
    )
    max_duplicates: Share = Field(
        1.0, description="largest share of rows that repeat an earlier one in everything but the key"
    )
    min_class_share: Share = Field(0.0, description="smallest share of rows of each class (binary and multiclass)")


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
    min: float | None = Field(None, description="the metric may not be below this in any judged group")
    max: float | None = Field(None, description="the metric may not be above this in any judged group")
    min_rows: int = Field(300, ge=1, description="smaller groups are listed, not judged")

    @model_validator(mode="after")
    def _has_a_limit(self) -> SliceGate:
        if self.min is None and self.max is None:
            raise ValueError("a slice gate needs a min or a max")
        return self


class Build(Section):
    """What is asked of the code and its environment before anything is trained."""

    audit: tuple[str, ...] = Field(
        (),
        description="a command of yours that looks for known vulnerabilities; `{lock}` and `{sbom}` are replaced by "
        "the files; any exit code but 0 stops the build",
    )


class Tests(Section):
    """What is asked of the repository's own tests."""

    min_coverage: Share | None = Field(
        None, description="smallest share of the code's lines that the unit tests run; the lock must have `coverage`"
    )


class Invariance(Section):
    """A column that may hardly matter: another value in it moves no prediction by more than `max_change`."""

    column: str = Field(description="the feature that is exchanged for values of other rows")
    max_change: float = Field(
        ge=0, description="largest change of a prediction (multiclass: of a class's score, or 1 for another class)"
    )


class Direction(Section):
    """A number whose effect is known: more of it moves predictions one way."""

    column: str = Field(description="the feature that is changed")
    by: float = Field(description="what is added to it; negative to take away")
    expect: Literal["rise", "fall"] = Field(description="where predictions go")
    min_share: float = Field(
        0.95, gt=0, le=1, description="smallest share of rows whose prediction goes there or stays"
    )

    @field_validator("by")
    @classmethod
    def _changes_something(cls, value: float) -> float:
        if value == 0:
            raise ValueError("adding 0 changes nothing")
        return value


class Behaviour(Section):
    """Behavioural tests of every packaged model, on rows of the holdout."""

    rows: int = Field(300, ge=1, description="how many rows each test changes")
    invariance: tuple[Invariance, ...] = ()
    direction: tuple[Direction, ...] = ()


class Package(Section):
    """What a packaged model (the directory with its `MLmodel` file) may be."""

    loaders: tuple[str, ...] = Field(
        (
            *("mlflow.sklearn", "mlflow.lightgbm", "mlflow.xgboost", "mlflow.catboost", "mlflow.statsmodels"),
            *("mlflow.pytorch", "mlflow.tensorflow", "mlflow.onnx", "mlflow.pyfunc.model"),
        ),
        description="modules that an `MLmodel` file may name to load the model",
    )
    code: bool = Field(
        False, description="whether the model may bring code of its own (MLflow's `code_paths`), run wherever it loads"
    )


class Gates(Section):
    """What a candidate has to prove before it is registered."""

    metrics: dict[MetricName, MetricGate] = Field(min_length=1)
    slices: SliceGate | None = None
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="confidence of each one-sided bound of the difference to the champion"
    )
    latency_p99_ms: float = Field(200, gt=0, description="slowest acceptable 99th percentile of single-row predictions")
    size_mb: float = Field(500, gt=0, description="largest acceptable size of the packaged model")


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
