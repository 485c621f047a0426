"""When a new model is trained on fresh data: somebody asks, and guards agree.

All times are data time (the end of the data, not the clock), so a replay of a year decides as the year did.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

_WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class RetrainingDecision:
    """Whether to train; `reasons` are the requests when it goes, the objections when it does not."""

    go: bool
    reasons: tuple[str, ...]


def decide(
    requests: Sequence[str],
    *,
    last_trained_until: datetime | None,
    data_end: datetime,
    cooldown: timedelta,
    new_labels: int,
    min_new_labels: int,
    recent_retrainings: Sequence[datetime],
    max_per_week: int,
) -> RetrainingDecision:
    """Decide about the requested retraining.

    `last_trained_until` is the data end of the newest model, None when there is none; `new_labels` counts the
    labelled rows since then; `recent_retrainings` holds the data end of each retraining that was started.
    """
    if not requests:
        return RetrainingDecision(False, ("nothing asks for retraining",))
    objections = (
        *_too_soon(last_trained_until, data_end, cooldown),
        *_too_little(new_labels, min_new_labels),
        *_too_often(recent_retrainings, data_end, max_per_week),
    )
    return RetrainingDecision(not objections, objections or tuple(requests))


def _too_soon(trained_until: datetime | None, data_end: datetime, cooldown: timedelta) -> Iterator[str]:
    if trained_until is not None and data_end - trained_until < cooldown:
        yield (
            f"cool-down: the newest model has data until {trained_until:%Y-%m-%d}, {_days(data_end - trained_until)} "
            f"before {data_end:%Y-%m-%d}; the policy asks for {_days(cooldown)}"
        )


def _too_little(new_labels: int, least: int) -> Iterator[str]:
    if new_labels < least:
        yield f"too little is new: {new_labels} labelled rows; the policy asks for {least}"


def _too_often(retrainings: Sequence[datetime], data_end: datetime, most: int) -> Iterator[str]:
    count = sum(data_end - _WEEK < moment <= data_end for moment in retrainings)
    if count >= most:
        yield f"budget: {count} retrainings in the seven days before {data_end:%Y-%m-%d}; the policy allows {most}"


def _days(duration: timedelta) -> str:
    return f"{duration / timedelta(days=1):g} days"
