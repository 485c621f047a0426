"""Known builds: a push that changes nothing, and a repetition of commit and data, point at the version that exists."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from taxiway.domain.evidence import Verdict
from taxiway.stages.build import Build
from taxiway.stages.candidates import STATE, State
from taxiway.stages.data import snapshot_data
from taxiway.stages.digests import directory_digest
from taxiway.stages.evidence_store import evidence_of
from taxiway.stages.known_builds import BUILD, DATA, RECIPE, build_key, known_candidate, recipe
from tests.fakes import FakeClock, FakeData, FakeRegistry
from tests.unit.model_versions import example_spec

END = datetime(2013, 3, 1, tzinfo=UTC)
SPEC = example_spec()


def flights(end: datetime = END) -> FakeData:
    """Return two months of flights, one an hour, up to `end`."""
    times = pd.date_range(end - timedelta(days=60), end, freq="h", inclusive="left")
    frame = pd.DataFrame(dict.fromkeys(SPEC.data.features, 1.0), index=range(len(times)))
    frame["flight_id"], frame["scheduled_departure"] = [f"f{time:%d%H%m}" for time in times], times
    frame["late"] = [float(number % 3 == 0) for number in range(len(times))]
    return FakeData(frame, timestamp="scheduled_departure", key="flight_id")


def opened(registry: FakeRegistry, name: str, *, sha: str = "1", source: str = "a", reason: str = "commit") -> Build:
    """Open a build of a commit whose files have the given digest."""
    digests = (f"sha256:{source}", "sha256:lock")
    run_id = registry.open_build(SPEC.model, name, {})
    return Build(SPEC.model, name, run_id, sha * 40, "ds@example.com", *digests, reason, "ds@example.com")


@pytest.fixture
def registry() -> FakeRegistry:
    """A registry with version 1, made from commit 1 with files `a` and the data up to END."""
    registry = FakeRegistry()
    build = opened(registry, "first")
    snapshot = snapshot_data(SPEC, build, data=flights(), registry=registry, clock=FakeClock())
    tags = {
        BUILD: build_key(SPEC, build, snapshot.subject["data"]),
        RECIPE: recipe(SPEC, build),
        DATA: snapshot.subject["data"],
        "taxiway.commit": build.sha,
    }
    registry.register(SPEC.model, build.run_id, tags, "the first")
    return registry


def known(registry: FakeRegistry, build: Build, data: FakeData | None = None) -> int | None:
    """Return the version that the build would repeat."""
    found = known_candidate(SPEC, build, data=data or flights(), registry=registry, clock=FakeClock())
    return found.version if found else None


def test_a_push_that_changes_nothing_a_build_reads_delivers_nothing(registry: FakeRegistry) -> None:
    """It points at the newest version although there is new data, closes its run, and says why as evidence."""
    build = opened(registry, "docs", sha="2")

    assert known(registry, build, flights(END + timedelta(days=7))) == 1

    evidence = evidence_of(registry, build.run_id, "known_build")
    assert evidence.verdict is Verdict.PASSED
    assert evidence.reasons == ("nothing to deliver: version 1 (candidate) was made from the same code",)
    assert registry.runs[build.run_id].status == "FINISHED"


def test_new_code_and_going_back_to_old_code_are_news(registry: FakeRegistry) -> None:
    """Other files are built; so are the files of an older version once a newer one has replaced it."""
    newer = opened(registry, "newer", sha="2", source="b")
    assert known(registry, newer) is None
    registry.register(SPEC.model, newer.run_id, {RECIPE: recipe(SPEC, newer)}, "the second")

    assert known(registry, opened(registry, "back", sha="3", source="a")) is None


def test_the_same_commit_and_data_point_at_the_first(registry: FakeRegistry) -> None:
    """Whoever asks again for a build of the same commit gets the version that exists; with new data, a new build."""
    again = opened(registry, "again", reason="manual")
    fresh = opened(registry, "fresh", reason="schedule")

    assert known(registry, again) == 1
    assert known(registry, fresh, flights(END + timedelta(days=7))) is None


@pytest.mark.parametrize("reason", ["commit", "manual", "drift"])
def test_no_build_brings_back_what_was_rolled_back(registry: FakeRegistry, reason: str) -> None:
    """A repeated push, and a retraining on the same data, say that the version was taken out, and deliver nothing."""
    registry.set_tags(SPEC.model, 1, {STATE: State.ROLLED_BACK.value})
    build = opened(registry, "again", reason=reason)

    assert known(registry, build) == 1
    assert "version 1 (rolled_back)" in evidence_of(registry, build.run_id, "known_build").reasons[0]


def test_data_that_cannot_be_taken_is_left_to_its_stage(registry: FakeRegistry) -> None:
    """A snapshot that fails decides nothing here: the stage that takes it has the words for it."""
    build = replace(opened(registry, "again", reason="manual"), data_end="1990-01-01")

    assert known(registry, build) is None


def test_what_the_spec_says_of_the_model_is_part_of_the_recipe() -> None:
    """Other params or features make another recipe; gates and people do not."""
    build = opened(FakeRegistry(), "one")
    other_params = SPEC.model_copy(update={"params": {**SPEC.params, "seed": 1}})
    other_gates = SPEC.model_copy(update={"gates": SPEC.gates.model_copy(update={"confidence": 0.9})})

    assert recipe(SPEC, build) != recipe(other_params, build)
    assert recipe(SPEC, build) != recipe(SPEC, replace(build, lock_digest="sha256:other"))
    assert recipe(SPEC, build) == recipe(other_gates, build)


def test_ignored_files_do_not_count(tmp_path: Path) -> None:
    """Documentation anywhere in the repository leaves the digest of what a build reads as it is; code does not."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text("x = 1\n")
    before = directory_digest(tmp_path, leave_out=SPEC.repository.ignore)

    (tmp_path / "README.md").write_text("# Read me\n")
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "docs" / "deep" / "page.txt").write_text("text")
    (tmp_path / "src" / "notes.md").write_text("notes")
    assert before == directory_digest(tmp_path, leave_out=SPEC.repository.ignore)

    (tmp_path / "src" / "train.py").write_text("x = 2\n")
    assert before != directory_digest(tmp_path, leave_out=SPEC.repository.ignore)
