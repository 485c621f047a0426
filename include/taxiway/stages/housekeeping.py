"""Housekeeping: what nobody used for long is removed from this machine."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

from taxiway.domain.values import CHAMPION
from taxiway.ports import Registry, ServingTarget
from taxiway.stages.candidates import CLOSED, State, state_of
from taxiway.stages.locks import exclusive

_LEFT_STAGING = CLOSED | {State.RETIRED, State.PRODUCTION}


def remove_unused(directory: Path, marker: str, *, now: datetime, unused_for: timedelta) -> list[str]:
    """Remove the subdirectories whose marker file is older than `unused_for`; returns their names.

    Each is removed under the lock that its makers hold, so nothing disappears while it is being made.
    """
    removed = []
    oldest = (now - unused_for).timestamp()
    for entry in sorted(path for path in directory.glob("*") if path.is_dir()):
        with exclusive(entry.with_suffix(".lock")):
            mark = entry / marker
            touched = (mark if mark.exists() else entry).stat().st_mtime
            if touched < oldest:
                shutil.rmtree(entry)
                removed.append(entry.name)
    return removed


def empty_staging(model: str, *, registry: Registry, staging: ServingTarget) -> list[int]:
    """Stop versions in staging that are no longer tested and have no traffic; returns them."""
    stopped = []
    status = staging.status(model)
    champion = registry.by_alias(model, CHAMPION)
    for deployed in status.versions:
        in_use = status.plan is not None and deployed.version in (status.plan.stable, status.plan.challenger)
        if in_use or (champion and deployed.version == champion.version):
            continue
        if state_of(registry.candidate(model, deployed.version)) in _LEFT_STAGING:
            staging.undeploy(model, deployed.version)
            stopped.append(deployed.version)
    return stopped
