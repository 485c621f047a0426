"""Runs one stage of continuous integration in a process of its own, as a line of a shell script would.

    python benchmarks/_pipeline_stage.py STAGE MODEL REF BUILD.json

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
from taxiway.stages.build import Build, BuildTools, Request, build, open_build
from taxiway.stages.repository_tests import RepositoryTests

Stage = Callable[[Services, ModelSpec, Build], Any]


def _tests(s: Services, spec: ModelSpec, build: Build) -> RepositoryTests:
    return RepositoryTests(spec, build, s.git, s.registry, s.settings.cache, s.clock)


def _snapshot(s: Services, spec: ModelSpec, build: Build) -> None:
    from taxiway.stages.data import snapshot_data

    snapshot_data(spec, build, data=s.data(spec), registry=s.registry, clock=s.clock)


def _check_data(s: Services, spec: ModelSpec, build: Build) -> None:
    from taxiway.stages.data_checks import check_data

    check_data(spec, build, registry=s.registry, clock=s.clock)


def _report_data(s: Services, spec: ModelSpec, build: Build) -> None:
    from taxiway.stages.data_tests import report_data

    report_data(spec, build, registry=s.registry, data_tests=s.data_tests, clock=s.clock)


def _train(s: Services, spec: ModelSpec, build: Build) -> None:
    from taxiway.stages.train import train

    train(spec, build, git=s.git, registry=s.registry, cache=s.settings.cache, clock=s.clock)


def _evaluate(s: Services, spec: ModelSpec, build: Build) -> None:
    from taxiway.stages.evaluate import Evaluation

    Evaluation(spec, build, s.registry, s.verifier, s.settings.cache, s.clock).run()


def _check_package(s: Services, spec: ModelSpec, build: Build) -> None:
    from taxiway.stages.package_checks import PackageChecks

    PackageChecks(spec, build, s.registry, s.settings.cache, s.clock).run()


def _draw_evaluation(s: Services, spec: ModelSpec, build: Build) -> None:
    from taxiway.stages.evaluation_figures import draw_evaluation

    draw_evaluation(spec, build, registry=s.registry, pages=s.evaluation_pages)


def _gate(s: Services, spec: ModelSpec, build: Build) -> None:
    from taxiway.stages.gate import judge

    judge(spec, build, registry=s.registry, clock=s.clock)


def _register(s: Services, spec: ModelSpec, build: Build) -> None:
    from taxiway.stages.register import register

    register(spec, build, registry=s.registry, signer=s.signer)


def _static_checks(s: Services, spec: ModelSpec, build: Build) -> None:
    from taxiway.stages.static_checks import StaticChecks

    StaticChecks(spec, build, s.git, s.registry, s.settings.cache, s.clock).run()


def _build(s: Services, spec: ModelSpec, of: Build) -> None:
    build(spec, of, BuildTools(s.git, s.registry, s.bill_of_materials, s.settings.cache, s.clock))


STAGES: dict[str, Stage] = {
    "build": _build,
    "static_checks": _static_checks,
    "unit_tests": lambda s, spec, build: _tests(s, spec, build).unit_tests(),
    "snapshot_data": _snapshot,
    "check_data": _check_data,
    "report_data": _report_data,
    "train": _train,
    "integration_tests": lambda s, spec, build: _tests(s, spec, build).integration_tests(),
    "check_package": _check_package,
    "evaluate": _evaluate,
    "draw_evaluation": _draw_evaluation,
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
        opened = open_build(spec, request, git=s.git, registry=s.registry, cache=s.settings.cache, clock=s.clock)
        path.write_text(json.dumps(opened.to_json()))
    else:
        STAGES[stage](s, spec, Build.from_json(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
