"""The served models of one environment: what is desired, the scorers that carry it out, and each request's way."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from taxiway.domain.observation import VersionObservation
from taxiway.domain.values import Release, TargetStatus, TrafficPlan, VersionStatus
from taxiway.errors import DeliveryStopped, TaxiwayError
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
        self._held = ExitStack()
        self._place = self._held.enter_context(workspace("serving"))  # short: a socket's path has 108 characters

    def restore(self) -> None:
        """Start what was served when the last process ended; needs nothing but this machine."""
        state = load_state(self._state_file)
        for model, desired in state.items():
            versions = {version: self._start(release, desired=True) for version, release in desired.releases.items()}
            self.models[model] = ServedModel(versions, desired.plan)
        for path in (self.config.directory / "versions").glob("*/*"):
            served = self.models.get(path.parent.name, ServedModel())
            if path.name not in map(str, served.versions):
                remove(ModelFiles(path))  # a deploy that never became ready

    async def warm_up(self) -> None:
        """Wait until each version with traffic is ready or has failed; not for long, because the others can answer."""
        plans = [(served, served.plan) for served in self.models.values() if served.plan is not None]
        scorers = [served.versions[version].scorer for served, plan in plans for version in versions_in(plan)]
        try:
            async with asyncio.timeout(_WARM_UP_SECONDS):
                await asyncio.gather(*(scorer.settled() for scorer in scorers), return_exceptions=True)
        except TimeoutError:
            _log.warning("serving begins though not every version is ready")

    async def deploy(self, release: Release) -> None:
        """Fetch, verify and start a version, and return once it is ready; a repeat changes nothing.

        Raises IntegrityError when it must not be served here, DeliveryStopped or BuildError when it cannot become
        ready, NotFoundError or RegistryUnavailable when its files cannot be had.
        """
        async with self._deploying[release.model, release.version]:
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
        """Switch to the plan, on disk and then in memory; raises DeliveryStopped when it cannot be carried out."""
        check_plan(plan)
        async with self._saving:
            served = self.models.get(model, ServedModel())
            for version in sorted(versions_in(plan)):
                deployed = served.versions.get(version)
                if deployed is None or not deployed.desired or deployed.scorer.state != "ready":
                    state = "not deployed" if deployed is None else deployed.scorer.state
                    raise DeliveryStopped(
                        f"version {version} is not ready ({state})",
                        where=f"{model} in {self.config.environment}",
                        next_step="deploy it first; the traffic stays as it was.",
                    )
            await asyncio.to_thread(save_state, self._state_file, self._state() | {model: _desired(served, plan)})
            served.plan = plan
        _log.info("%s: traffic is now %s", model, plan)

    async def undeploy(self, model: str, version: int) -> None:
        """Drain and stop a version without traffic, and delete its files; raises DeliveryStopped when it has some."""
        async with self._deploying[model, version]:
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
        scorers = [deployed.scorer for served in self.models.values() for deployed in served.versions.values()]
        await asyncio.gather(*(scorer.stop() for scorer in scorers))
        self._held.close()

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
        await asyncio.to_thread(install, fresh, files)
        deployed = self._start(release, desired=failed is not None and failed.desired)
        self.models[release.model].versions[release.version] = deployed
        return deployed

    async def _drop(self, deployed: Deployed) -> None:
        release = deployed.release
        self.models[release.model].versions.pop(release.version, None)
        await deployed.scorer.stop()
        await asyncio.to_thread(remove, deployed.files)
        self.observations.forget(release.model, release.version)

    async def _save(self) -> None:
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
