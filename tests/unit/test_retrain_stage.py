"""The retraining stage: an alarm stays asked until a retraining answers it, and guards may object."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.stages.candidates import STATE, State
from taxiway.stages.retrain import decide_retraining, open_request, retraining_run_id
from tests.unit.monitored_model import MAY, MODEL, TRAINED_UNTIL, Production, model_spec

LATE_MAY = datetime(2013, 5, 29, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def production() -> Production:
    found = Production()
    found.promote()
    return found


def raise_alarm(production: Production, end: datetime, *causes: str) -> None:
    """Keep the evidence of a window with the champion, as monitoring does."""
    champion = production.registry.by_alias(MODEL, "champion")
    assert champion is not None
    subject = {"start": (end - 28 * DAY).isoformat(), "end": end.isoformat()}
    figures = {"asks_retraining": bool(causes), "asks": list(causes)}
    evidence = Evidence("monitoring", Verdict.FAILED, end, ("roc_auc fell",), subject, figures)
    production.registry.put_json(champion.run_id, f"taxiway/monitoring/{end:%Y-%m-%d}.json", evidence.to_json())


def decide(production: Production, data_end: datetime = LATE_MAY, reason: str = "performance") -> dict[str, Any]:
    p = production
    return decide_retraining(p.spec, data_end=data_end, registry=p.registry, data=p.data, reason=reason)


def test_alarm_starts_a_retraining(production: Production) -> None:
    """An alarm goes, with its reasons and the CI run that it starts."""
    raise_alarm(production, LATE_MAY, "performance", "drift")

    assert decide(production) == {
        "go": True,
        "reasons": ["monitoring until 2013-05-29 (performance, drift): roc_auc fell"],
        "run_id": "retrain-2013-05-29",
        "conf": {"data_end": LATE_MAY.isoformat(), "reason": "performance"},
    }


def test_nothing_goes_without_an_alarm(production: Production) -> None:
    """Windows that asked for nothing start nothing."""
    raise_alarm(production, LATE_MAY)

    found = decide(production)

    assert (found["go"], found["reasons"]) == (False, ["nothing asks for retraining"])


@pytest.mark.parametrize("reason", ["schedule", "manual"])
def test_people_and_schedules_need_no_alarm(production: Production, reason: str) -> None:
    """A schedule and a person ask by themselves, and CI hears who asked."""
    found = decide(production, reason=reason)

    assert (found["go"], found["conf"]["reason"]) == (True, reason)


def test_alarm_stays_asked_until_the_guards_agree(production: Production) -> None:
    """An alarm that came within the cool-down is not lost: it starts the retraining when the cool-down is over."""
    production.spec = model_spec(retraining={"on": ["performance"], "cooldown": "45d", "min_new_labels": 100})
    raise_alarm(production, datetime(2013, 5, 8, tzinfo=UTC), "performance")

    early = decide(production, datetime(2013, 5, 8, tzinfo=UTC))
    later = decide(production, LATE_MAY)

    assert (early["go"], later["go"]) == (False, True)
    assert "cool-down" in early["reasons"][0]


def test_started_retraining_answers_the_alarm(production: Production) -> None:
    """Whatever becomes of the retraining, the alarms that it had the data for do not start another one."""
    raise_alarm(production, LATE_MAY, "performance")
    decide(production)

    assert decide(production, LATE_MAY + DAY)["reasons"] == ["nothing asks for retraining"]


def test_newer_alarm_asks_again(production: Production) -> None:
    """A window after the retraining that still sees the loss asks anew."""
    raise_alarm(production, LATE_MAY, "performance")
    decide(production)
    raise_alarm(production, LATE_MAY + DAY, "drift")

    found = decide(production, LATE_MAY + DAY)

    assert (found["go"], found["conf"]["reason"]) == (True, "drift")


def test_alarms_of_later_windows_do_not_count(production: Production) -> None:
    """A replay of an earlier day decides by what was known on that day."""
    raise_alarm(production, LATE_MAY, "performance")

    assert decide(production, LATE_MAY - DAY)["go"] is False


def test_new_champion_starts_without_alarms(production: Production) -> None:
    """The alarms about the version before are answered by its successor."""
    raise_alarm(production, LATE_MAY, "performance")
    production.promote("second", trained_until=datetime(2013, 5, 15, tzinfo=UTC))

    assert decide(production)["reasons"] == ["nothing asks for retraining"]


def test_weekly_budget_counts_started_retrainings(production: Production) -> None:
    """After two retrainings in seven days of data time the third waits, however many alarms there are."""
    for day in range(3):
        raise_alarm(production, LATE_MAY - day * DAY, "performance")

    decisions = [decide(production, LATE_MAY - day * DAY) for day in (2, 1, 0)]

    assert [decision["go"] for decision in decisions] == [True, True, False]
    assert "budget" in decisions[2]["reasons"][0]


def test_repeated_question_gets_the_same_answer(production: Production) -> None:
    """A task that runs again finds its decision, also when the new version is registered by then."""
    raise_alarm(production, LATE_MAY, "performance")
    first = decide(production)
    run_id = production.registry.open_build(MODEL, "retrained", {})
    production.registry.register(MODEL, run_id, {"taxiway.trained_until": LATE_MAY.isoformat()}, "")

    assert decide(production) == first


def test_model_on_its_way_counts_for_the_cool_down(production: Production) -> None:
    """While a newer model waits for its approval no other one is trained; once it is rejected, it may be."""
    run_id = production.registry.open_build(MODEL, "waiting", {})
    waiting = production.registry.register(MODEL, run_id, {"taxiway.trained_until": LATE_MAY.isoformat()}, "")
    raise_alarm(production, LATE_MAY, "performance")

    blocked = decide(production)
    production.registry.set_tags(MODEL, waiting.version, {STATE: State.REJECTED.value})

    assert "cool-down" in blocked["reasons"][0]
    assert decide(production)["go"] is True


def test_open_alarm_asks_again_with_every_window_until_it_is_answered(production: Production) -> None:
    """Each window starts a retraining run of its own while an alarm is open, and none afterwards."""
    p = production
    raise_alarm(p, LATE_MAY - DAY, "drift")

    asked = open_request(p.spec, data_end=LATE_MAY, registry=p.registry)
    decide(p)

    assert asked == {"run_id": "retrain-2013-05-29", "conf": {"data_end": LATE_MAY.isoformat(), "reason": "drift"}}
    assert open_request(p.spec, data_end=LATE_MAY + DAY, registry=p.registry) is None


def test_nothing_asks_without_an_alarm_or_a_champion(production: Production) -> None:
    """Calm windows start no retraining run, and neither does a model without champion."""
    assert open_request(production.spec, data_end=LATE_MAY, registry=production.registry) is None
    assert open_request(production.spec, data_end=LATE_MAY, registry=Production().registry) is None


def test_too_few_new_labels_object(production: Production) -> None:
    """Only rows count that are labelled by then and that the newest model was not trained on: those of two days."""
    production.promote("second", trained_until=LATE_MAY - 2 * DAY)

    found = decide(production, reason="manual")

    assert "too little is new: 40 labelled rows; the policy asks for 100" in found["reasons"]


def test_rows_without_a_label_are_nothing_new(production: Production) -> None:
    """Cancelled flights cannot be learned from."""
    frame = production.data.frame
    assert frame is not None
    production.data.frame = frame.assign(late=frame["late"].where(frame.index < 40))

    found = decide(production, reason="manual")

    assert found["reasons"] == ["too little is new: 40 labelled rows; the policy asks for 100"]


def test_data_that_was_trained_on_is_not_new(production: Production) -> None:
    """A question about data that the champion knows finds nothing new."""
    found = decide(production, TRAINED_UNTIL - DAY, reason="manual")

    assert any("too little is new: 0 labelled rows" in reason for reason in found["reasons"])


def test_without_champion_there_is_nothing_to_retrain() -> None:
    """The first model comes from a commit, and the answer says so."""
    found = decide(Production(), reason="manual")

    assert found["go"] is False
    assert "comes from a commit" in found["reasons"][0]


def test_decision_is_kept_with_the_champion(production: Production) -> None:
    """What was decided, and why, is evidence in the champion's run; the result is JSON."""
    found = decide(production)
    champion = production.registry.candidate(MODEL, 1)

    evidence = Evidence.from_json(production.registry.get_json(champion.run_id, "taxiway/retraining/2013-05-29.json"))

    assert evidence.figures == {"go": False}
    assert list(evidence.reasons) == json.loads(json.dumps(found))["reasons"]


def test_run_id_names_the_data_end() -> None:
    """The same data end gives the same run, so that a repeat starts nothing twice."""
    assert retraining_run_id(MAY.end) == "retrain-2013-05-29"
    assert retraining_run_id(MAY.end + timedelta(hours=6)) == "retrain-2013-05-29T0600"
