"""A candidate's way into production, and every way in which it ends before."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from taxiway.domain.evidence import Verdict
from taxiway.domain.uat import SignOff
from taxiway.domain.values import CHALLENGER, CHAMPION, PREVIOUS, STAGING, TrafficPlan
from taxiway.errors import DeliveryStopped, IntegrityError, WrongState
from taxiway.stages.candidates import APPROVAL, EVALUATION_PAGE, REASON, STATE, State, state_of
from taxiway.stages.deliver import Approved
from taxiway.stages.evidence_store import evidence_of
from taxiway.stages.rollback import Order
from taxiway.stages.uat import record_sign_off
from tests.unit.model_versions import MODEL, Field
from tests.unit.rolled_back import aliases, serves, states


@pytest.fixture
def field(keys: tuple[Path, Path]) -> Field:
    """An installation without any model yet."""
    return Field(keys)


def alias(field: Field, name: str) -> int | None:
    """Return the version that an alias points to."""
    candidate = field.registry.by_alias(MODEL, name)
    return candidate.version if candidate else None


def sign(field: Field, version: int, tester: str, *, accepted: bool) -> None:
    """Answer as a tester."""
    record_sign_off(field.registry, field.spec, version, SignOff(tester, accepted, 4, "seen", field.clock.now()))


def in_staging(field: Field, name: str = "first") -> int:
    """Bring a new version into staging."""
    version = field.candidate(name).version
    field.delivery(version).admit(field.verifier)
    field.delivery(version).deploy_staging(field.staging, field.signer)
    return version


def test_a_delivered_version_is_the_only_champion_and_serves(field: Field) -> None:
    """After a delivery the alias, the state and production name the same version, and no challenger is left."""
    delivered = field.deliver("first")

    assert (1, None, None) == (alias(field, CHAMPION), alias(field, CHALLENGER), alias(field, PREVIOUS))
    assert State.PRODUCTION is state_of(delivered)
    assert TrafficPlan(stable=1) == field.production.status(MODEL).plan


def test_the_second_delivery_keeps_the_first_version_warm_as_previous(field: Field) -> None:
    """The version before the champion stays deployed, so that a rollback is one switch; older ones are stopped."""
    for name in ("first", "second", "third"):
        field.deliver(name)

    assert (3, 2) == (alias(field, CHAMPION), alias(field, PREVIOUS))
    assert State.RETIRED is state_of(field.registry.candidate(MODEL, 2))
    assert {2, 3} == {status.version for status in field.production.status(MODEL).versions}


def test_promoting_twice_changes_nothing(field: Field) -> None:
    """A promotion that is repeated after a crash ends in the same state."""
    field.deliver("first")
    second = field.deliver("second")

    field.delivery(second.version).promote(field.production)

    assert (2, 1) == (alias(field, CHAMPION), alias(field, PREVIOUS))


def test_a_changed_model_is_refused_before_anything_serves(field: Field, tmp_path: Path) -> None:
    """A file that was changed after signing stops the delivery at admission."""
    candidate = field.candidate("first")
    (tmp_path / "MLmodel").write_text("loader_module: evil\n")
    field.registry.put_file(candidate.run_id, "model/MLmodel", tmp_path / "MLmodel")

    with pytest.raises(IntegrityError):
        field.delivery(candidate.version).admit(field.verifier)
    assert alias(field, CHALLENGER) is None


def test_a_newer_candidate_supersedes_one_that_waits(field: Field) -> None:
    """The older one takes no more answers, and its delivery ends with the reason as soon as it looks."""
    old = in_staging(field, "old")
    in_staging(field, "new")

    assert State.SUPERSEDED is state_of(field.registry.candidate(MODEL, old))
    with pytest.raises(WrongState, match="it is superseded"):
        sign(field, old, "ana", accepted=True)
    with pytest.raises(DeliveryStopped, match="superseded: version 2 is on its way"):
        field.delivery(old).conclude_uat(deadline_passed=False)
    field.delivery(old).stop("a task failed", production=field.production, notifier=field.notifier)
    assert "version 2 is on its way" == field.notifier.sent[-1].text


def test_an_older_candidate_cannot_overtake_a_newer_one(field: Field) -> None:
    """A delivery that starts late, when a newer version is the champion, ends at admission."""
    late = field.candidate("late")
    field.deliver("new")

    with pytest.raises(DeliveryStopped, match="superseded"):
        field.delivery(late.version).admit(field.verifier)


def test_admission_leads_to_the_evaluation(field: Field, tmp_path: Path) -> None:
    """Who is asked to approve finds the page with the charts, when one was drawn."""
    candidate = field.candidate("new")
    without = field.delivery(candidate.version).admit(field.verifier)
    (tmp_path / "page.html").write_text("<!doctype html>")
    field.registry.put_file(candidate.run_id, EVALUATION_PAGE, tmp_path / "page.html")

    admitted = field.delivery(candidate.version).admit(field.verifier)

    assert without["evaluation"] == ""
    assert admitted["evaluation"] == field.registry.page(candidate.run_id, EVALUATION_PAGE)


def test_staging_that_answers_differently_stops_the_delivery(field: Field) -> None:
    """Predictions in staging that differ from those at evaluation are found before a tester sees the version."""
    version = in_staging(field)
    field.registry.put_json(
        field.registry.candidate(MODEL, version).run_id,
        "taxiway/golden.json",
        {"inputs": {"columns": ["distance"], "data": [[1.0]]}, "predictions": [0.5]},
    )

    with pytest.raises(DeliveryStopped, match="1 of 1 predictions differ"):
        field.delivery(version).check_staging(field.staging)


def test_uat_waits_until_the_quorum_has_accepted(field: Field) -> None:
    """With a quorum of two, one acceptance decides nothing and the second one passes."""
    version = in_staging(field)
    sign(field, version, "ana", accepted=True)
    waiting = field.delivery(version).conclude_uat(deadline_passed=False)
    sign(field, version, "ben", accepted=True)

    decided = field.delivery(version).conclude_uat(deadline_passed=False)

    assert waiting is None
    assert decided is not None
    assert Verdict.PASSED is decided.verdict
    assert State.TESTED is state_of(field.registry.candidate(MODEL, version))


def test_one_rejection_ends_the_delivery(field: Field) -> None:
    """A blocking rejection closes the version with the tester's reason."""
    version = in_staging(field)
    sign(field, version, "ana", accepted=False)

    with pytest.raises(DeliveryStopped, match="ana rejected: seen"):
        field.delivery(version).conclude_uat(deadline_passed=False)
    assert State.REJECTED is state_of(field.registry.candidate(MODEL, version))


