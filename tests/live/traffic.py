"""Callers of a model in production that never stop: each request is remembered with what became of it."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpx

_CALLERS = 2
_PAUSE = 0.04  # seconds between two requests of a caller, so that the rest of the machine gets on


@dataclass(frozen=True, slots=True)
class Sent:
    """One request: when it was sent and over (monotonic seconds), and its answer; status 0 means that none came."""

    request_id: str
    sent: float
    over: float
    status: int
    version: str = ""
    problem: str = ""


@dataclass
class Traffic:
    """Sends the rows one by one, again and again, until the block ends."""

    address: str
    documents: Sequence[dict[str, Any]]
    requests: list[Sent] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _callers: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Traffic:
        for number in range(_CALLERS):
            self._callers.append(threading.Thread(target=self._call, args=(number,)))
            self._callers[-1].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for caller in self._callers:
            caller.join()

    def answers(self) -> Counter[tuple[int, str]]:
        """Count the requests so far by (status, version)."""
        return Counter((request.status, request.version) for request in list(self.requests))

    def _call(self, first: int) -> None:
        with httpx.Client(timeout=60, trust_env=False) as client:
            number = first
            while not self._over.wait(_PAUSE):
                self.requests.append(self._ask(client, self.documents[number % len(self.documents)]))
                number += _CALLERS

    def _ask(self, client: httpx.Client, document: dict[str, Any]) -> Sent:
        request_id, sent = uuid.uuid4().hex, time.monotonic()
        try:
            response = client.post(self.address, json=document, headers={"X-Request-Id": request_id})
        except httpx.TransportError as error:
            return Sent(request_id, sent, time.monotonic(), 0, problem=repr(error))
        version = response.headers.get("X-Taxiway-Model-Version", "")
        problem = "" if response.is_success else response.text[:300]
        return Sent(request_id, sent, time.monotonic(), response.status_code, version, problem)
