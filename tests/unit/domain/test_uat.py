"""User acceptance testing: the quorum's rules, one by one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxiway.domain.evidence import Verdict
from taxiway.domain.uat import SignOff, UatDecision, decide
from taxiway.errors import PermanentError

TESTERS = ("ana", "ben", "carla")
MONDAY = datetime(2013, 7, 1, 9, tzinfo=UTC)


def answer(tester: str, accepted: bool, *, minute: int = 0, comments: str = "") -> SignOff:
    """Return an answer given some minutes after nine."""
    return SignOff(tester, accepted, 4, comments, MONDAY + timedelta(minutes=minute))


def decided(*answers: SignOff, deadline_passed: bool = False, quorum: int = 2) -> UatDecision:
    """Decide with the three testers."""
    return decide(answers, testers=TESTERS, quorum=quorum, deadline_passed=deadline_passed)


def test_it_waits_for_the_quorum() -> None:
    """Before the quorum nothing is decided, and the reason names who may still answer."""
    nobody, one = decided(), decided(answer("ana", True))

    assert (nobody.verdict, nobody.reason) == (None, "waiting for 2 more of ana, ben, carla")
    assert (one.verdict, one.reason) == (None, "waiting for 1 more of ben, carla")
    assert (one.accepted, one.rejected, one.missing) == (("ana",), (), ("ben", "carla"))


def test_the_quorum_accepts() -> None:
    """Enough acceptances pass without the others."""
    decision = decided(answer("carla", True), answer("ana", True))

    assert (decision.verdict, decision.reason) == (Verdict.PASSED, "ana, carla accepted; 2 of 3 were needed")
    assert decision.missing == ("ben",)


def test_one_rejection_blocks() -> None:
    """A rejection fails at once, also beside a full quorum, and its comment is the reason."""
    alone = decided(answer("ben", False, comments="the night flights are all late"))
    beside = decided(answer("ana", True), answer("carla", True), answer("ben", False))

    assert (alone.verdict, alone.reason) == (Verdict.FAILED, "ben rejected: the night flights are all late")
    assert (beside.verdict, beside.reason) == (Verdict.FAILED, "ben rejected")


def test_every_rejection_is_a_reason() -> None:
    """Two rejections are both named."""
    decision = decided(answer("ana", False, comments="slow"), answer("carla", False))

    assert (decision.reason, decision.rejected) == ("ana rejected: slow; carla rejected", ("ana", "carla"))


@pytest.mark.parametrize("answered", [0, 1])
def test_the_deadline_leaves_it_to_a_person(answered: int) -> None:
    """Without quorum at the deadline it is inconclusive."""
    decision = decided(*[answer("ana", True)][:answered], deadline_passed=True)

    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.reason.startswith(f"{answered} of 2 needed testers accepted in time; no answer from ")


def test_answers_in_time_outweigh_the_deadline() -> None:
    """A quorum or a rejection decides also when it is looked at after the deadline."""
    assert decided(answer("ana", True), answer("ben", True), deadline_passed=True).verdict is Verdict.PASSED
    assert decided(answer("ana", False), deadline_passed=True).verdict is Verdict.FAILED


def test_the_latest_answer_counts() -> None:
    """A tester may change the answer, in either direction, whatever order the answers are read in."""
    first, second = answer("ana", False), answer("ana", True, minute=5)
    back = answer("ana", False, minute=9)

    assert decided(second, first).accepted == ("ana",)
    assert decided(first, back, second).rejected == ("ana",)


def test_other_people_are_reported_and_do_not_count() -> None:
    """An answer of somebody who is no tester neither accepts nor blocks."""
    decision = decided(answer("ana", True), answer("mallory", True), answer("eve", False))

    assert decision.verdict is None
    assert decision.ignored == ("eve", "mallory")
    assert (
        decision.reason == "waiting for 1 more of ben, carla (not counted, because not named as testers: eve, mallory)"
    )


def test_all_combinations() -> None:
    """Every combination of three answers, quorum and deadline follows the rules."""
    for answers, quorum, late in product(product((True, False, None), repeat=3), (1, 2, 3), (True, False)):
        given_answers = [answer(name, said) for name, said in zip(TESTERS, answers, strict=True) if said is not None]
        verdict = decided(*given_answers, quorum=quorum, deadline_passed=late).verdict

        if False in answers:
            assert verdict is Verdict.FAILED
        elif answers.count(True) >= quorum:
            assert verdict is Verdict.PASSED
        else:
            assert verdict is (Verdict.INCONCLUSIVE if late else None)


@given(st.lists(st.tuples(st.sampled_from(("ana", "ben", "carla", "eve")), st.booleans(), st.integers(0, 5))))
@settings(deadline=None)
def test_every_tester_is_in_exactly_one_list(answers: list[tuple[str, bool, int]]) -> None:
    """Accepted, rejected and missing divide the testers."""
    decision = decided(*(answer(name, said, minute=minute) for name, said, minute in answers))

    assert sorted((*decision.accepted, *decision.rejected, *decision.missing)) == sorted(TESTERS)


def test_a_sign_off_survives_its_storage() -> None:
    """What is read back is what was written."""
    answered = SignOff("ana", False, None, 'says "no", twice', MONDAY, saw="sha256:ab")

    assert SignOff.from_json(json.loads(json.dumps(answered.to_json()))) == answered


@pytest.mark.parametrize("rating", [0, 6, -1])
def test_ratings_are_one_to_five(rating: int) -> None:
    """Another rating is refused."""
    with pytest.raises(PermanentError, match="1 to 5"):
        SignOff("ana", True, rating, "", MONDAY)


def test_times_have_a_zone() -> None:
    """A time without its zone cannot be ordered, so it is refused."""
    with pytest.raises(PermanentError, match="timezone"):
        SignOff("ana", True, 5, "", MONDAY.replace(tzinfo=None))


def test_unreadable_answers_are_refused() -> None:
    """A stored answer with missing or unknown fields is not read."""
    document = answer("ana", True).to_json()

    with pytest.raises(TypeError):
        SignOff.from_json({**document, "mood": "good"})
    with pytest.raises(KeyError):
        SignOff.from_json({"tester": "ana"})
