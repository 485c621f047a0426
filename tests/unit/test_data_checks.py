"""Both windows are checked before anything is trained: what is broken is named, in evidence and in one error."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taxiway.domain.data_quality import judge
from taxiway.domain.data_rules import Kind
from taxiway.errors import DataError
from taxiway.spec import ModelSpec
from taxiway.stages.data_checks import check_data, rules_of
from taxiway.stages.data_figures import kind_of, measure, plain
from tests.fakes import FakeClock, FakeRegistry
from tests.unit.delivered_data import flights, in_holdout, snapshot_of, spec_with

CHECKS = {
    "min_rows": 1000,
    "max_missing": {"distance": 0.1},
    "ranges": {"distance": [0, 6000]},
    "types": {"carrier": "text", "distance": "number"},
    "max_new_categories": {"carrier": 0.01},
    "max_duplicates": 0.01,
    "min_class_share": 0.1,
}
Broken = Callable[[pd.DataFrame], Any]


def broken(values: dict[str, Any], where: Callable[[pd.DataFrame], Any] | None = None) -> Broken:
    """Return what puts these values into rows (all of them, when not told which)."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        rows = where(frame) if where else slice(None)
        for column, value in values.items():
            frame[column] = frame[column].astype(object)
            frame.loc[rows, column] = value
        return frame.infer_objects()

    return change


def copied(frame: pd.DataFrame) -> pd.DataFrame:
    """Deliver the first hundred flights twice, under other keys."""
    again = frame.head(100)
    return pd.concat([frame, again.assign(flight_id="again-" + again["flight_id"])])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda frame: frame.tail(900), "training: 540 rows are fewer than min_rows 1000"),
        (
            broken({"distance": None}, lambda frame: frame.index < 400),
            "training: distance is missing in 400 of 1080 rows (37%), more than 10%",
        ),
        (
            broken({"distance": 9000.0}, lambda frame: frame.index < 3),
            "training: distance is outside 0 to 6000 in 3 of 1080 rows (0.278%): it goes from 500 to 9000",
        ),
        (
            broken({"distance": float("inf")}, lambda frame: frame.index < 1),
            "training: distance is outside 0 to 6000 in 1 of 1080 rows (0.0926%): it goes from 500 to inf",
        ),
        (
            broken({"flight_id": "f10"}, lambda frame: frame.index == 11),
            "training: flight_id is not unique (1 repeated)",
        ),
        (broken({"flight_id": None}, lambda frame: frame.index < 2), "training: flight_id is missing in 2 rows"),
        (
            broken({"flight_id": "f10"}, lambda frame: frame.index == 1100),
            "holdout: flight_id of 1 rows is in training too",
        ),
        (copied, "training: 100 of 1180 rows (8.47%) repeat an earlier one in everything but flight_id, more than 1%"),
        (
            broken({"carrier": "ZZ"}, lambda frame: in_holdout(frame) & (frame.index % 2 == 0)),
            "holdout: carrier has values that training never showed in 168 of 336 rows (50%), more than 1%: "
            "ZZ (168 rows)",
        ),
        (broken({"late": 1.0}, in_holdout), "holdout: the label late has only one value; "
         "holdout: class 0 of late has 0 of 336 rows (0%), less than 10%"),
        (
            broken({"late": 2.0}, lambda frame: frame.index == 5),
            "training: the label late has values other than 0, 1: 2 (1 row)",
        ),
        (broken({"late": "yes"}), "training: late holds text, but a binary task asks for integers; "
         "holdout: late holds text, but a binary task asks for integers"),
        (
            broken({"late": 0.0}, lambda frame: frame.index > 50),
            "training: class 1 of late has 17 of 1080 rows (1.57%), less than 10%; "
            "holdout: the label late has only one value; "
            "holdout: class 1 of late has 0 of 336 rows (0%), less than 10%",
        ),
        (broken({"carrier": 7}), "training: carrier holds integers, but data.checks.types asks for text; "
         "holdout: carrier holds integers, but data.checks.types asks for text"),
        (broken({"distance": "far"}), "training: distance holds text, but data.checks.types asks for numbers; "
         "holdout: distance holds text, but data.checks.types asks for numbers"),
        (
            broken({"distance": None}, in_holdout),
            "holdout: distance has no value at all (only max_missing of 1 allows that)",
        ),
        (lambda frame: frame.assign(distance=pd.Series([[1.0]] * len(frame), index=frame.index)),
         "training: distance holds values of another type or of several, but data.checks.types asks for numbers; "
         "holdout: distance holds values of another type or of several, but data.checks.types asks for numbers"),
    ],
    ids=lambda value: None if callable(value) else value[:50],
)  # fmt: skip
def test_a_broken_input_is_one_line_and_evidence(change: Broken, reason: str, tmp_path: Path) -> None:
    """Each broken dataset stops the build with exactly its own reasons, which the evidence has too."""
    registry, spec = FakeRegistry(), spec_with(checks=CHECKS)
    build = snapshot_of(change(flights()), tmp_path, registry, spec)

    with pytest.raises(DataError) as raised:
        check_data(spec, build, registry=registry, clock=FakeClock())

    assert reason == raised.value.what
    evidence = registry.get_json(build.run_id, "taxiway/check_data.json")
    assert ("failed", reason) == (evidence["verdict"], "; ".join(evidence["reasons"]))


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame,
        lambda frame: frame.assign(scheduled_departure=frame["scheduled_departure"].dt.tz_localize(None)),
        lambda frame: frame.astype({"carrier": "category", "distance": "int32", "late": "Int8"}),
        lambda frame: frame.assign(late=frame["late"].map({0.0: False, 1.0: True})),
        lambda frame: frame.assign(distance=[Decimal("500.25")] * len(frame)),
        broken({"distance": None}, lambda frame: frame.index % 20 == 0),
    ],
    ids=["plain", "no zone", "other types", "booleans", "decimals", "some missing"],
)
def test_good_data_passes_whatever_its_types_are_called(change: Broken, tmp_path: Path) -> None:
    """Data that keeps every rule passes: times without a zone, categories, small integers, decimals, true and false."""
    registry, spec = FakeRegistry(), spec_with(checks=CHECKS)
    build = snapshot_of(change(flights()), tmp_path, registry, spec)

    assert "passed" == check_data(spec, build, registry=registry, clock=FakeClock()).verdict


