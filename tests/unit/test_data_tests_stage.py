"""The second opinion: its pages and its evidence are stored, it stops what is broken, and its troubles stop nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taxiway.adapters.evidently_data_tests import EvidentlyDataTests
from taxiway.domain.data_rules import Rule
from taxiway.domain.evidence import Evidence, Verdict
from taxiway.errors import DataError, TransientError
from taxiway.ports import DataTests
from taxiway.stages.data_checks import check_data
from taxiway.stages.data_tests import report_data
from tests.fakes import FakeClock, FakeRegistry
from tests.fakes_reports import FakeDataTests
from tests.unit.delivered_data import flights, in_holdout, snapshot_of, spec_with

SPEC = spec_with(
    checks={
        "min_rows": 1000,
        "max_missing": {"distance": 0.1},
        "ranges": {"distance": [0, 6000]},
        "max_new_categories": {"carrier": 0.01},
        "max_duplicates": 0.01,
        "min_class_share": 0.1,
    }
)


class Asked:
    """A build with a snapshot, whose data tests were run."""

    def __init__(self, frame: pd.DataFrame, directory: Path) -> None:
        self.registry = FakeRegistry()
        self.build = snapshot_of(frame, directory, self.registry, SPEC)

    def run(self, data_tests: DataTests) -> Evidence:
        """Run the stage."""
        return report_data(SPEC, self.build, registry=self.registry, data_tests=data_tests, clock=FakeClock())

    @property
    def evidence(self) -> Any:
        """Return the evidence that was stored."""
        return self.registry.get_json(self.build.run_id, "taxiway/data_tests.json")


def broken() -> pd.DataFrame:
    """Return flights that break a rule of each kind, and have a column of the wrong type for none."""
    frame = flights()
    frame.loc[:2, "distance"] = 9000.0
    frame.loc[200:600, "distance"] = None
    frame.loc[in_holdout(frame) & (frame.index % 2 == 0), "carrier"] = "ZZ"
    again = frame.iloc[50:100]
    return pd.concat([frame, again.assign(flight_id="again-" + again["flight_id"])])


def test_good_data_passes_with_pages(tmp_path: Path) -> None:
    """Every rule about values was tested on both windows, and the pages are with the build."""
    asked = Asked(flights(), tmp_path)

    evidence = asked.run(FakeDataTests())

    assert evidence.verdict == Verdict.PASSED
    assert evidence.to_json() == asked.evidence
    assert len(asked.evidence["figures"]["tests"]) == 12
    assert asked.registry.list_files(asked.build.run_id, "taxiway/data_tests") == [
        "taxiway/data_tests/holdout.html",
        "taxiway/data_tests/training.html",
    ]


@pytest.mark.parametrize("data_tests", [FakeDataTests(), EvidentlyDataTests()], ids=["fake", "evidently"])
def test_both_opinions_agree_on_broken_data(data_tests: DataTests, tmp_path: Path) -> None:
    """What the checks refuse the tests refuse too, with the same counts, after the evidence was stored."""
    asked = Asked(broken(), tmp_path)
    with pytest.raises(DataError) as checked:
        check_data(SPEC, asked.build, registry=asked.registry, clock=FakeClock())

    with pytest.raises(DataError) as tested:
        asked.run(data_tests)

    reasons = [reason.partition(" (the second opinion counts")[0] for reason in asked.evidence["reasons"]]
    assert checked.value.what == "; ".join(reasons)
    assert tested.value.what == "; ".join(asked.evidence["reasons"])
    assert (asked.evidence["verdict"], asked.evidence["figures"]["disagreements"]) == ("failed", [])
    assert len(reasons) == 4


def test_a_second_opinion_that_differs_stops_the_build(tmp_path: Path) -> None:
    """A failed test stops the build where our own check holds, and is told as a disagreement."""
    asked, data_tests = Asked(flights(), tmp_path), FakeDataTests()
    data_tests.wrong = {Rule.RANGES}

    with pytest.raises(DataError, match="training: ranges of distance does not hold, but by our own count it does"):
        asked.run(data_tests)

    told = asked.evidence["figures"]["disagreements"]
    assert told == ["training: ranges of distance", "holdout: ranges of distance"]


def test_a_second_opinion_that_sees_nothing_wrong_is_doubt(tmp_path: Path) -> None:
    """Where our own check fails and the test passes, this stage stops nothing: the check does."""
    asked, data_tests = Asked(flights().assign(distance=9000.0), tmp_path), FakeDataTests()
    data_tests.wrong = {Rule.RANGES}

    evidence = asked.run(data_tests)

    assert evidence.verdict == Verdict.INCONCLUSIVE
    assert evidence.reasons[0].endswith("holds (the second opinion counts 1080), but by our own count it does not")
    assert asked.evidence["figures"]["disagreements"] == [
        "training: ranges of distance",
        "holdout: ranges of distance",
    ]


@pytest.mark.parametrize("trouble", [DataError("no such column"), TransientError("stopped by its wall time")])
def test_trouble_of_the_tool_stops_nobody(trouble: DataError | TransientError, tmp_path: Path) -> None:
    """Without a second opinion the evidence is inconclusive and says why; the checks of our own stand."""
    asked, data_tests = Asked(flights(), tmp_path), FakeDataTests()
    data_tests.trouble = trouble

    evidence = asked.run(data_tests)

    assert (evidence.verdict, evidence.reasons) == (
        Verdict.INCONCLUSIVE,
        (f"there is no second opinion: {trouble.what}",),
    )
    assert asked.registry.list_files(asked.build.run_id, "taxiway/data_tests") == []


def test_a_test_that_could_not_be_run_is_doubt(tmp_path: Path) -> None:
    """One test without an answer leaves the others standing."""
    asked, data_tests = Asked(flights(), tmp_path), FakeDataTests()
    data_tests.unable = {Rule.MAX_DUPLICATES}

    evidence = asked.run(data_tests)

    assert evidence.verdict == Verdict.INCONCLUSIVE
    assert evidence.reasons == (
        "training: max_duplicates could not be tested",
        "holdout: max_duplicates could not be tested",
    )


def test_columns_of_the_wrong_type_are_not_tested(tmp_path: Path) -> None:
    """Text where numbers belong, lists and mixed types are for the checks; everything else is still tested."""
    frame = flights()
    frame["distance"] = "far"
    asked = Asked(frame.assign(carrier=pd.Series([["AA"]] * len(frame))), tmp_path)

    evidence = asked.run(EvidentlyDataTests())

    tested = {test["test"] for test in asked.evidence["figures"]["tests"]}
    assert evidence.verdict == Verdict.PASSED
    assert tested == {
        "min_rows",
        "max_duplicates",
        "min_class_share of late (class 0)",
        "min_class_share of late (class 1)",
    }
