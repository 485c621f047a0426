"""Candidates whose process is bad, under traffic: it crashes, takes all the memory, dies or hangs while it loads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taxiway.domain.rollout import Phase
from taxiway.errors import DeliveryStopped
from tests.unit.bad_candidates import CANARY, NUMBERS, RARE, SHADOW, Code, Production, production, watched

pytestmark = pytest.mark.timeout(600)  # the first test may have to build the models' environment
MEMORY_MB, START_SECONDS = 700, 20
MODELS = {
    NUMBERS: {
        "good": Code("return x"),
        "crashes": Code(f"if (x >= {RARE}).any(): os._exit(7)\n        return x"),
        "hungry": Code("HELD.append(b'x' * 4_000_000); return x"),
        "dies": Code("return x", load="os._exit(3)"),
        "hangs": Code("return x", load="time.sleep(3600)"),
    }
}


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> Iterator[Production]:
    """A gateway with little memory for its scorers, and little time."""
    options = ("--memory-mb", str(MEMORY_MB), "--start-seconds", str(START_SECONDS))
    with production(tmp_path_factory, keys, MODELS, *options) as made:
        yield made[NUMBERS]


def test_a_candidate_that_crashes_ends_in_its_canary(numbers: Production) -> None:
    """Rows that end its process, and all that it could not answer meanwhile, are its errors; the champion answers."""
    with numbers.traffic() as answers:
        state = watched(numbers.roll_out("crashes", CANARY), Phase.ABORTED)

    assert "requests failed; the policy allows 1.00%" in state.reason
    assert "the scorer died (exit code 7)" in state.reason
    assert {200} == {status for status, _, _ in answers.got}
    assert answers.versions() == {"1", str(numbers.version("crashes"))}
    assert {"1"} == {version for _, version, x in answers.got if x >= RARE}
    numbers.check_stopped("crashes", state.reason, "deploying", "canary")


def test_a_candidate_that_holds_on_to_memory_ends_in_its_shadow(numbers: Production) -> None:
    """It loads with little and takes more with each row, until it is killed at the limit, which the reason names."""
    # It meets its limit in the step on every machine, and its latency, where pages are dear, ends nothing before.
    long = {"duration": "1s", "min_requests": 2000}
    patient = {"shadow": long, "steps": [{"traffic": 100}], "analysis": {"max_latency_ratio": 1000}}
    with numbers.traffic() as answers:
        state = watched(numbers.roll_out("hungry", patient), Phase.ABORTED)

    assert f"the scorer was killed at its memory limit of {MEMORY_MB} MB" in state.reason
    assert {(200, "1")} == {(status, version) for status, version, _ in answers.got}
    numbers.check_stopped("hungry", state.reason, "deploying", "shadow")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dies", "the scorer ended while it loaded the model"),
        ("hangs", f"the scorer was not ready within 0:00:{START_SECONDS}"),
    ],
)
def test_a_candidate_that_never_becomes_ready_moves_no_traffic(numbers: Production, name: str, says: str) -> None:
    """Its rollout ends before it begins and says why, nothing of it runs on, and production serves as before."""
    with numbers.traffic() as answers, pytest.raises(DeliveryStopped, match=says) as refused:
        numbers.roll_out(name, SHADOW).start()

    version = numbers.version(name)
    assert numbers.gateway.scorers(f"{NUMBERS}/{version}/") == []
    assert {(200, "1")} == {(status, answered) for status, answered, _ in answers.got}
    numbers.check_stopped(name, f"version {version} cannot be served: {refused.value}", "deploying")
