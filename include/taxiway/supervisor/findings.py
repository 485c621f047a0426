"""What `taxiway doctor` finds: one sentence about what is wrong or weaker, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["wrong", "weaker"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know: `wrong` needs a person, `weaker` works and is worth knowing; `about` says where it is."""

    severity: Severity
    about: str
    what: str
    next_step: str = ""


def wrong(about: str, what: str, next_step: str = "") -> Finding:
    """Return what a person has to put right."""
    return Finding("wrong", about, what, next_step)


def weaker(about: str, what: str, next_step: str = "") -> Finding:
    """Return what works, but less well than it could."""
    return Finding("weaker", about, what, next_step)
