"""Files and documents that the code of a model repository wrote, read by trusted code."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from taxiway.stages.sandbox import is_plain

_MOST_DIGITS = 300


def content(path: Path, *, most_bytes: int) -> bytes:
    """Return what is in the file; raises ValueError, which says why, when it is missing, no plain file or too large.

    Nothing of the command may run any more: it could exchange the file while it is read.
    """
    if not is_plain(path) or not path.is_file():
        raise ValueError(f"there is no file {path.name}")
    if path.stat().st_size > most_bytes:
        raise ValueError(f"{path.name} is larger than {most_bytes / 1e6:.0f} MB")
    return path.read_bytes()


def document(text: bytes) -> Any:
    """Return the JSON document, with null for NaN and infinities; raises ValueError, however hostile the text is."""
    try:
        return json.loads(text, parse_constant=lambda _: None, parse_int=_whole)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _whole(digits: str) -> float:
    """Return the integer, or an infinity when no float can hold it."""
    return int(digits) if len(digits) < _MOST_DIGITS else math.inf
