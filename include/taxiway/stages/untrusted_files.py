"""Files and documents that the code of a model repository wrote, read by trusted code."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.parsers import expat

from taxiway.stages.sandbox import is_plain

_MOST_DIGITS = 300
_DEEPEST = 20


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


def walk_xml(
    text: bytes, *, start: Callable[[str, Mapping[str, str]], None], end: Callable[[str], None] = lambda _: None
) -> None:
    """Call `start` (name, attributes) and `end` (name) for each element of the document; no tree of it is made.

    Raises ValueError when it is no XML, is nested deeply, or declares a document type: no entity can expand.
    """
    depth = 0

    def enter(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        start(name, attributes)

    def leave(name: str) -> None:
        nonlocal depth
        depth -= 1
        end(name)

    parser = expat.ParserCreate("utf-8")
    parser.StartDoctypeDeclHandler = _refuse_document_type
    parser.StartElementHandler, parser.EndElementHandler = enter, leave
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from error


def _refuse_document_type(*_: object) -> None:
    raise ValueError("it declares a document type")


def _whole(digits: str) -> float:
    """Return the integer, or an infinity when no float can hold it."""
    return int(digits) if len(digits) < _MOST_DIGITS else math.inf
