"""Verdicts and evidence: what was checked, on what, the figures, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"


class Verdict(StrEnum):
    """What a check concludes."""

    PASSED = "passed"
    """The thing is good enough."""
    INCONCLUSIVE = "inconclusive"
    """The figures do not decide: a person does."""
    ERROR = "error"
    """It could not be measured: try again."""
    FAILED = "failed"
    """The thing is bad."""


_ORDER = (Verdict.PASSED, Verdict.INCONCLUSIVE, Verdict.ERROR, Verdict.FAILED)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst verdict (passed < inconclusive < error < failed); passed when there is none."""
    return max(verdicts, key=_ORDER.index, default=Verdict.PASSED)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One stage's statement: what it checked, on what, the figures, the verdict and its reasons."""

    stage: str
    verdict: Verdict
    at: datetime
    reasons: tuple[str, ...] = ()
    subject: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """Return the JSON document that is stored with the candidate."""
        return {
            "stage": self.stage,
            "verdict": self.verdict.value,
            "at": self.at.isoformat(),
            "reasons": list(self.reasons),
            "subject": dict(self.subject),
            "figures": dict(self.figures),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Evidence:
        """Read the document that `to_json` wrote; raises KeyError or ValueError on anything else."""
        return cls(
            stage=document["stage"],
            verdict=Verdict(document["verdict"]),
            at=datetime.fromisoformat(document["at"]),
            reasons=tuple(document["reasons"]),
            subject=document["subject"],
            figures=document["figures"],
        )
