"""User acceptance testing: a sensor that waits for the testers' quorum without holding a worker slot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from taxiway.bootstrap import services
from taxiway.orchestration.looking import LookSensor, Seen, decided


def look(model: str, version: int, deadline: str) -> Seen | None:
    """Return the testers' decision as evidence, or None while their answers are awaited; raises as the stage does."""
    from taxiway.stages.deliver import Delivery

    s = services()
    delivery = Delivery(s.spec(model), version, s.registry, s.clock, s.orders)
    evidence = delivery.conclude_uat(deadline_passed=s.clock.now() >= datetime.fromisoformat(deadline))
    return None if evidence is None else decided(evidence.to_json())


class SignOffSensor(LookSensor):
    """Wait until the testers' quorum has signed off the version, a tester rejects it, or the time is over."""

    def __init__(self, *, model: str, version: str | int, timeout: timedelta, **kwargs: Any) -> None:
        super().__init__(look=f"{__name__}.look", arguments={"model": model, "version": version}, **kwargs)
        self.timeout = timeout

    def looking_for(self) -> dict[str, Any]:
        """Return the arguments of the look, with the deadline that begins now."""
        return {**super().looking_for(), "deadline": (datetime.now(UTC) + self.timeout).isoformat()}
