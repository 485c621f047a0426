"""Approvals bind exactly one release to one environment; the record holds everything behind a promotion."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.domain.release import (
    BuildRecord,
    PromotionRecord,
    approval_statement,
    check_approval,
    record_digest,
    release_record,
)
from taxiway.domain.uat import SignOff
from taxiway.domain.values import Release
from taxiway.errors import IntegrityError

AT = datetime(2013, 7, 2, 12, tzinfo=UTC)
RELEASE = Release(
    model="flight_delays",
    version=3,
    run_id="run",
    digest="sha256:" + "a" * 64,
    lock_digest="sha256:" + "b" * 64,
    key="flight_id",
    timestamp="scheduled_departure",
    approval="",
)
STATEMENT = approval_statement(
    "flight_delays", 3, RELEASE.digest, "production", "dana", AT, lock_digest=RELEASE.lock_digest
)
BUILD = BuildRecord(
    repository="https://git.example.com/flight_delays.git",
    commit="c" * 40,
    author="ana",
    requested_by="ana",
    data_uri="s3://flights",
    data_digest="sha256:" + "d" * 64,
    builder="https://taxiway.example.com",
    invocation="run",
    started_at=AT,
    finished_at=AT,
    params={"seed": 2013},
)
GATE = Evidence("gate", Verdict.PASSED, AT, ("good",), {}, {"checks": []})
PROMOTION = PromotionRecord(
    evidence=[GATE],
    sign_offs=[SignOff("ana", True, 5, "", AT)],
    approval=STATEMENT,
    rollout={"steps": [{"traffic": 100}]},
    promoted_at=AT,
    previous="sha256:" + "e" * 64,
)


def test_an_approval_holds_for_its_release() -> None:
    """The statement approves the very release it names, also after its way through JSON."""
    check_approval(json.loads(json.dumps(STATEMENT)), RELEASE, "production")


@pytest.mark.parametrize(
    "changed",
    [{"model": "other"}, {"version": 4}, {"digest": "sha256:0"}, {"lock_digest": "sha256:0"}],
)
def test_an_approval_binds_model_version_digest_and_lock(changed: dict[str, Any]) -> None:
    """A release that differs in anything that runs is refused, and the error names the difference."""
    with pytest.raises(IntegrityError, match=next(iter(changed))):
        check_approval(STATEMENT, replace(RELEASE, **changed), "production")


def test_an_approval_binds_the_environment() -> None:
    """What may serve in staging may not serve in production."""
    staging = {**STATEMENT, "environment": "staging"}

    check_approval(staging, RELEASE, "staging")
    with pytest.raises(IntegrityError, match="environment 'staging', not 'production'"):
        check_approval(staging, RELEASE, "production")


@pytest.mark.parametrize("name", ["kind", "model", "version", "digest", "lock_digest", "environment"])
def test_an_incomplete_approval_is_refused(name: str) -> None:
    """A statement that leaves out one of the bound fields approves nothing."""
    incomplete = {key: value for key, value in STATEMENT.items() if key != name}

    with pytest.raises(IntegrityError):
        check_approval(incomplete, RELEASE, "production")


def test_another_signed_statement_is_no_approval() -> None:
    """A signed statement of another kind, such as a release record, cannot be used as an approval."""
    with pytest.raises(IntegrityError, match="kind"):
        check_approval({**STATEMENT, "kind": "rejection"}, RELEASE, "production")
    with pytest.raises(IntegrityError, match="kind"):
        check_approval(release_record(RELEASE, BUILD, PROMOTION), RELEASE, "production")


def test_a_version_is_a_number() -> None:
    """The text "3" is not version 3."""
    with pytest.raises(IntegrityError, match="version '3', not 3"):
        check_approval({**STATEMENT, "version": "3"}, RELEASE, "production")


def test_the_record_is_an_in_toto_statement_about_the_model() -> None:
    """Type, subject and predicate are those of in-toto and SLSA, with the model's digest as subject."""
    record: Any = release_record(RELEASE, BUILD, PROMOTION)

    assert record["_type"] == "https://in-toto.io/Statement/v1"
    assert record["subject"] == [{"name": "flight_delays/3", "digest": {"sha256": "a" * 64}}]
    assert record["predicateType"] == "https://slsa.dev/provenance/v1"
    assert record["predicate"].keys() == {"buildDefinition", "runDetails", "taxiway_release"}


def test_the_record_says_how_the_model_was_made() -> None:
    """Commit, author, data snapshot, lock, parameters, builder and run are in SLSA's places."""
    predicate: Any = release_record(RELEASE, BUILD, PROMOTION)["predicate"]
    definition = predicate["buildDefinition"]

    assert definition["externalParameters"] == {"repository": BUILD.repository, "commit": "c" * 40, "author": "ana"}
    assert definition["internalParameters"] == {"requestedBy": "ana", "params": {"seed": 2013}}
    assert {each["name"]: each["digest"] for each in definition["resolvedDependencies"]} == {
        "source": {"gitCommit": "c" * 40},
        "data": {"sha256": "d" * 64},
        "lock": {"sha256": "b" * 64},
    }
    assert predicate["runDetails"]["builder"] == {"id": BUILD.builder}
    assert predicate["runDetails"]["metadata"]["invocationId"] == "run"


def test_the_record_says_why_the_model_serves() -> None:
    """Gate figures, sign-offs, approval, rollout and the record before are in the extension field."""
    predicate: Any = release_record(RELEASE, BUILD, PROMOTION)["predicate"]
    release = predicate["taxiway_release"]

    assert release["evidence"] == [GATE.to_json()]
    assert release["signOffs"][0]["tester"] == "ana"
    assert release["approval"]["approved_by"] == "dana"
    assert release["rollout"] == {"steps": [{"traffic": 100}]}
    assert release["previous"] == "sha256:" + "e" * 64


def test_the_record_is_json_and_the_same_for_the_same_facts() -> None:
    """Nothing but what is handed in gets into the record."""
    first = json.dumps(release_record(RELEASE, BUILD, PROMOTION), allow_nan=False)

    assert json.dumps(release_record(RELEASE, BUILD, PROMOTION), allow_nan=False) == first


def test_records_are_chained_by_the_digest_of_their_text() -> None:
    """The digest of a record is the SHA-256 of its signed text."""
    assert record_digest("abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