def test_every_broken_rule_is_named_at_once(tmp_path: Path) -> None:
    """Missing values, values out of range and repeated keys are all reported, not only the first."""
    registry, spec = FakeRegistry(), spec_with()
    frame = flights()
    frame.loc[:400, "distance"] = None
    frame.loc[500:502, "distance"] = 9000.0
    frame.loc[11, "flight_id"] = "f10"
    build = snapshot_of(frame, tmp_path, registry, spec)

    with pytest.raises(DataError) as raised:
        check_data(spec, build, registry=registry, clock=FakeClock())

    for part in ("distance is missing in 401", "outside 0 to 6000 in 3", "flight_id is not unique"):
        assert part in raised.value.what


def test_evidence_has_the_figures_that_people_ask_for(tmp_path: Path) -> None:
    """The evidence has rows, times, schema, missing values, classes, duplicates and new categories of each window."""
    registry, spec = FakeRegistry(), spec_with(checks={**CHECKS, "max_new_categories": {"carrier": 1}})
    frame = flights()
    frame.loc[:107, "distance"] = None
    frame.loc[in_holdout(frame) & (frame.index % 4 == 0), "carrier"] = "ZZ"
    build = snapshot_of(frame, tmp_path, registry, spec)

    figures: Any = check_data(spec, build, registry=registry, clock=FakeClock()).figures

    training, holdout = figures["training"], figures["holdout"]
    assert (1080, "2012-12-31T00:00:00+00:00") == (training["rows"], training["first"])
    assert {"distance": 0.1} == training["missing"]
    assert {"classes": {"0": 720, "1": 360}, "strange": {}} == training["label"]
    assert ("float64", "integer") == (training["schema"]["distance"], training["kinds"]["distance"])
    assert {"carrier": {"ZZ": 84}} == holdout["new_categories"]
    assert (0, 0, 0) == (holdout["duplicates"], holdout["repeated_keys"], holdout["keys_of_training"])
    assert {"judged": 2, "broken": 0} == figures["rules"]["max_duplicates"]


