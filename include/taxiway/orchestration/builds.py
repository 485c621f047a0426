"""What the tasks of continuous integration begin with: the services, the model's spec, the build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taxiway.bootstrap import Services, services

if TYPE_CHECKING:
    from taxiway.spec import ModelSpec
    from taxiway.stages.build import Build
    from taxiway.stages.repository_tests import RepositoryTests


def opened(model: str, build: Mapping[str, Any]) -> tuple[Services, ModelSpec, Build]:
    """Return what a stage needs of the build that `checkout` handed on as JSON."""
    from taxiway.stages.build import Build

    s = services()
    return s, s.spec(model), Build.from_json(build)


def repository_tests(model: str, build: Mapping[str, Any]) -> RepositoryTests:
    """Return what runs the repository's own checks and tests for the build."""
    from taxiway.stages.repository_tests import RepositoryTests

    s, spec, of = opened(model, build)
    return RepositoryTests(spec, of, s.git, s.registry, s.settings.cache, s.clock)
