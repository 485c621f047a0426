"""What is committed holds on every machine."""

from __future__ import annotations

import re

import pytest

from tests.architecture.sources import place, project_files

FORBIDDEN = {
    "a package registry's host": re.compile(r"pypi[.](org|python)|python[h]osted|conda[.]anaconda|registry[.]npmjs"),
    "a path of one machine": re.compile(r"(?<![\w.<}~-])/(work|root)/\w"),
}
BINARY = {".gif", ".ico", ".jpg", ".parquet", ".png"}
LARGEST_KB = 500


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_depends_on_where_it_was_written(what: str) -> None:
    """No committed file names a package registry's host, or a path that exists on one machine only."""
    found = [
        f"{place(path)}:{number}"
        for path in project_files()
        if path.suffix not in BINARY
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if FORBIDDEN[what].search(line)
    ]

    assert found == []


def test_files_are_small() -> None:
    """Only the lock may be large: data is made by the demo, never committed."""
    large = [place(path) for path in project_files() if path.stat().st_size > LARGEST_KB * 1024]

    assert [file for file in large if not file.endswith("requirements.txt")] == []
