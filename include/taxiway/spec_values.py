"""What the values of a model spec look like: sections, durations, schedules, names, metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

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
Kind = Literal["binary", "multiclass", "regression"]
MetricName = Literal["roc_auc", "pr_auc", "accuracy", "brier", "log_loss", "f1_macro", "rmse", "mae", "r2"]

SUITED_METRICS: Mapping[Kind, tuple[MetricName, ...]] = {
    "binary": ("roc_auc", "pr_auc", "accuracy", "brier", "log_loss", "f1_macro"),
    "multiclass": ("accuracy", "f1_macro", "log_loss"),
    "regression": ("rmse", "mae", "r2"),
}
"""Which metrics suit which kind of task; the formulas are in `domain.metrics`."""


class Section(BaseModel):
    """A part of the spec: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
