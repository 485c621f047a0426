"""JUnit XML, as pytest writes it and as hostile tests do."""

from __future__ import annotations

import tracemalloc

import pytest

from taxiway.stages.junit import TestResult, counts, read

PYTEST = b"""<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="1"
failures="1" skipped="1" tests="4" time="0.04" timestamp="2026-01-01T00:00:00"><testcase classname="tests.test_a"
name="test_one[&lt;x&gt;]" time="0.0012" /><testcase classname="tests.test_a" name="test_two" time="0.5"><failure
message="assert 1 == 2">def test_two(): ...</failure></testcase><testcase classname="tests.test_a" name="test_three"
time="0"><skipped type="pytest.skip" message="later">x.py:3: later</skipped></testcase><testcase classname=""
name="tests.test_b" time="0.000"><error message="collection failure">ImportError</error></testcase></testsuite>
</testsuites>"""


def test_each_test_has_name_outcome_and_seconds() -> None:
    """What pytest writes is read as it was meant."""
    found = read(PYTEST)

    assert found == [
        TestResult("tests.test_a::test_one[<x>]", "passed", 0.001),
        TestResult("tests.test_a::test_two", "failed", 0.5),
        TestResult("tests.test_a::test_three", "skipped", 0.0),
        TestResult("tests.test_b", "error", 0.0),
    ]
    assert counts(found) == {"tests": 4, "passed": 1, "failed": 1, "error": 1, "skipped": 1}


def test_an_error_outweighs_a_skip() -> None:
    """A test that was skipped and then broke in its teardown did not go well."""
    assert read(b"<a><testcase><skipped/><error/></testcase></a>")[0].outcome == "error"
    assert read(b"<a><testcase><failure/><skipped/></testcase></a>")[0].outcome == "failed"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"no XML",
        b"<a><testcase></a>",
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b'<!DOCTYPE a [<!ENTITY x "y">]><a><testcase name="&x;"/></a>',
        b'<a><testcase name="&x;"/></a>',
        b"<a>" * 100 + b"</a>" * 100,
        b'<a><testcase time="soon"/></a>',
        b'<a><testcase time="inf"/></a>',
        "<!DOCTYPE a [<!ENTITY x 'y'>]><a/>".encode("utf-16"),
        b'<?xml version="1.0" encoding="utf-7"?><a>+ADw-</a><',
    ],
)
def test_what_is_no_report_is_refused(document: bytes) -> None:
    """Broken, declaring entities, or in another encoding: a ValueError, and nothing else."""
    with pytest.raises(ValueError):  # noqa: PT011 (each says something else)
        read(document)


def test_a_document_takes_no_memory() -> None:
    """Elements that are no tests are forgotten as they come."""
    document = b"<a>" + b"<b/>" * 500_000 + b"</a>"
    tracemalloc.start()
    try:
        assert read(document) == []
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_long_names_are_cut() -> None:
    """A name has no bound of its own, the evidence has."""
    assert len(read(b'<a><testcase name="' + b"x" * 10_000 + b'"/></a>')[0].name) == 300
