"""What the demo has done already, so that it can be stopped at any moment and run again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Journal:
    """Named results of finished chapters in one JSON file; each write replaces the file atomically."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def __contains__(self, chapter: str) -> bool:
        return chapter in self._entries

    def __getitem__(self, chapter: str) -> Any:
        return self._entries[chapter]

    def items(self) -> list[tuple[str, Any]]:
        """Return chapters and results in the order in which they were finished."""
        return list(self._entries.items())

    def finish(self, chapter: str, result: Any) -> Any:
        """Record that a chapter is done; returns its result as JSON will give it back."""
        self._entries[chapter] = json.loads(json.dumps(result))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        with temporary.open("w") as file:
            json.dump(self._entries, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        return self._entries[chapter]
