"""The clock port."""

from __future__ import annotations

from datetime import timedelta

import pytest

from taxiway.adapters.system_clock import SystemClock
from taxiway.ports import Clock
from tests.fakes import FakeClock


@pytest.mark.parametrize("clock", [FakeClock(), SystemClock()], ids=["fake", "system"])
def test_now_is_utc_and_never_goes_back(clock: Clock) -> None:
    """The time is aware UTC, and a later call does not give an earlier time."""
    first, second = clock.now(), clock.now()
    assert first.utcoffset() == timedelta(0)
    assert second >= first


def test_the_fake_moves_only_when_told() -> None:
    """The fake stands still, moves by what it is told, and can be set."""
    clock = FakeClock()
    start = clock.now()
    clock.advance(timedelta(hours=1))
    assert clock.now() - start == timedelta(hours=1)
    clock.set(start)
    assert clock.now() == start