def test_uat_without_answers_is_inconclusive_at_the_deadline(field: Field) -> None:
    """When the time is over the release manager decides, with the figures."""
    version = in_staging(field)

    decided = field.delivery(version).conclude_uat(deadline_passed=True)

    assert decided is not None
    assert Verdict.INCONCLUSIVE is decided.verdict


def test_an_unapproved_version_cannot_reach_production(field: Field) -> None:
    """The approval for staging is no approval for production: the target refuses it."""
    version = in_staging(field)
    candidate = field.registry.candidate(MODEL, version)
    in_staging_only = field.signer.sign_statement({"kind": "approval", "environment": "staging"})
    field.registry.set_tags(MODEL, version, {"taxiway.approval": in_staging_only})

    with pytest.raises(IntegrityError):
        field.delivery(version).promote(field.production)
    assert field.production.status(MODEL).plan is None
    assert candidate.aliases == {CHALLENGER, STAGING}


def end(field: Field, version: int, reason: str = "verification failed") -> None:
    """End the delivery of a version as its last task does."""
    field.delivery(version).stop(reason, production=field.production, notifier=field.notifier)


def everything(field: Field) -> tuple[list[State], dict[str, int], TrafficPlan | None]:
    """Return the states, the aliases and the traffic of production, all that a delivery may change."""
    return states(field), aliases(field), serves(field)


def test_a_version_that_fails_in_production_is_taken_back(field: Field) -> None:
    """When the check after promotion fails, production and the alias go back to the version before."""
    field.deliver("good")
    bad = field.promote("bad").version

    end(field, bad)

    assert (1, None) == (alias(field, CHAMPION), alias(field, CHALLENGER))
    assert TrafficPlan(stable=1) == serves(field)
    stopped = field.registry.candidate(MODEL, bad)
    assert (State.REJECTED, "verification failed") == (state_of(stopped), stopped.tags[REASON])
    evidence = evidence_of(field.registry, stopped.run_id, "delivery")
    assert (Verdict.FAILED, ("verification failed",)) == (evidence.verdict, evidence.reasons)


def test_a_first_version_that_fails_in_production_is_reported(field: Field) -> None:
    """Without an earlier version production stays as it is, the version is marked, and the owners hear of both."""
    field.promote("first")

    end(field, 1)

    assert State.REJECTED is state_of(field.registry.candidate(MODEL, 1))
    assert "no earlier version" in field.notifier.sent[-1].text


