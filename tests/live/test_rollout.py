"""A version takes over production step by step under traffic; a bad one is taken out by itself; nobody notices."""

from __future__ import annotations

from taxiway.stages.evidence_store import evidence_of
from tests.live.conftest import wait_for
from tests.live.ramp_setup import FATAL_FROM, MODEL, Ramp


def test_a_good_version_takes_over_step_by_step(ramp: Ramp) -> None:
    """It answers copies, then a share, then everything; the evidence has the figures; no request fails."""
    version = ramp.build("good")
    with ramp.traffic() as traffic:
        ramp.let_into_production(version)
        finished = ramp.run("delivery", f"candidate-{version}")
        wait_for(lambda: traffic.answers()[200, str(version)] > 100, "the new version to answer")

    assert finished["state"] == "success", finished
    assert {200} == {status for status, _ in traffic.answers()}
    assert ramp.champion() == version
    registry = ramp.installation.services.registry
    rollout = evidence_of(registry, registry.candidate(MODEL, version).run_id, "rollout")
    phases = [entry["phase"] for entry in rollout.figures["history"]]
    assert phases == ["deploying", "shadow", "canary", "promoting", "promoted"]


def test_a_version_that_fails_on_rare_rows_is_taken_out_by_itself(ramp: Ramp) -> None:
    """Four percent of the rows make it fail: its shadow shows that, and callers never do."""
    before = ramp.champion()
    version = ramp.build("fails-on-rare-rows")
    with ramp.traffic() as traffic:
        ramp.let_into_production(version)
        finished = ramp.run("delivery", f"candidate-{version}")

    assert (finished["state"], finished["tasks"]["rollout.shadow"]) == ("failed", "failed"), finished
    assert {(200, str(before))} == set(traffic.answers())
    assert ramp.champion() == before
    assert "requests failed; the policy allows 1.00%" in ramp.log("delivery", f"candidate-{version}", "rollout.shadow")
    status = ramp.installation.services.target("production").status(MODEL)
    assert version not in {item.version for item in status.versions}
    tags = ramp.installation.services.registry.candidate(MODEL, version).tags
    assert tags["taxiway.state"] == "rejected"
    assert "requests failed; the policy allows 1.00%" in tags["taxiway.reason"]


def test_a_newer_version_supersedes_one_that_waits_for_approval(ramp: Ramp) -> None:
    """The older delivery ends by itself and says which version took its place; a late yes changes nothing."""
    older = ramp.build("outdated")
    run_id = f"candidate-{older}"
    ramp.sign_off(older)
    ramp.asks(run_id, "ask_for_approval")
    newer = ramp.build("shifted")
    finished = ramp.run("delivery", run_id)

    assert (finished["state"], finished["tasks"]["ask_for_approval"]) == ("failed", "failed"), finished
    reason = f"version {newer} is on its way"
    registry = ramp.installation.services.registry
    tags = registry.candidate(MODEL, older).tags
    assert (tags["taxiway.state"], tags["taxiway.reason"]) == ("superseded", reason)
    assert f"superseded: {reason}" in ramp.log("delivery", run_id, "ask_for_approval")
    dana = ramp.installation.airflow("dana")
    assert run_id not in {question["task_instance"]["dag_run_id"] for question in dana.pending_approvals()}
    dana.approve(f"{MODEL}.delivery", run_id, "ask_for_approval", "Approve", {"comment": "too late"})
    assert ramp.run("delivery", run_id) == finished
    assert registry.candidate(MODEL, older).tags == tags


def test_a_shifted_version_waits_for_a_person(ramp: Ramp) -> None:
    """Much higher predictions move nothing by themselves; the release manager stops them in Airflow."""
    before = ramp.champion()
    version = ramp.build("shifted")
    run_id = f"candidate-{version}"
    with ramp.traffic() as traffic:
        ramp.let_into_production(version)
        ramp.decide(run_id, "rollout.decide_shadow", "Reject")
        finished = ramp.run("delivery", run_id)

    assert finished["state"] == "failed", finished
    assert {(200, str(before))} == set(traffic.answers())
    assert ramp.champion() == before


def test_a_version_that_waits_for_a_person_is_taken_out_when_it_begins_to_fail(ramp: Ramp) -> None:
    """Sure harm aborts while the release manager is asked: nobody answers, and the question ends with the reason."""
    before = ramp.champion()
    version = ramp.build("shifted-and-fatal")
    run_id = f"candidate-{version}"
    with ramp.traffic():
        ramp.let_into_production(version)
        ramp.asks(run_id, "rollout.decide_shadow")
    with ramp.traffic(FATAL_FROM) as traffic:
        finished = ramp.run("delivery", run_id)

    assert (finished["state"], finished["tasks"]["rollout.decide_shadow"]) == ("failed", "failed"), finished
    assert {(200, str(before))} == set(traffic.answers())
    assert ramp.champion() == before
    reason = "requests failed; the policy allows 1.00%"
    assert reason in ramp.log("delivery", run_id, "rollout.decide_shadow")
    tags = ramp.installation.services.registry.candidate(MODEL, version).tags
    assert tags["taxiway.state"] == "rejected"
    assert reason in tags["taxiway.reason"]
    status = ramp.installation.services.target("production").status(MODEL)
    assert version not in {item.version for item in status.versions}
