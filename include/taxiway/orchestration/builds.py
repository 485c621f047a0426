"""The tasks of continuous integration: each gets the services, the model's spec and the build, and leaves evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from taxiway.bootstrap import Services, services
from taxiway.errors import PermanentError
from taxiway.orchestration.tasks import stage

if TYPE_CHECKING:
    from taxiway.spec import ModelSpec
    from taxiway.stages.build import Build
    from taxiway.stages.repository_tests import RepositoryTests

Body = Callable[[Services, "ModelSpec", "Build"], Any]


def build_stage(function: Body) -> Any:
    """Turn a function of (services, spec, build) into a task of (model, build as JSON).

    Why a build was refused is kept with the build before the task fails.
    """

    def body(model: str, build: Mapping[str, Any]) -> Any:
        from taxiway.stages.failures import record_failure

        s, spec, of = opened(model, build)
        try:
            return function(s, spec, of)
        except PermanentError as error:
            record_failure(s.registry, of.run_id, function.__name__, error, s.clock)
            raise

    # Not functools.wraps: Airflow would take the arguments of the function for those of the task.
    body.__name__, body.__doc__ = function.__name__, function.__doc__
    return stage()(body)


def opened(model: str, build: Mapping[str, Any]) -> tuple[Services, ModelSpec, Build]:
    """Return what a stage needs of the build that `checkout` handed on as JSON."""
    from taxiway.stages.build import Build

    s = services()
    return s, s.spec(model), Build.from_json(build)


def repository_tests(s: Services, spec: ModelSpec, build: Build) -> RepositoryTests:
    """Return what runs the repository's own checks and tests for the build."""
    from taxiway.stages.repository_tests import RepositoryTests

    return RepositoryTests(spec, build, s.git, s.registry, s.settings.cache, s.clock)
