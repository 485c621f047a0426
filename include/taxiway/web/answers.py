"""A tester's answer as the form and the API take it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from taxiway.domain.uat import SignOff
from taxiway.stages.uat import MAX_COMMENTS, record_sign_off
from taxiway.web.access import Installation


class Answer(BaseModel):
    """Accept or reject, a rating of 1 to 5 (or none), and comments."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accepted: bool
    rating: int | None = Field(None, ge=1, le=5)
    comments: str = Field("", max_length=MAX_COMMENTS)


def sign_off(services: Installation, model: str, version: int, answer: Answer, *, tester: str) -> SignOff:
    """Record the answer of the signed-in tester; raises NotAllowed, NotFoundError or WrongState."""
    given = SignOff(tester, answer.accepted, answer.rating, answer.comments.strip(), services.clock.now())
    return record_sign_off(services.registry, services.spec(model), version, given)
