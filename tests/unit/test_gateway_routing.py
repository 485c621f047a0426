"""Who answers a request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.domain.values import TrafficPlan
from taxiway.errors import DeliveryStopped
from taxiway.gateway.routing import check_plan, choose, plan_from_json, plan_to_json, position, versions_in

IDS = [f"request-{number}" for number in range(2000)]


@pytest.mark.parametrize("percent", [1.0, 5.0, 25.0, 50.0])
def test_share_is_kept(percent: float) -> None:
    """The challenger gets its share of many request ids."""
    plan = TrafficPlan(stable=1, challenger=2, challenger_percent=percent)
    share = sum(choose(plan, "flight_delays", name) == 2 for name in IDS) / len(IDS) * 100

    assert share == pytest.approx(percent, abs=2.5)


@given(name=st.text(min_size=1), less=st.floats(0, 100), more=st.floats(0, 100))
def test_growing_share_moves_nobody_back(name: str, less: float, more: float) -> None:
    """A request id that the challenger answers is still answered by it at a larger share, and always the same way."""
    less, more = sorted((less, more))
    chosen = [choose(TrafficPlan(1, 2, percent), "flight_delays", name) for percent in (less, less, more)]

    assert chosen[0] == chosen[1]
    assert chosen[2] >= chosen[0]


def test_nothing_and_everything() -> None:
    """With 0 percent the stable version answers every id, with 100 the challenger does."""
    for percent, version in ((0.0, 1), (100.0, 2)):
        plan = TrafficPlan(stable=1, challenger=2, challenger_percent=percent)
        assert {choose(plan, "flight_delays", name) for name in IDS} == {version}


def test_models_split_independently() -> None:
    """The same request ids fall elsewhere for another model, so that no caller is always the guinea pig."""
    assert [position("one", name) for name in IDS] != [position("other", name) for name in IDS]


def test_versions_of_a_plan() -> None:
    """A plan needs its stable version, and challenger and shadow when it has them."""
    assert versions_in(TrafficPlan(stable=1, challenger=2, challenger_percent=5, shadow=3)) == {1, 2, 3}
    assert versions_in(TrafficPlan(stable=1)) == {1}


@pytest.mark.parametrize(
    "plan",
    [
        TrafficPlan(stable=1, challenger=1, challenger_percent=5),
        TrafficPlan(stable=1, shadow=1),
        TrafficPlan(stable=1, challenger=2, shadow=2),
        TrafficPlan(stable=1, challenger=2, challenger_percent=101),
        TrafficPlan(stable=1, challenger=2, challenger_percent=-1),
        TrafficPlan(stable=1, challenger=2, challenger_percent=float("nan")),
        TrafficPlan(stable=1, challenger_percent=5),
    ],
)
def test_plan_that_contradicts_itself(plan: TrafficPlan) -> None:
    """Two roles for one version, an impossible share, and a share for nobody are refused."""
    with pytest.raises(DeliveryStopped, match="contradicts itself"):
        check_plan(plan)


def test_plan_as_json() -> None:
    """A plan survives its JSON; anything else is refused."""
    plan = TrafficPlan(stable=1, challenger=2, challenger_percent=12.5, shadow=3)

    assert plan_from_json(plan_to_json(plan)) == plan
    for document in ({}, {"stable": "1"}, {"stable": 1, "other": 2}, {"stable": None}, {"stable": True}):
        with pytest.raises((TypeError, ValueError)):
            plan_from_json(document)
    with pytest.raises(ValueError, match="number"):
        plan_from_json({"stable": 1, "challenger": 2, "challenger_percent": "all"})
