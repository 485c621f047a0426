"""The served models of one environment: what is desired, the scorers that carry it out, and each request's way."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from taxiway.domain.observation import VersionObservation
from taxiway.domain.values import Release, TargetStatus, TrafficPlan, VersionStatus
from taxiway.errors import DeliveryStopped, TargetUnavailable, TaxiwayError
from taxiway.gateway.config import Config
from taxiway.gateway.observations import Observations
from taxiway.gateway.routing import check_plan, versions_in
from taxiway.gateway.scorers import Scorer
from taxiway.gateway.state import Desired, load_state, save_state
from taxiway.gateway.verification import fetch, install, remove, verify_approval, verify_release
from taxiway.ports import Registry, Verifier
from taxiway.stages.environments import ensure_environment
from taxiway.stages.model_files import ModelFiles
from taxiway.stages.workspaces import workspace

_log = logging.getLogger(__name__)
_WARM_UP_SECONDS = 30.0


@dataclass(slots=True)
class Deployed:
    """One version on this gateway; `desired` once it was ready, so that a restart brings it back."""

    release: Release
    files: ModelFiles
    scorer: Scorer
    desired: bool


@dataclass(slots=True)
class ServedModel:
    """The versions of one model, and who gets which traffic."""

    versions: dict[int, Deployed] = field(default_factory=dict)
    plan: TrafficPlan | None = None


class Serving:
    """Everything that one gateway serves; belongs to one event loop."""

    def __init__(self, config: Config, *, registry: Registry, verifier: Verifier) -> None:
        self.config = config
        self.models: dict[str, ServedModel] = {}
        self.observations = Observations()
        self._registry = registry
        self._verifier = verifier
        self._state_file = config.directory / "state.json"
        self._saving = asyncio.Lock()
        self._deploying: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._handed_over = asyncio.Event()
        self._interruptible: set[asyncio.Task[Any]] = set()
        self._begun: set[asyncio.Task[None]] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._held = ExitStack()
        self._place = self._held.enter_context(workspace("serving"))  # short: a socket's path has 108 characters

    async def load_beside(self) -> None:
        """Load what another process serves, and return once nothing is missing; state and files stay that one's.

        Raises DeliveryStopped when a version with traffic cannot be loaded: then the other one had better serve on.
        """
        seen: Mapping[str, Desired] | None = None
        while seen != (state := load_state(self._state_file)):  # it may have changed while it was loaded
            self._follow(state)
            await asyncio.gather(*(scorer.settled() for scorer in self._scorers()), return_exceptions=True)
            seen = state
        for served, plan in self._with_traffic():
            for version in sorted(versions_in(plan)):
                scorer = served.versions[version].scorer
                if scorer.state != "ready":
                    what = f"a version with traffic cannot be loaded: {scorer.failure or scorer.state}"
                    raise DeliveryStopped(what, where=scorer.name)

    async def take_over(self) -> None:
        """Serve what the state wants now, beginning with what is loaded; needs nothing but this machine."""
        state = load_state(self._state_file)
        self._follow(state)
        for path in (self.config.directory / "versions").glob("*/*"):
            if path.name not in map(str, state.get(path.parent.name, Desired()).releases):
                remove(ModelFiles(path))  # a deploy that never became ready
        await self._warm_up()

    async def hand_over(self) -> None:
        """Return once this process changes nothing any more: what takes long is given up, what is short is finished.

        Whoever asked for what was given up is told to ask again, and asks the next process.
        """
        self._handed_over.set()
        for task in self._interruptible:
            task.cancel()
        while self._begun:
            await asyncio.wait(self._begun)

    async def deploy(self, release: Release) -> None:
        """Fetch, verify and start a version, and return once it is ready; a repeat changes nothing.

        Raises IntegrityError when it must not be served here, DeliveryStopped or BuildError when it cannot become
        ready, NotFoundError or RegistryUnavailable when its files cannot be had, TargetUnavailable at a hand-over.
        """
        async with self._until_hand_over(), self._deploying[release.model, release.version]:
            await asyncio.to_thread(verify_approval, release, self.config.environment, self._verifier)
            served = self.models.setdefault(release.model, ServedModel())
            deployed = served.versions.get(release.version)
            if deployed is not None and _content(deployed.release) != _content(release):
                what = f"the version is deployed here with other files ({deployed.release.digest})"
                raise DeliveryStopped(what, where=_name(release), next_step="undeploy it first.")
            if deployed is None or deployed.scorer.state == "failed":
                deployed = await self._replace(release, deployed)
            deployed.release = release
            try:
                await deployed.scorer.settled()
            except TaxiwayError:
                if not deployed.desired:
                    await self._drop(deployed)
                raise
            deployed.desired = True
            await self._save()

    async def set_traffic(self, model: str, plan: TrafficPlan) -> None:
        """Switch to the plan, on disk and then in memory.

        Raises DeliveryStopped when it cannot be carried out, TargetUnavailable when a version is being started again.
        """
        check_plan(plan)
        if self._handed_over.is_set():
            raise self._exchanged()
        await self._whole(self._switch(model, plan))
        _log.info("%s: traffic is now %s", model, plan)

    async def undeploy(self, model: str, version: int) -> None:
        """Drain and stop a version without traffic, and delete its files; raises DeliveryStopped when it has some."""
        async with self._until_hand_over(), self._deploying[model, version]:
            async with self._saving:
                served = self.models.get(model, ServedModel())
                deployed = served.versions.get(version)
                if deployed is None:
                    return
                if served.plan is not None and version in versions_in(served.plan):
                    raise DeliveryStopped(
                        f"version {version} has traffic",
                        where=f"{model} in {self.config.environment}",
                        next_step="give the traffic to another version first.",
                    )
                del served.versions[version]
            await self._save()
            await self._drop(deployed)

    def status(self, model: str) -> TargetStatus:
        """Return the plan and the state of each version."""
        served = self.models.get(model, ServedModel())
        states = [
            VersionStatus(version, deployed.release.digest, deployed.scorer.state, deployed.scorer.ending)
            for version, deployed in sorted(served.versions.items())
        ]
        return TargetStatus(model, served.plan, tuple(states))

    def observe(self, model: str, since: datetime) -> list[VersionObservation]:
        """Return what each deployed version did since the moment."""
        return self.observations.observe(model, sorted(self.models.get(model, ServedModel()).versions), since)

    def readiness(self) -> dict[str, dict[int, str]]:
        """Return the state of every version that a plan needs, by model."""
        return {
            model: {version: served.versions[version].scorer.state for version in sorted(versions_in(served.plan))}
            for model, served in sorted(self.models.items())
            if served.plan is not None
        }

    async def close(self) -> None:
        """Drain and stop every scorer; what is desired stays."""
        await asyncio.gather(*(scorer.stop() for scorer in self._scorers()), *self._leaving)
        self._held.close()

    def _scorers(self) -> list[Scorer]:
        return [deployed.scorer for served in self.models.values() for deployed in served.versions.values()]

    def _with_traffic(self) -> list[tuple[ServedModel, TrafficPlan]]:
        return [(served, served.plan) for served in self.models.values() if served.plan is not None]

    async def _warm_up(self) -> None:
        """Wait until each version with traffic is ready or has failed; not for long, because the others can answer."""
        plans = self._with_traffic()
        scorers = [served.versions[version].scorer for served, plan in plans for version in versions_in(plan)]
        try:
            async with asyncio.timeout(_WARM_UP_SECONDS):
                await asyncio.gather(*(scorer.settled() for scorer in scorers), return_exceptions=True)
        except TimeoutError:
            _log.warning("serving begins though not every version is ready")

    def _follow(self, state: Mapping[str, Desired]) -> None:
        """Start what shall be served and does not run, and stop what shall not; nothing changes on the disk."""
        for model, desired in state.items():
            served = self.models.setdefault(model, ServedModel())
            served.plan = desired.plan
            for version, release in desired.releases.items():
                deployed = served.versions.get(version)
                if deployed is not None and _content(deployed.release) == _content(release):
                    deployed.release = release
                    if deployed.scorer.state != "failed":
                        continue
                self._leave(served, version)
                served.versions[version] = self._start(release, desired=True)
        for model, served in list(self.models.items()):
            for version in set(served.versions) - set(state.get(model, Desired()).releases):
                self._leave(served, version)
            if model not in state:
                del self.models[model]

    def _leave(self, served: ServedModel, version: int) -> None:
        deployed = served.versions.pop(version, None)
        if deployed is not None:
            task = asyncio.create_task(deployed.scorer.stop())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    @asynccontextmanager
    async def _until_hand_over(self) -> AsyncIterator[None]:
        """Give the block up when the next process takes over; it can be asked for again there."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (this is a coroutine)
        if self._handed_over.is_set():
            raise self._exchanged()
        self._interruptible.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._handed_over.is_set():
                raise
            task.uncancel()
            raise self._exchanged() from None
        finally:
            self._interruptible.discard(task)

    def _exchanged(self) -> TargetUnavailable:
        return TargetUnavailable(
            "the gateway's process is being exchanged",
            where=self.config.environment,
            next_step="try again: the next process takes over in a moment.",
        )

    async def _whole(self, change: Coroutine[Any, Any, None]) -> None:
        """Carry the change out to its end, also when whoever asked for it is gone; a hand-over waits for it."""
        task = asyncio.create_task(change)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        await asyncio.shield(task)

    async def _switch(self, model: str, plan: TrafficPlan) -> None:
        where = f"{model} in {self.config.environment}"
        async with self._saving:
            served = self.models.get(model, ServedModel())
            for version in sorted(versions_in(plan)):
                deployed = served.versions.get(version)
                if deployed is None or not deployed.desired or deployed.scorer.state == "failed":
                    state = "not deployed" if deployed is None else deployed.scorer.state
                    raise DeliveryStopped(
                        f"version {version} is not ready ({state})",
                        where=where,
                        next_step="deploy it first; the traffic stays as it was.",
                    )
                if deployed.scorer.state != "ready":
                    raise TargetUnavailable(f"version {version} is being started again", where=where)
            await asyncio.to_thread(save_state, self._state_file, self._state() | {model: _desired(served, plan)})
            served.plan = plan

    def _start(self, release: Release, *, desired: bool) -> Deployed:
        files = self._files(release)

        async def prepare() -> Path:
            return await asyncio.to_thread(self._prepare, deployed.release, files)

        scorer = Scorer(_name(release), files.model, prepare=prepare, place=self._place, config=self.config)
        deployed = Deployed(release, files, scorer, desired)
        return deployed

    def _files(self, release: Release) -> ModelFiles:
        return ModelFiles(self.config.directory / "versions" / release.model / str(release.version))

    def _prepare(self, release: Release, files: ModelFiles) -> Path:
        """Verify what is about to be loaded, and return the python of its environment."""
        verify_release(release, files, self.config.environment, self._verifier)
        return ensure_environment(files.lock, self.config.cache, timeout=self.config.build_timeout).python

    async def _replace(self, release: Release, failed: Deployed | None) -> Deployed:
        """Fetch the files again and start; a version with traffic keeps it, so a repair needs no other call."""
        files = self._files(release)
        fresh = await asyncio.to_thread(fetch, release, files, self._registry)
        if failed is not None:
            await failed.scorer.stop()
        await self._whole(asyncio.to_thread(install, fresh, files))
        deployed = self._start(release, desired=failed is not None and failed.desired)
        self.models[release.model].versions[release.version] = deployed
        return deployed

    async def _drop(self, deployed: Deployed) -> None:
        release = deployed.release
        self.models[release.model].versions.pop(release.version, None)
        await deployed.scorer.stop()
        await self._whole(asyncio.to_thread(remove, deployed.files))
        self.observations.forget(release.model, release.version)

    async def _save(self) -> None:
        await self._whole(self._store())

    async def _store(self) -> None:
        async with self._saving:
            await asyncio.to_thread(save_state, self._state_file, self._state())

    def _state(self) -> dict[str, Desired]:
        state = {model: _desired(served, served.plan) for model, served in self.models.items()}
        return {model: desired for model, desired in state.items() if desired.releases}


def _desired(served: ServedModel, plan: TrafficPlan | None) -> Desired:
    releases = {version: deployed.release for version, deployed in served.versions.items() if deployed.desired}
    return Desired(releases, plan)


def _content(release: Release) -> tuple[str, str]:
    return release.digest, release.lock_digest


def _name(release: Release) -> str:
    return f"{release.model} version {release.version}"
