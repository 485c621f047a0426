"""What a model's environment consists of, read from the lock and from what was installed of it."""

from __future__ import annotations

from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import cast

from taxiway.domain.values import Component
from taxiway.stages.environments import ModelEnvironment
from taxiway.stages.lock_file import normalised, read_lock

SBOM = "taxiway/sbom.cdx.json"

_LONGEST_LICENCE = 80  # beyond that it is no name but the text itself
_CLASSIFIER = "License :: "


def components_of(environment: ModelEnvironment, lock: Path) -> tuple[Component, ...]:
    """Return the packages that the lock put into the environment, by name; a lock for many systems lists more."""
    allowed = read_lock(lock, lock.name)
    installed = [_component(found, allowed) for found in distributions(path=[str(environment.packages)])]
    return tuple(sorted(installed, key=lambda component: component.name))


def _component(found: Distribution, allowed: dict[str, tuple[str, ...]]) -> Component:
    name = normalised(found.name)
    return Component(name, found.version, allowed.get(name, ()), _licence(cast("Message", found.metadata)))


def _licence(metadata: Message) -> str | None:
    """Return an SPDX expression where the package has one, else what it calls its licence, if that is short."""
    classifiers = [str(item) for item in metadata.get_all("Classifier", []) if str(item).startswith(_CLASSIFIER)]
    named = [item.rpartition(" :: ")[2] for item in classifiers]
    for text in (metadata.get("License-Expression"), metadata.get("License"), *named):
        if text and str(text) != "UNKNOWN" and len(str(text)) <= _LONGEST_LICENCE and "\n" not in str(text).strip():
            return str(text).strip()
    return None
