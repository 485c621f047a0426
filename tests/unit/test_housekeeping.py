"""Housekeeping removes what nobody used for long, and never what is in use."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taxiway.domain.release import approval_statement
from taxiway.domain.values import TrafficPlan
from taxiway.stages.candidates import DIGEST, LOCK, STATE, State, release_of
from taxiway.stages.housekeeping import empty_staging, remove_unused
from tests.unit.model_versions import MODEL, Field

NOW = datetime(2026, 1, 31, tzinfo=UTC)
TWO_WEEKS = timedelta(days=14)


def environment(root: Path, name: str, *, used_days_ago: float) -> Path:
    """Make a cached environment that a stage used last some days ago."""
    directory = root / name
    directory.mkdir(parents=True)
    marker = directory / ".taxiway-ready"
    marker.touch()
    moment = (NOW - timedelta(days=used_days_ago)).timestamp()
    os.utime(marker, (moment, moment))
    return directory


def test_only_what_nobody_used_for_long_is_removed(tmp_path: Path) -> None:
    """An environment that was used yesterday stays; one from last month goes."""
    old = environment(tmp_path, "old", used_days_ago=30)
    fresh = environment(tmp_path, "fresh", used_days_ago=1)

    assert ["old"] == remove_unused(tmp_path, ".taxiway-ready", now=NOW, unused_for=TWO_WEEKS)
    assert (False, True) == (old.exists(), fresh.exists())


def test_an_empty_cache_is_no_error(tmp_path: Path) -> None:
    """A machine that never built anything has nothing to remove."""
    assert [] == remove_unused(tmp_path / "nothing", ".taxiway-ready", now=NOW, unused_for=TWO_WEEKS)


@pytest.fixture
def field(keys: tuple[Path, Path]) -> Field:
    """Production serves version 2; both versions went through staging, where version 2 still answers."""
    field = Field(keys)
    for name in ("first", "second"):
        field.deliver(name)
    return field


def test_staging_keeps_what_has_traffic(field: Field) -> None:
    """The version that answers in staging stays although its delivery is over."""
    assert [] == empty_staging(MODEL, registry=field.registry, staging=field.staging)
    assert TrafficPlan(stable=2) == field.staging.status(MODEL).plan


def test_staging_loses_a_version_whose_delivery_ended(field: Field) -> None:
    """A rejected version that a crash left deployed next to the tested one is stopped."""
    left = field.candidate("third", tags={STATE: State.REJECTED.value})
    approval = approval_statement(
        MODEL, left.version, left.tags[DIGEST], "staging", "gate", NOW, lock_digest=left.tags[LOCK]
    )
    field.staging.deploy(release_of(field.spec, left, field.signer.sign_statement(approval)))

    assert [left.version] == empty_staging(MODEL, registry=field.registry, staging=field.staging)
    assert {2} == {deployed.version for deployed in field.staging.status(MODEL).versions}