@pytest.mark.parametrize(
    ("task", "labels", "reason"),
    [
        ({"kind": "multiclass", "classes": ["a", "b", "c"]}, ["a", "b", "c"], None),
        ({"kind": "multiclass", "classes": ["a", "b", "c"]}, ["a", "b", "d"], "other than a, b, c: d (360 rows)"),
        ({"kind": "multiclass", "classes": [1, 2, 3]}, [1.0, 2.0, 3.0], None),
        ({"kind": "multiclass", "classes": [1, 2, 3]}, ["1", "2", "3"], "late holds text, but a multiclass task"),
        ({"kind": "multiclass", "classes": ["a", "b", "c"]}, [1, 2, 3], "late holds integers, but a multiclass task"),
        ({"kind": "regression"}, [1.5, -2.0, 1e9], None),
        ({"kind": "regression"}, [1.5, -2.0, float("inf")], "no finite number: inf (360 rows)"),
        ({"kind": "regression"}, [4.0, 4.0, 4.0], "the label late has only one value"),
        ({"kind": "regression"}, [True, False, True], "late holds booleans, but a regression task"),
    ],
)
def test_labels_suit_the_task(task: dict[str, Any], labels: list[Any], reason: str | None, tmp_path: Path) -> None:
    """Classes are those that the task names, numbers are finite, and nobody learns from one value."""
    registry, spec = FakeRegistry(), spec_with(checks={"min_rows": 1}, task=task)
    frame = flights().assign(late=pd.Series(labels * 480))
    build = snapshot_of(frame, tmp_path, registry, spec)

    if reason is None:
        assert "passed" == check_data(spec, build, registry=registry, clock=FakeClock()).verdict
    else:
        with pytest.raises(DataError) as raised:
            check_data(spec, build, registry=registry, clock=FakeClock())
        assert reason in raised.value.what


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], Kind.INTEGER),
        ([1.0, None], Kind.INTEGER),
        ([1.5, None], Kind.NUMBER),
        ([float("inf")], Kind.NUMBER),
        ([Decimal("1.5"), None], Kind.NUMBER),
        ([10**30, 1], Kind.INTEGER),
        (["a", None], Kind.TEXT),
        ([True, None], Kind.BOOLEAN),
        ([date(2013, 1, 1), None], Kind.TIME),
        ([pd.Timestamp("2013-01-01"), pd.NaT], Kind.TIME),
        ([None, None], Kind.NOTHING),
        ([float("nan")], Kind.NOTHING),
        ([], Kind.NOTHING),
        ([1, "a"], Kind.OTHER),
        ([True, "a"], Kind.OTHER),
        ([[1], [2]], Kind.OTHER),
        ([b"a"], Kind.OTHER),
        ([pd.Timedelta("1h")], Kind.OTHER),
        ([1 + 2j], Kind.OTHER),
    ],
)
@pytest.mark.parametrize("stored", ["inferred", "object", "category"])
def test_kinds_are_those_of_the_values(values: list[Any], kind: Kind, stored: str) -> None:
    """What a column holds does not depend on the type it is stored as."""
    if stored == "category" and any(isinstance(value, list) for value in values):
        pytest.skip("lists are no categories")
    column = pd.Series(values, dtype=None if stored == "inferred" else stored)

    assert kind == kind_of(column)


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=2),
    st.decimals(allow_nan=False), st.dates(), st.datetimes(), st.datetimes(timezones=st.timezones()),
    st.timedeltas(),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=1), st.none(), max_size=1), st.just(pd.NA),
    st.just(pd.NaT), st.just(np.float64("nan")), st.just(np.int8(3)),
)  # fmt: skip
COLUMN = st.one_of(
    st.lists(ODD, min_size=4, max_size=4),
    *(st.lists(kind, min_size=4, max_size=4) for kind in (st.booleans(), st.integers(-9, 9), st.floats())),
)
FRAME = st.dictionaries(
    st.sampled_from(["flight_id", "scheduled_departure", "carrier", "distance", "late"]), COLUMN, max_size=5
)


@given(training=FRAME, holdout=FRAME, stored=st.sampled_from([None, object]), empty=st.booleans())
@settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_rows_crash_the_checks(
    training: dict[str, list[Any]], holdout: dict[str, list[Any]], stored: Any, empty: bool
) -> None:
    """Whatever the columns hold, or when they are not there, every rule that can be judged gives words or passes."""
    rules = rules_of(_strict_spec())
    frames = [
        pd.DataFrame({name: pd.Series(of, dtype=stored) for name, of in one.items()}) for one in (training, holdout)
    ]

    figures = measure(rules, plain(frames[0]), plain(frames[1].head(0) if empty else frames[1]))
    findings = judge(rules, *figures)

    assert 10 == sum(finding.rule == "types" for finding in findings)
    assert all(finding.problem is None or finding.problem.isprintable() for finding in findings)


def _strict_spec() -> ModelSpec:
    everything = dict.fromkeys(("carrier", "distance"), 0.0)
    checks = {**CHECKS, "types": {}, "max_missing": everything, "max_new_categories": everything, "max_duplicates": 0}
    return spec_with(checks=checks)
