"""Production goes back in one switch, and what was taken out stays out."""

from __future__ import annotations

from pathlib import Path

import pytest

from taxiway.domain.values import CHAMPION, PREVIOUS, TrafficPlan
from taxiway.errors import DeliveryStopped
from taxiway.stages.candidates import State, state_of
from taxiway.stages.rollback import Order, rollback
from tests.unit.model_versions import MODEL, Field


@pytest.fixture
def field(keys: tuple[Path, Path]) -> Field:
    """Production serves version 3; 2 is the previous one, 1 is retired."""
    field = Field(keys)
    for name in ("first", "second", "third"):
        field.deliver(name)
    return field


def roll_back(field: Field, to: int | None = None) -> dict[str, object]:
    """Order a rollback."""
    return dict(
        rollback(
            field.spec,
            Order("dana", "wrong answers", to),
            registry=field.registry,
            production=field.production,
            clock=field.clock,
            notifier=field.notifier,
        )
    )


def test_production_and_aliases_go_back_to_the_previous_champion(field: Field) -> None:
    """The previous version serves and is champion; the bad one is marked and `previous` never points to it."""
    assert {"from": 3, "to": 2} == roll_back(field)

    champion, previous = field.registry.by_alias(MODEL, CHAMPION), field.registry.by_alias(MODEL, PREVIOUS)
    assert TrafficPlan(stable=2) == field.production.status(MODEL).plan
    assert champion is not None
    assert previous is not None
    assert (2, 1) == (champion.version, previous.version)
    assert State.ROLLED_BACK is state_of(field.registry.candidate(MODEL, 3))


def test_a_rollback_leaves_evidence_of_who_and_why(field: Field) -> None:
    """The version that was taken out keeps who ordered it and the reason."""
    roll_back(field)

    evidence = field.registry.get_json(field.registry.candidate(MODEL, 3).run_id, "taxiway/rollback.json")
    assert ["wrong answers"] == evidence["reasons"]
    assert "dana" == evidence["figures"]["by"]


def test_a_version_can_be_named(field: Field) -> None:
    """A named version that was approved before serves again, even when it is no longer warm."""
    assert {"from": 3, "to": 1} == roll_back(field, to=1)
    assert TrafficPlan(stable=1) == field.production.status(MODEL).plan


def test_a_version_without_approval_is_refused(field: Field) -> None:
    """Nothing moves when the named version was never approved for production."""
    never_approved = field.candidate("fourth")

    with pytest.raises(DeliveryStopped, match="never approved"):
        roll_back(field, to=never_approved.version)
    assert TrafficPlan(stable=3) == field.production.status(MODEL).plan


def test_a_rolled_back_version_is_not_delivered_again_by_itself(field: Field) -> None:
    """Only a person can bring it back: its delivery ends at admission."""
    roll_back(field)

    with pytest.raises(DeliveryStopped, match="rolled_back: wrong answers"):
        field.delivery(3).admit(field.verifier)
