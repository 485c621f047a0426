"""Runs one stage of continuous integration in a process of its own, as a line of a shell script would.

    python benchmarks/pipeline_stage.py STAGE MODEL REF BUILD.json

The baseline of pipeline_overhead.py: the same stage functions that the tasks of dags/ci.py call, without Airflow.
`checkout` writes the build to BUILD.json, the others read it. The settings come from the environment.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taxiway.bootstrap import Services, services
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build, Request, build_environment, open_build
from taxiway.stages.repository_tests import RepositoryTests

Stage = Callable[[Services, ModelSpec, Build], Any]


def _tests(s: Services, spec: ModelSpec, build: Build) -> RepositoryTests:
    return RepositoryTests(spec, build, s.git, s.registry, s.settings.cache, s.clock)


def _snapshot(s: Services, spec: ModelSpec, build: Build) -> None:
    from taxiway.stages.data import snapshot_data

    snapshot_data(spec, build, data=s.data(spec), registry=s.registry, clock=s.clock)


def _check_data(s: Services, spec: ModelSpec, build: Build) -> None:
    from taxiway.stages.data import check_data

    check_data(spec, build, registry=s.registry, clock=s.clock)


def _train(s: Services, spec: ModelSpec, build: Build) -> None:
    from taxiway.stages.train import train

    train(spec, build, git=s.git, registry=s.registry, cache=s.settings.cache, clock=s.clock)


def _evaluate(s: Services, spec: ModelSpec, build: Build) -> None:
    from taxiway.stages.evaluate import Evaluation

    Evaluation(spec, build, s.registry, s.verifier, s.settings.cache, s.clock).run()


def _gate(s: Services, spec: ModelSpec, build: Build) -> None:
    from taxiway.stages.gate import judge

    judge(spec, build, registry=s.registry, clock=s.clock)


def _register(s: Services, spec: ModelSpec, build: Build) -> None:
    from taxiway.stages.register import register

    register(spec, build, registry=s.registry, signer=s.signer)


def _build(s: Services, spec: ModelSpec, build: Build) -> None:
    build_environment(spec, build, git=s.git, registry=s.registry, cache=s.settings.cache, clock=s.clock)


STAGES: dict[str, Stage] = {
    "build_environment": _build,
    "static_checks": lambda s, spec, build: _tests(s, spec, build).static_checks(),
    "unit_tests": lambda s, spec, build: _tests(s, spec, build).unit_tests(),
    "snapshot_data": _snapshot,
    "check_data": _check_data,
    "train": _train,
    "integration_tests": lambda s, spec, build: _tests(s, spec, build).integration_tests(),
    "evaluate": _evaluate,
    "gate": _gate,
    "register": _register,
}
"""Every stage after `checkout`, in the order of the script; by the ids of the tasks."""


def main() -> None:
    """Run the stage that the command line names."""
    stage, model, ref, file = sys.argv[1:]
    s = services()
    spec, path = s.spec(model), Path(file)
    if stage == "checkout":
        request = Request(f"script-{ref}", ref, None, "manual", "script")
        build = open_build(spec, request, git=s.git, registry=s.registry, cache=s.settings.cache, clock=s.clock)
        path.write_text(json.dumps(build.to_json()))
    else:
        STAGES[stage](s, spec, Build.from_json(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
