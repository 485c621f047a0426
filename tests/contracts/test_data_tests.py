"""The data tests port: the fake and Evidently count the same."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from taxiway.adapters.evidently_data_tests import EvidentlyDataTests
from taxiway.domain.data_rules import Rule
from taxiway.domain.evidence import Verdict
from taxiway.domain.second_opinion import DataTest, TestResult
from taxiway.errors import DataError, TransientError
from taxiway.ports import DataTests
from taxiway.stages.sandbox import CommandLimits
from tests.fakes_reports import FakeDataTests

pytestmark = pytest.mark.timeout(300)  # Evidently alone takes some seconds to import


@pytest.fixture(params=["fake", "evidently"])
def data_tests(request: pytest.FixtureRequest) -> DataTests:
    return FakeDataTests() if request.param == "fake" else EvidentlyDataTests()


def rows(*carriers: str) -> pd.DataFrame:
    """Return 400 rows of every plain type; some values are missing, `nothing` has no other."""
    number = np.arange(400)
    return pd.DataFrame(
        {
            "at": pd.date_range("2013-01-01", periods=400, freq="h", tz="UTC"),
            "temp": number.astype("float64"),
            "wind": np.where(number % 4 == 0, np.nan, 5.5),
            "hour": number % 24.0,
            "carrier": np.array(carriers, dtype=object)[number % len(carriers)],
            "night": [None if of % 10 == 0 else of % 2 == 0 for of in number],
            "nothing": [None] * 400,
            "late": number % 5 // 4,
            "bad": number % 5 == 4,
            "class": np.array(["a", "b", "c", "1"], dtype=object)[number % 4],
        }
    )


def windows() -> dict[str, pd.DataFrame]:
    """Return two windows; the holdout repeats five rows and has a new carrier."""
    holdout = rows("AA", "1", "new")
    return {"training": rows("AA", "1"), "holdout": pd.concat([holdout, holdout.head(5)], ignore_index=True)}


PASSED, FAILED = Verdict.PASSED, Verdict.FAILED
HOURS = tuple(range(24))
CASES = [
    (DataTest(Rule.MIN_ROWS, "training", at_least=400), PASSED, 400),
    (DataTest(Rule.MIN_ROWS, "training", at_least=401), FAILED, 400),
    (DataTest(Rule.MAX_MISSING, "training", "wind", at_most=100), PASSED, 100),
    (DataTest(Rule.MAX_MISSING, "holdout", "wind", at_most=101.9), FAILED, 102),
    (DataTest(Rule.MAX_MISSING, "holdout", "night", at_most=41), PASSED, 41),
    (DataTest(Rule.MAX_MISSING, "holdout", "carrier", at_most=0), PASSED, 0),
    (DataTest(Rule.MAX_MISSING, "holdout", "nothing", at_most=405), PASSED, 405),
    (DataTest(Rule.RANGES, "training", "temp", at_most=0, between=(0, 399)), PASSED, 0),
    (DataTest(Rule.RANGES, "holdout", "temp", at_most=0, between=(0, 396.5)), FAILED, 3),
    (DataTest(Rule.RANGES, "holdout", "wind", at_most=0, between=(-50, 50)), PASSED, 0),
    (DataTest(Rule.MAX_NEW_CATEGORIES, "holdout", "carrier", at_most=134, known=("1", "AA")), PASSED, 134),
    (DataTest(Rule.MAX_NEW_CATEGORIES, "holdout", "class", at_most=100, known=("a", "b", "c")), FAILED, 101),
    (DataTest(Rule.MAX_NEW_CATEGORIES, "holdout", "hour", at_most=0, known=HOURS), PASSED, 0),
    (DataTest(Rule.MAX_NEW_CATEGORIES, "holdout", "hour", at_most=0, known=HOURS[1:]), FAILED, 18),
    (DataTest(Rule.MAX_DUPLICATES, "training", at_most=0), PASSED, 0),
    (DataTest(Rule.MAX_DUPLICATES, "holdout", at_most=4), FAILED, 5),
    (DataTest(Rule.MIN_CLASS_SHARE, "holdout", "late", at_least=81, label=1), PASSED, 81),
    (DataTest(Rule.MIN_CLASS_SHARE, "holdout", "late", at_least=325, label=0), FAILED, 324),
    (DataTest(Rule.MIN_CLASS_SHARE, "holdout", "bad", at_least=81, label=True), PASSED, 81),
    (DataTest(Rule.MIN_CLASS_SHARE, "training", "class", at_least=100, label="1"), PASSED, 100),
    (DataTest(Rule.MIN_CLASS_SHARE, "training", "class", at_least=1, label="d"), FAILED, 0),
]


def test_counts_are_exact_and_limits_hold(data_tests: DataTests, tmp_path: Path) -> None:
    """Every rule is counted on all rows, holds at its limit, and has its answer in the order of the questions."""
    results = data_tests.run(windows(), [test for test, _, _ in CASES], tmp_path)

    told = list(zip((test for test, _, _ in CASES), results, strict=True))
    assert told == [(test, TestResult(verdict, counted)) for test, verdict, counted in CASES]
    for name in ("training", "holdout"):
        assert "<html" in (tmp_path / f"{name}.html").read_text(encoding="utf-8")


def test_a_window_without_tests_has_no_page(data_tests: DataTests, tmp_path: Path) -> None:
    """What nobody asked about is not shown."""
    assert data_tests.run(windows(), [DataTest(Rule.MIN_ROWS, "training", at_least=1)], tmp_path) == [
        TestResult(PASSED, 400)
    ]
    assert [page.name for page in tmp_path.iterdir()] == ["training.html"]


def test_evidently_tells_why_it_cannot_test(tmp_path: Path) -> None:
    """A column that is not there ends in Evidently's own last words, in an error that is not tried again."""
    with pytest.raises(DataError, match="Evidently cannot") as failure:
        EvidentlyDataTests().run(windows(), [DataTest(Rule.MAX_MISSING, "holdout", "rain", at_most=1)], tmp_path)

    assert "rain" in failure.value.what


def test_a_limit_is_trouble_of_the_machine(tmp_path: Path) -> None:
    """A run that was stopped by its wall time may work another time."""
    limits = CommandLimits(wall=timedelta(milliseconds=50), memory_mb=8192, log_kb=16)

    with pytest.raises(TransientError, match="wall time"):
        EvidentlyDataTests(limits).run(windows(), [DataTest(Rule.MIN_ROWS, "training", at_least=1)], tmp_path)
