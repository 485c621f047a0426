"""User acceptance testing: testers answer, a quorum decides.

Any rejection blocks; without one, `quorum` acceptances pass; at the deadline nothing is decided and a person has to.
The decision is a function of the answers as they stand, so a tester may change an answer until it is acted on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taxiway.domain.evidence import Json, Verdict
from taxiway.errors import PermanentError


@dataclass(frozen=True, slots=True)
class SignOff:
    """One tester's answer: accepted or not, a rating of 1 to 5 (or none), comments, and when (timezone-aware).

    `saw` is the digest of the model whose answers the tester looked at.
    """

    tester: str
    accepted: bool
    rating: int | None
    comments: str
    at: datetime
    saw: str = ""

    def __post_init__(self) -> None:
        """Raise PermanentError for a rating that does not exist, or a time without its zone."""
        if self.rating is not None and self.rating not in range(1, 6):
            raise PermanentError(f"a rating is 1 to 5, not {self.rating}", where=f"sign-off of {self.tester}")
        if self.at.tzinfo is None:
            raise PermanentError("the time of a sign-off needs a timezone", where=f"sign-off of {self.tester}")

    def to_json(self) -> dict[str, Json]:
        """Return the JSON object that is stored with the candidate."""
        return {
            "tester": self.tester,
            "accepted": self.accepted,
            "rating": self.rating,
            "comments": self.comments,
            "at": self.at.isoformat(),
            "saw": self.saw,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SignOff:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError on anything else."""
        return cls(**{**document, "at": datetime.fromisoformat(document["at"])})


@dataclass(frozen=True, slots=True)
class UatDecision:
    """Where UAT stands: `verdict` is None while answers are awaited.

    Names are in the order of the spec; `ignored` are people who answered without being testers.
    """

    verdict: Verdict | None
    reason: str
    accepted: tuple[str, ...]
    rejected: tuple[str, ...]
    missing: tuple[str, ...]
    ignored: tuple[str, ...] = ()


def decide(sign_offs: Iterable[SignOff], *, testers: Sequence[str], quorum: int, deadline_passed: bool) -> UatDecision:
    """Decide from the latest answer of each tester; answers of other people are reported and do not count."""
    latest = {answer.tester: answer for answer in sorted(sign_offs, key=lambda answer: answer.at)}
    accepted = tuple(name for name in testers if name in latest and latest[name].accepted)
    rejected = tuple(name for name in testers if name in latest and not latest[name].accepted)
    missing = tuple(name for name in testers if name not in latest)
    verdict: Verdict | None = None
    if rejected:
        verdict, reason = Verdict.FAILED, "; ".join(_rejection(latest[name]) for name in rejected)
    elif len(accepted) >= quorum:
        verdict, reason = Verdict.PASSED, f"{_names(accepted)} accepted; {quorum} of {len(testers)} were needed"
    elif deadline_passed:
        verdict = Verdict.INCONCLUSIVE
        reason = f"{len(accepted)} of {quorum} needed testers accepted in time; no answer from {_names(missing)}"
    else:
        reason = f"waiting for {quorum - len(accepted)} more of {_names(missing)}"
    ignored = tuple(sorted(latest.keys() - set(testers)))
    if ignored:
        reason += f" (not counted, because not named as testers: {_names(ignored)})"
    return UatDecision(verdict, reason, accepted, rejected, missing, ignored)


def _rejection(answer: SignOff) -> str:
    return f"{answer.tester} rejected" + (f": {answer.comments}" if answer.comments else "")


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "nobody"
