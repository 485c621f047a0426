"""The gateway over HTTP: the data path for callers, the control path for the platform.

POST   /models/{model}/invocations                     MLflow's scoring protocol
GET    /healthz                                        the process lives; the state of each deployed version
GET    /readyz                                         200 when every version with traffic is ready, else 503
GET    /metrics                                        for Prometheus
PUT    /control/models/{model}/versions/{version}      deploy (body: the release)
DELETE /control/models/{model}/versions/{version}      undeploy
PUT    /control/models/{model}/traffic                 switch (body: the traffic plan)
GET    /control/models/{model}                         status
GET    /control/models/{model}/observations?since=     what each version did
POST   /control/log/flush                              turn the prediction log into Parquet now

The control path wants `Authorization: Bearer <token>`; the data path wants another one when it was given one.
Refusals are JSON: 413 a body too large, 429 too much at a time, 503 nobody can answer now (the last two with
Retry-After). Every answer has X-Request-Id.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from taxiway.domain.values import Release
from taxiway.errors import SettingsError
from taxiway.gateway.admission import Admission
from taxiway.gateway.answers import errors_as_json, request_id, retry_after
from taxiway.gateway.config import Config
from taxiway.gateway.invocations import Answer, Call, Invocations
from taxiway.gateway.log import LogWriter, compact
from taxiway.gateway.payload import CSV, JSON, read_rows
from taxiway.gateway.routing import plan_from_json, plan_to_json
from taxiway.gateway.serving import Serving
from taxiway.gateway.turn import Turn
from taxiway.ports import Clock, Registry, Verifier

_MODEL = "{model:[a-z][a-z0-9_]{0,62}}"
_COMPACTION_SECONDS = 30.0


def create_app(
    config: Config, *, registry: Registry, verifier: Verifier, clock: Clock, line: socket.socket | None = None
) -> web.Application:
    """Return the gateway; it starts serving what it served before when the application starts.

    With a line to the supervisor it is the successor of the process that serves now, and starts when that has ended.
    Raises SettingsError without a token, or when one token would open both paths.
    """
    name = f"TAXIWAY_{config.environment.upper()}"
    if not config.token:
        raise SettingsError(
            "the gateway has no token for its control path",
            where=config.environment,
            next_step=f"set {name}_TOKEN; `taxiway up` makes one.",
        )
    if config.token == config.data_token:
        raise SettingsError(
            "the token of the data path is that of the control path: every caller could deploy",
            where=config.environment,
            next_step=f"set {name}_DATA_TOKEN to something else.",
        )
    return _Gateway(config, registry, verifier, clock).application(Turn(config.directory, line))


class _Gateway:
    """The handlers, and what they share."""

    def __init__(self, config: Config, registry: Registry, verifier: Verifier, clock: Clock) -> None:
        self._config = config
        self._registry = registry
        self._verifier = verifier
        self._clock = clock
        self._log = LogWriter(
            config.directory / "log", segment_bytes=config.segment_bytes, segment_age=config.segment_age
        )
        self._admission = Admission(config)
        self._compacting = asyncio.Lock()

    def application(self, turn: Turn) -> web.Application:
        """Return the aiohttp application, which serves when it is its turn."""
        self._turn = turn
        app = web.Application(
            middlewares=[errors_as_json, self._admission.authorise], client_max_size=self._config.max_request_bytes
        )
        version = f"/control/models/{_MODEL}/versions/{{version:[0-9]{{1,9}}}}"
        app.add_routes(
            [
                web.post(f"/models/{_MODEL}/invocations", self._invoke),
                web.get("/healthz", self._health),
                web.get("/readyz", self._readiness),
                web.get("/metrics", self._metrics),
                web.put(version, self._deploy),
                web.delete(version, self._undeploy),
                web.put(f"/control/models/{_MODEL}/traffic", self._set_traffic),
                web.get(f"/control/models/{_MODEL}", self._status),
                web.get(f"/control/models/{_MODEL}/observations", self._observe),
                web.post("/control/log/flush", self._flush),
            ]
        )
        app.cleanup_ctx.append(self._lifetime)
        app.on_shutdown.append(self._hand_over)
        return app

    async def _lifetime(self, _: web.Application) -> AsyncIterator[None]:
        self._serving = Serving(self._config, registry=self._registry, verifier=self._verifier)
        self._invocations = Invocations(self._serving, self._log, self._clock)
        stop = asyncio.Event()
        try:
            await self._turn.take(self._serving.load_beside)
            await self._serving.take_over()
            self._turn.say_serving()  # connections wait for the moment until they are accepted
            compaction = asyncio.create_task(self._compact_regularly(stop))
            yield
            await self._invocations.finish(self._config.drain_timeout.total_seconds())
        finally:
            await self._serving.close()
        stop.set()
        await compaction
        await self._compact(all_of_them=True)

    async def _hand_over(self, _: web.Application) -> None:
        """Let the next process begin: here no request begins any more, and what has begun needs the scorers only."""
        await self._serving.hand_over()
        self._turn.end()

    # The data path

    async def _invoke(self, request: web.Request) -> web.Response:
        identity = request_id(request)
        if request.content_type not in (JSON, CSV) or (request.charset or "utf-8").lower() != "utf-8":
            raise web.HTTPUnsupportedMediaType(text=f"the content type must be {JSON} or {CSV}, in UTF-8")
        async with self._admission.body(request) as body:
            answer = await self._answer(request, identity, body)
        headers = {"X-Taxiway-Model-Version": str(answer.version), **retry_after(answer.status)}
        return web.Response(body=answer.body, status=answer.status, content_type=JSON, headers=headers)

    async def _answer(self, request: web.Request, identity: str, body: bytes) -> Answer:
        try:
            rows = read_rows(body, request.content_type)
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return await self._invocations.answer(
            Call(request.match_info["model"], identity, body, request.content_type, rows)
        )

    async def _health(self, _: web.Request) -> web.Response:
        states = {
            model: {str(version): deployed.scorer.state for version, deployed in sorted(served.versions.items())}
            for model, served in sorted(self._serving.models.items())
        }
        return web.json_response({"environment": self._config.environment, "models": states})

    async def _readiness(self, _: web.Request) -> web.Response:
        models = self._serving.readiness()
        ready = all(state == "ready" for versions in models.values() for state in versions.values())
        document = {"environment": self._config.environment, "ready": ready, "models": models}
        return web.json_response(document, status=200 if ready else 503, headers=retry_after(200 if ready else 503))

    async def _metrics(self, _: web.Request) -> web.Response:
        lines = ["# TYPE taxiway_scorer_starts_total counter"]
        for model, served in sorted(self._serving.models.items()):
            for version, deployed in sorted(served.versions.items()):
                labels = f'model="{model}",version="{version}"'
                lines.append(f"taxiway_scorer_starts_total{{{labels}}} {deployed.scorer.starts}")
        text = "\n".join(lines) + "\n" + self._serving.observations.prometheus()
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    # The control path

    async def _deploy(self, request: web.Request) -> web.Response:
        document = await _json_object(request)
        try:
            release = Release.from_json(document)
        except TypeError as error:
            raise web.HTTPBadRequest(text=f"this is no release: {error}") from error
        if (release.model, str(release.version)) != (request.match_info["model"], request.match_info["version"]):
            raise web.HTTPBadRequest(text="the release is for another model or version than the address")
        await self._serving.deploy(release)
        return self._status_response(release.model)

    async def _undeploy(self, request: web.Request) -> web.Response:
        model = request.match_info["model"]
        await self._serving.undeploy(model, int(request.match_info["version"]))
        return self._status_response(model)

    async def _set_traffic(self, request: web.Request) -> web.Response:
        document = await _json_object(request)
        try:
            plan = plan_from_json(document)
        except (TypeError, ValueError) as error:
            raise web.HTTPBadRequest(text=f"this is no traffic plan: {error}") from error
        await self._serving.set_traffic(request.match_info["model"], plan)
        return self._status_response(request.match_info["model"])

    async def _status(self, request: web.Request) -> web.Response:
        return self._status_response(request.match_info["model"])

    async def _observe(self, request: web.Request) -> web.Response:
        try:
            since = datetime.fromisoformat(request.query.get("since", ""))
        except ValueError as error:
            raise web.HTTPBadRequest(text="since must be an ISO 8601 time") from error
        since = since if since.tzinfo else since.replace(tzinfo=UTC)
        found = self._serving.observe(request.match_info["model"], since)
        return web.json_response([observation.to_json() for observation in found])

    async def _flush(self, _: web.Request) -> web.Response:
        return web.json_response({"segments": await self._compact(all_of_them=True)})

    def _status_response(self, model: str) -> web.Response:
        status = self._serving.status(model)
        document = {
            "model": model,
            "plan": plan_to_json(status.plan) if status.plan else None,
            "versions": [asdict(version) for version in status.versions],
        }
        return web.json_response(document)

    # The prediction log

    async def _compact_regularly(self, stop: asyncio.Event) -> None:
        """Compact what an earlier process left behind, then what has become large or old."""
        while not stop.is_set():
            await self._compact(all_of_them=False)
            try:
                async with asyncio.timeout(_COMPACTION_SECONDS):
                    await stop.wait()
            except TimeoutError:
                pass  # time to look again

    async def _compact(self, *, all_of_them: bool) -> int:
        async with self._compacting:
            self._log.close_segments(self._clock.now(), all_of_them=all_of_them)
            return await asyncio.to_thread(compact, self._log.closed_segments())


async def _json_object(request: web.Request) -> dict[str, Any]:
    try:
        document = json.loads(await request.read())
    except ValueError as error:
        raise web.HTTPBadRequest(text="the body is not valid JSON") from error
    if not isinstance(document, dict):
        raise web.HTTPBadRequest(text="the body must be a JSON object")
    return document
