"""Coverage: which share of a repository's lines its unit tests run, measured by `coverage` of its own lock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from taxiway.stages.lock_file import LOCK
from taxiway.stages.untrusted_files import content, walk_xml
from taxiway.stages.wheel import Packaged

_PINNED = re.compile(r"^coverage(\[[\w,\s-]*\])?\s*==", re.IGNORECASE | re.MULTILINE)
_MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Coverage:
    """How the coverage of one run of tests is measured; the settings are beside the repository, out of its reach.

    What the repository says about coverage (what to leave out, for example) is not read: a commit cannot weaken the
    limit of the model spec.
    """

    packaged: Packaged

    @classmethod
    def of(cls, packaged: Packaged) -> Coverage | None:
        """Return how to measure, None when the lock has no `coverage`."""
        lock = (packaged.path / LOCK).read_text(encoding="utf-8")
        return cls(packaged) if _PINNED.search(lock) else None

    @property
    def report(self) -> Path:
        """Where the report is written, in Cobertura's XML."""
        return self.packaged.path / ".taxiway-coverage.xml"

    def recording(self) -> list[str | Path]:
        """Return the words between python and `-m pytest`; writes the settings."""
        self.settings.write_text(self._text(), encoding="utf-8")
        return ["-m", "coverage", "run", f"--rcfile={self.settings}"]

    def reporting(self) -> list[str | Path]:
        """Return the words after python that write the report."""
        return ["-m", "coverage", "xml", "-q", f"--rcfile={self.settings}", "-o", self.report]

    def share(self) -> float:
        """Return the share of lines that were run, from 0 to 1; raises ValueError when the report cannot be read."""
        root: dict[str, str] = {}
        walk_xml(
            content(self.report, most_bytes=_MOST_BYTES),
            start=lambda _, attributes: None if root else root.update(attributes),
        )
        covered, lines = (int(root.get(f"lines-{name}", "")) for name in ("covered", "valid"))
        if not 0 <= covered <= lines:
            raise ValueError(f"{covered} of {lines} lines is no share")
        return covered / lines if lines else 0.0

    @property
    def settings(self) -> Path:
        """What both commands read."""
        return self.packaged.path.with_name("coverage.ini")

    def _text(self) -> str:
        run = f"[run]\nsource = {self.packaged.code}\ndata_file = {self.packaged.path / '.taxiway-coverage'}\n"
        return f"{run}[report]\ninclude_namespace_packages = true\n"
