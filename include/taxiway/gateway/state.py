"""What the gateway shall serve, in one small file that is always whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from taxiway.domain.values import Release, TrafficPlan
from taxiway.errors import SettingsError
from taxiway.gateway.routing import plan_from_json, plan_to_json, versions_in


@dataclass(frozen=True, slots=True)
class Desired:
    """What shall be served of one model: the deployed releases by version, and who gets which traffic."""

    releases: Mapping[int, Release] = field(default_factory=dict)
    plan: TrafficPlan | None = None


def load_state(path: Path) -> dict[str, Desired]:
    """Read the state by model; empty when there is no file; raises SettingsError when it is damaged."""
    try:
        models = json.loads(path.read_text(encoding="utf-8"))["models"]
        return {name: _read(document) for name, document in models.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"the gateway's state cannot be read: {error!r}",
            where=str(path),
            next_step="restore the file, or remove it and deliver the models again.",
        ) from error


def save_state(path: Path, state: Mapping[str, Desired]) -> None:
    """Replace the file in one step that survives a crash or a power cut at any instant."""
    document = {"models": {name: _write(desired) for name, desired in sorted(state.items())}}
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Have the disk remember which files the directory has."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(desired: Desired) -> dict[str, object]:
    releases = [release.to_json() for _, release in sorted(desired.releases.items())]
    return {"plan": plan_to_json(desired.plan) if desired.plan else None, "releases": releases}


def _read(document: Mapping[str, object]) -> Desired:
    releases = [Release.from_json(item) for item in document["releases"]]  # type: ignore[attr-defined]
    plan = plan_from_json(document["plan"]) if isinstance(document["plan"], dict) else None
    desired = Desired({release.version: release for release in releases}, plan)
    if plan is not None and not versions_in(plan) <= set(desired.releases):
        raise ValueError("the plan needs a version that is not deployed")
    return desired
