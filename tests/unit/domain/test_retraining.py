"""Retraining: somebody asks, and every guard can object."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taxiway.domain.retraining import RetrainingDecision, decide

DATA_END = datetime(2013, 8, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def decided(requests: tuple[str, ...] = ("roc_auc fell",), **changed: Any) -> RetrainingDecision:
    """Decide with guards that all agree, unless changed."""
    agreeing: dict[str, Any] = {
        "last_trained_until": DATA_END - 60 * DAY,
        "data_end": DATA_END,
        "cooldown": 45 * DAY,
        "new_labels": 50_000,
        "min_new_labels": 10_000,
        "recent_retrainings": [],
        "max_per_week": 2,
    }
    return decide(requests, **{**agreeing, **changed})


def test_it_goes_when_asked_and_nothing_objects() -> None:
    """The reasons of a retraining are those of who asked."""
    assert decided(("roc_auc fell", "monthly schedule")) == RetrainingDecision(
        True, ("roc_auc fell", "monthly schedule")
    )


def test_nobody_asks() -> None:
    """Without a request nothing is trained."""
    assert decided(()) == RetrainingDecision(False, ("nothing asks for retraining",))


@pytest.mark.parametrize(("age", "go"), [(45 * DAY, True), (45 * DAY - timedelta(seconds=1), False), (0 * DAY, False)])
def test_cooldown(age: timedelta, go: bool) -> None:
    """The newest model's data must be older than the cool-down, in data time; exactly as old is enough."""
    assert decided(last_trained_until=DATA_END - age).go is go


def test_a_first_model_needs_no_cooldown() -> None:
    """Where nothing was trained yet, no cool-down holds."""
    assert decided(last_trained_until=None).go


@pytest.mark.parametrize(("labels", "go"), [(10_000, True), (9_999, False)])
def test_enough_new_labels(labels: int, go: bool) -> None:
    """The policy's number of labelled rows is enough, one less is not."""
    assert decided(new_labels=labels).go is go


@pytest.mark.parametrize(
    ("ages", "go"),
    [
        ([], True),
        ([1 * DAY], True),
        ([1 * DAY, 6 * DAY], False),
        ([1 * DAY, 7 * DAY], True),  # a week ago to the second is past
        ([0 * DAY, 0 * DAY], False),
        ([-1 * DAY, -2 * DAY], True),  # a backfill does not count what came after
    ],
)
def test_weekly_budget(ages: list[timedelta], go: bool) -> None:
    """Retrainings of the seven days of data before count against the budget."""
    assert decided(recent_retrainings=[DATA_END - age for age in ages]).go is go


def test_every_objection_is_given() -> None:
    """A refusal lists all objections, with figures, and not the requests."""
    decision = decided(last_trained_until=DATA_END - 12 * DAY, new_labels=17, recent_retrainings=[DATA_END] * 2)

    assert decision == RetrainingDecision(
        False,
        (
            "cool-down: the newest model has data until 2013-07-20, 12 days before 2013-08-01; "
            "the policy asks for 45 days",
            "too little is new: 17 labelled rows; the policy asks for 10000",
            "budget: 2 retrainings in the seven days before 2013-08-01; the policy allows 2",
        ),
    )