def test_a_rejected_champion_stays_rejected(field: Field) -> None:
    """Neither a later version that is stopped nor one that is promoted makes it good: no rollback goes back to it."""
    field.promote("first")
    end(field, 1)
    end(field, in_staging(field, "second"), "a tester said no")
    assert [State.REJECTED, State.REJECTED] == states(field)

    field.deliver("third")

    assert [State.REJECTED, State.REJECTED, State.PRODUCTION] == states(field)
    assert {CHAMPION: 3, STAGING: 3} == aliases(field)
    with pytest.raises(DeliveryStopped, match="no previous version"):
        field.rollbacks.roll_back(Order("dana", "wrong answers"))


@pytest.mark.parametrize("version", [1, 2], ids=["retired", "champion"])
def test_what_was_delivered_before_is_not_delivered_again(field: Field, version: int) -> None:
    """Whoever starts its delivery once more, or clears it, is told so; nothing moves, and nothing is taken back."""
    field.deliver("first")
    field.deliver("second")
    before = everything(field)

    with pytest.raises(DeliveryStopped, match="delivered before: it is"):
        field.delivery(version).admit(field.verifier)
    end(field, version, "DeliveryStopped")

    assert before == everything(field)
    assert "nothing was changed: the version is" in field.notifier.sent[-1].text


def test_nobody_moves_traffic_before_the_promoted_version_is_verified(field: Field) -> None:
    """The next version waits for the check; afterwards a repeated check asks nobody, for the next one may answer."""
    field.deliver("first")
    second = field.promote("second")
    third = field.candidate("third").version
    field.approve(third)
    assert 2 == field.rollout(third).claim()

    second.verify_production(field.production)
    assert None is field.rollout(third).claim()
    field.production.set_traffic(MODEL, TrafficPlan(stable=1))
    second.promote(field.production)

    assert Verdict.PASSED is second.verify_production(field.production).verdict
    assert TrafficPlan(stable=1) == serves(field)


def test_the_end_of_a_delivery_leaves_the_verdict_to_who_closed_the_version(field: Field) -> None:
    """What the testers rejected is their evidence, and superseded is not bad: the end adds nothing."""
    version = in_staging(field)
    sign(field, version, "ana", accepted=False)
    with pytest.raises(DeliveryStopped):
        field.delivery(version).conclude_uat(deadline_passed=False)

    field.delivery(version).stop("a task failed", production=field.production, notifier=field.notifier)

    stopped = field.registry.candidate(MODEL, version)
    assert stopped.tags[REASON] == "ana rejected: seen"
    assert "taxiway/delivery.json" not in field.registry.list_files(stopped.run_id, "taxiway")


def test_a_rejected_version_is_not_delivered_again(field: Field) -> None:
    """Starting the delivery of a rejected version once more ends at admission with the reason."""
    version = in_staging(field)
    field.clock.advance(timedelta(hours=1))
    field.delivery(version).stop("no", production=field.production, notifier=field.notifier)

    with pytest.raises(DeliveryStopped, match="the version is rejected: no"):
        field.delivery(version).admit(field.verifier)


def test_a_newer_candidate_supersedes_one_that_waits_for_approval(field: Field) -> None:
    """A late answer of the release manager lets nothing in that was superseded meanwhile."""
    old = in_staging(field, "old")
    in_staging(field, "new")

    with pytest.raises(DeliveryStopped, match="superseded: version 2 is on its way"):
        field.delivery(old).approve(Approved("dana", field.clock.now()), field.signer)
    assert APPROVAL not in field.registry.candidate(MODEL, old).tags


def test_a_newer_candidate_supersedes_one_that_waits_for_its_turn(field: Field) -> None:
    """It was approved, but moved no traffic yet."""
    old = field.candidate("old").version
    field.approve(old)
    in_staging(field, "new")

    with pytest.raises(DeliveryStopped, match="superseded: version 2 is on its way"):
        field.rollout(old).claim()


def test_a_closed_challenger_supersedes_nobody(field: Field) -> None:
    """A newer version that was rejected hinders no other."""
    version = in_staging(field, "old")
    newer = field.candidate("new").version
    field.registry.set_alias(MODEL, CHALLENGER, newer)
    field.registry.set_tags(MODEL, newer, {STATE: State.REJECTED.value})

    field.delivery(version).refuse_superseded()


def test_the_same_commit_does_not_bring_a_rolled_back_version_again(field: Field) -> None:
    """Whoever starts its delivery once more, such as a retraining that made the same build, ends at admission."""
    for name in ("good", "bad"):
        field.deliver(name)
    field.rollbacks.roll_back(Order("dana", "wrong answers"))
    run_id = field.registry.candidate(MODEL, 2).run_id

    again = field.registry.register(MODEL, run_id, {}, "the same build")

    assert (2, State.ROLLED_BACK) == (again.version, state_of(again))
    with pytest.raises(DeliveryStopped, match="rolled_back: wrong answers"):
        field.delivery(again.version).admit(field.verifier)
    assert 1 == alias(field, CHAMPION)
