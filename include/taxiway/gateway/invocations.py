"""The way of one scoring request: who answers, the copy to the shadow, the figures, the log, the answer."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taxiway.adapters.prediction_log import LogEntry
from taxiway.domain.values import TrafficPlan
from taxiway.errors import NotFoundError, TargetUnavailable, TaxiwayError
from taxiway.gateway.answers import kind_and_place
from taxiway.gateway.log import LogWriter
from taxiway.gateway.payload import Rows, is_shallow
from taxiway.gateway.routing import CANARY, CHAMPION, SHADOW, choose
from taxiway.gateway.scorers import Reply
from taxiway.gateway.serving import Deployed, ServedModel, Serving
from taxiway.ports import Clock

_log = logging.getLogger(__name__)
_OK, _BAD_GATEWAY = 200, 502
_ERRORS = range(400, 600)


@dataclass(frozen=True, slots=True)
class Call:
    """One scoring request; `rows` is None when its values have no names."""

    model: str
    request_id: str
    body: bytes
    content_type: str
    rows: Rows | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller gets: HTTP status, JSON body, and the version that answered; its predictions, when it had any."""

    status: int
    body: bytes
    version: int
    predictions: Sequence[Any] | None = None


class Invocations:
    """Answers scoring requests; every answer with predictions is in the log before it is returned."""

    def __init__(self, serving: Serving, log: LogWriter, clock: Clock) -> None:
        self._serving = serving
        self._log = log
        self._clock = clock
        self._mirrored: set[asyncio.Task[None]] = set()

    async def answer(self, call: Call) -> Answer:
        """Answer the request; whatever goes wrong with a challenger, the stable version answers instead.

        Raises NotFoundError when the model is not served, TargetUnavailable when nobody can answer now.
        """
        served, plan = self._plan(call.model)
        if plan.shadow is None:
            return await self._answer(call, served, plan)
        champions: asyncio.Future[Sequence[Any] | None] = asyncio.get_running_loop().create_future()
        self._mirror(call, served.versions[plan.shadow], champions)
        try:
            answer = await self._answer(call, served, plan)
            champions.set_result(answer.predictions if answer.version == plan.stable else None)
        finally:
            champions.cancel()  # changes nothing once it has a result
        return answer

    async def finish(self, patience: float) -> None:
        """Wait until the shadows have answered, for `patience` seconds at most."""
        if self._mirrored:
            await asyncio.wait(self._mirrored, timeout=patience)

    async def _answer(self, call: Call, served: ServedModel, plan: TrafficPlan) -> Answer:
        version = choose(plan, call.model, call.request_id)
        if version != plan.stable:
            answer = await self._from_challenger(call, served.versions[version])
            if answer is not None:
                return answer
            served, plan = self._plan(call.model)  # it may have changed meanwhile
        return await self._ask(call, served.versions[plan.stable], CHAMPION)

    def _plan(self, model: str) -> tuple[ServedModel, TrafficPlan]:
        served = self._serving.models.get(model)
        if served is None or served.plan is None:
            raise NotFoundError(
                f"model {model!r} is not served here",
                where=self._serving.config.environment,
                next_step="deliver a version of it, or correct the address.",
            )
        return served, served.plan

    async def _from_challenger(self, call: Call, challenger: Deployed) -> Answer | None:
        if challenger.scorer.state != "ready":
            self._count(call, challenger, CANARY, 0.0, None)
            return None
        try:
            answer = await self._ask(call, challenger, CANARY)
        except TargetUnavailable:
            return None
        except Exception as error:  # noqa: BLE001 (whatever an answer of it does to this process, callers get theirs)
            _log.error("%s version %s as canary: %s", call.model, challenger.release.version, kind_and_place(error))
            return None
        return answer if answer.status == _OK else None

    def _mirror(self, call: Call, shadow: Deployed, champions: asyncio.Future[Sequence[Any] | None]) -> None:
        """Send a copy to the shadow without waiting for it."""
        task = asyncio.create_task(self._ask_shadow(call, shadow, champions))
        self._mirrored.add(task)
        task.add_done_callback(self._mirrored.discard)

    async def _ask_shadow(self, call: Call, shadow: Deployed, champions: asyncio.Future[Sequence[Any] | None]) -> None:
        """Ask the shadow, and compare its answer with the champion's to the same request.

        A shadow that is not ready fails the request; one that cannot keep up is not sent it, and that is counted too.
        """
        version, observations = shadow.release.version, self._serving.observations
        if shadow.scorer.state != "ready":
            self._count(call, shadow, SHADOW, 0.0, None)
            return
        if shadow.scorer.is_busy:  # asked here, where nobody else can take the place before this request does
            observations.drop(call.model, version, SHADOW, at=self._clock.now())
            return
        try:
            answer = await self._ask(call, shadow, SHADOW)
        except TaxiwayError as error:
            _log.warning("%s version %s as shadow: %s", call.model, version, error)
            return
        except Exception as error:  # noqa: BLE001 (whatever an answer of it does to this process, it is an error of it)
            _log.error("%s version %s as shadow: %s", call.model, version, kind_and_place(error))
            return
        await asyncio.wait([champions])
        theirs = None if champions.cancelled() else champions.result()
        if answer.predictions is not None and theirs is not None:
            observations.pair(
                call.model, version, at=self._clock.now(), champion=theirs, predictions=answer.predictions
            )

    async def _ask(self, call: Call, deployed: Deployed, role: str) -> Answer:
        """Ask one version, log its predictions, count what it did; an answer that cannot be logged is an error."""
        began = time.perf_counter()
        try:
            reply = await deployed.scorer.predict(call.body, call.content_type, patient=role == CHAMPION)
            predictions = _predictions(reply, call.rows)
            latency = _milliseconds_since(began)
            if predictions is not None:
                self._write(call, deployed, role, predictions, latency)
        except Exception:
            self._count(call, deployed, role, _milliseconds_since(began), None)
            raise
        self._count(call, deployed, role, latency, predictions)
        version = deployed.release.version
        if predictions is None:
            return Answer(reply.status if reply.status in _ERRORS else _BAD_GATEWAY, _error_body(reply), version)
        return Answer(_OK, reply.body, version, predictions)

    def _count(
        self, call: Call, deployed: Deployed, role: str, latency: float, predictions: Sequence[Any] | None
    ) -> None:
        """Add the request to the version's figures."""
        self._serving.observations.record(
            call.model,
            deployed.release.version,
            role,
            at=self._clock.now(),
            latency_ms=latency,
            predictions=predictions,
        )

    def _write(self, call: Call, deployed: Deployed, role: str, predictions: Sequence[Any], latency: float) -> None:
        rows = call.rows or Rows((), [()] * len(predictions))
        entry = LogEntry(
            request_id=call.request_id,
            logged_at=self._clock.now(),
            version=deployed.release.version,
            role=role,
            latency_ms=round(latency, 3),
            key=deployed.release.key,
            timestamp=deployed.release.timestamp,
            columns=rows.columns,
            rows=rows.values,
            predictions=predictions,
        )
        try:
            self._log.write(call.model, entry)
        except OSError as error:
            raise TargetUnavailable(f"the answer cannot be logged: {error}", where=call.model) from error


def _predictions(reply: Reply, rows: Rows | None) -> list[Any] | None:
    """Return one prediction per row, or None when the model failed to give that, or gave what cannot be kept."""
    if reply.status != _OK:
        return None
    try:
        predictions = _from_json(reply.body.decode())["predictions"]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    if not isinstance(predictions, list) or (rows is not None and len(rows.values) != len(predictions)):
        return None
    return predictions if is_shallow(predictions, reply.body) else None


def _integer(text: str) -> int:
    """Read an integer; raises OverflowError when it does not fit a float, which most readers of JSON make of it."""
    number = int(text)
    float(number)
    return number


_from_json = json.JSONDecoder(parse_int=_integer).decode


def _milliseconds_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def _error_body(reply: Reply) -> bytes:
    if reply.status in _ERRORS:
        return reply.body
    message = "the model did not return one prediction per row"
    return json.dumps({"error_code": "INTERNAL_ERROR", "message": message}).encode()
