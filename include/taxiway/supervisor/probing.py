"""Asks programs over HTTP whether they are ready."""

from __future__ import annotations

import asyncio
from datetime import datetime

import httpx

from taxiway.supervisor.programs import Probe

_INTERVAL = 0.5
_PATIENCE = 30.0  # seconds; a program that starts on a busy machine may answer late


class Prober:
    """Probes over one HTTP client, which never uses a proxy."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(trust_env=False, timeout=_PATIENCE)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def wait_until_ready(self, probe: Probe, since: datetime) -> None:
        """Return once the program answers; its heartbeat, if it has one, must be newer than `since`."""
        while not await self.is_ready(probe, since):  # noqa: ASYNC110 (another process: there is no event)
            await asyncio.sleep(_INTERVAL)

    async def is_ready(self, probe: Probe, since: datetime | None = None) -> bool:
        """Probe once; without `since` Airflow's own judgement of the heartbeat counts."""
        try:
            answer = await self._client.get(probe.url)
            if answer.status_code != httpx.codes.OK:
                return False
            return not probe.heartbeat or _beats(answer.json()[probe.heartbeat], probe.heartbeat, since)
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return False


def _beats(health: dict[str, str | None], part: str, since: datetime | None) -> bool:
    beat = health.get(f"latest_{part}_heartbeat")
    if health.get("status") != "healthy" or beat is None:
        return False
    return since is None or datetime.fromisoformat(beat) >= since
