"""The calendar of the demo: which months are there at first, and which ones pass while production is watched."""

from __future__ import annotations

from datetime import UTC, datetime

from taxiway.domain.values import Window

MODEL = "flight_delays"
YEAR = 2013
FIRST_DATA = (1, 2, 3)
MONTHS = (4, 5, 6, 7, 8)
LAST_MONTH = MONTHS[-1] + 1
"""The month in which a version goes wrong in production; it is not watched."""


def month_window(month: int) -> Window:
    """Return the month as a window of data time."""
    return Window(datetime(YEAR, month, 1, tzinfo=UTC), datetime(YEAR, month + 1, 1, tzinfo=UTC))


def month_name(month: int) -> str:
    """Return the month's English name."""
    return f"{month_window(month).start:%B}"
