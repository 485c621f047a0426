"""The signed records of promotions: one for each, chained, whatever came between them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.errors import NotifierUnavailable
from taxiway.stages.evidence_store import evidence_of, record
from taxiway.stages.release import RECORD, STAGES, record_release
from taxiway.stages.rollback import Order
from tests.unit.model_versions import MODEL, Field


@pytest.fixture
def field(keys: tuple[Path, Path]) -> Field:
    """An installation without any model yet."""
    return Field(keys)


def deliver(field: Field, name: str) -> int:
    """Deliver a version with all the evidence that belongs into its record."""
    version = field.deliver(name).version
    candidate = field.registry.candidate(MODEL, version)
    figures: dict[str, Any] = {"approved_by": "dana", "history": []}
    for stage in STAGES:
        record(field.registry, candidate.run_id, Evidence(stage, Verdict.PASSED, field.clock.now(), (), {}, figures))
    field.registry.set_tags(MODEL, version, {"taxiway.data": "sha256:aa"})
    field.clock.advance(timedelta(days=1))
    return version


def write(field: Field, version: int) -> str:
    """Write the record of a version and return its digest."""
    ports: dict[str, Any] = {"registry": field.registry, "signer": field.signer, "clock": field.clock}
    done = record_release(field.spec, version, notifier=field.notifier, **ports)
    return str(done.subject["record"])


def previous_of(field: Field, version: int, directory: Path) -> Any:
    """Return which record the signed record of a version names as the one before."""
    signed = directory / "record.json"
    field.registry.get_file(field.registry.candidate(MODEL, version).run_id, RECORD, signed)
    statement: dict[str, Any] = field.verifier.verify_statement(signed.read_text())
    return statement["predicate"]["taxiway_release"]["previous"]


def test_every_record_names_the_one_before_it(field: Field, tmp_path: Path) -> None:
    """The chain has no fork and no gap, though a version was rolled back: its record is the last one all the same."""
    digests: list[str | None] = [None]
    for name in ("first", "second", "third"):
        digests.append(write(field, deliver(field, name)))
    field.rollbacks.roll_back(Order("dana", "wrong answers"))
    digests.append(write(field, deliver(field, "fourth")))

    assert digests[:4] == [previous_of(field, version, tmp_path) for version in (1, 2, 3, 4)]


def test_a_promotion_without_a_record_stops_no_later_one(field: Field, tmp_path: Path) -> None:
    """Its task may have failed for good: the next record names the last one that there is."""
    first = write(field, deliver(field, "first"))
    deliver(field, "second")
    write(field, deliver(field, "third"))

    assert first == previous_of(field, 3, tmp_path)


def test_a_record_stays_when_it_is_written_again(field: Field, tmp_path: Path) -> None:
    """Owners who could not be told are told by the next try, even after later promotions; the record is the same."""
    write(field, deliver(field, "first"))
    second = deliver(field, "second")
    field.notifier.failing = True
    with pytest.raises(NotifierUnavailable):
        write(field, second)
    field.notifier.failing = False
    kept = evidence_of(field.registry, field.registry.candidate(MODEL, second).run_id, "release")
    write(field, deliver(field, "third"))

    assert kept.subject["record"] == write(field, second)
    assert f"{MODEL} version 2 is in production" == field.notifier.sent[-1].title
    assert kept.subject["record"] == previous_of(field, 3, tmp_path)
