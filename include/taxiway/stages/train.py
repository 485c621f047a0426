"""Train: the model repository's train function, in its environment, on the build's training window."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from taxiway.domain.evidence import Evidence, Verdict
from taxiway.errors import TrainingError
from taxiway.ports import Clock, GitHost, Registry
from taxiway.spec import ModelSpec
from taxiway.stages.build import Build, checkout_of, environment_of, limits_for
from taxiway.stages.data import TRAINING
from taxiway.stages.digests import directory_digest
from taxiway.stages.evidence_store import record
from taxiway.stages.model_rules import Package, judge_package
from taxiway.stages.sandbox import SCRIPTS, Outcome, is_plain, run
from taxiway.stages.scoring_protocol import as_split
from taxiway.stages.untrusted_files import content, document
from taxiway.stages.wheel import code_of
from taxiway.stages.workspaces import workspace

if TYPE_CHECKING:
    import pandas as pd

TRAINED_ANSWERS = "taxiway/trained_answers.json"
_MEGABYTE = 1_000_000
_ANSWERED_ROWS = 20


def train(spec: ModelSpec, build: Build, *, git: GitHost, registry: Registry, cache: Path, clock: Clock) -> Evidence:
    """Train on the stored training window and store the MLflow model with the build.

    So are some rows with what the saved model answered to them where it was trained: the served one has to agree.
    Raises TrainingError when the function raises, meets a limit, or writes no model of plain files that the spec
    allows.
    """
    checkout = checkout_of(spec, build, git, cache)
    environment = environment_of(spec, build, git=git, cache=cache)
    with workspace("train") as directory:
        frame, params, model = directory / "training.parquet", directory / "params.json", directory / "model"
        rows, answers = directory / "rows.parquet", directory / "answers.json"
        registry.get_file(build.run_id, TRAINING, frame)
        code = code_of(build.run_id, registry, directory)
        params.write_text(json.dumps(spec.params))
        asked = _some_rows(spec, frame)
        asked.to_parquet(rows, index=False)
        command: list[str | Path] = [environment.python, SCRIPTS / "train.py", "--entry", checkout.entry]
        command += ["--frame", frame, "--params", params, "--model-dir", model, "--rows", rows, "--answers", answers]
        outcome = run(
            command,
            cwd=directory,
            limits=limits_for(spec, "train"),
            extra_env={"PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"},
            reads=(code,),
        )
        print(outcome.output)  # noqa: T201 (the training's own output belongs into the task's log)
        if not outcome.succeeded:
            raise _failure(build, outcome)
        if not is_plain(model):
            raise TrainingError(
                "training wrote no model, or one with links or special files",
                where=build.where,
                next_step="write plain files only: copy what the links lead to.",
            )
        registry.put_json(build.run_id, TRAINED_ANSWERS, {"inputs": as_split(asked), **_answers(build, answers)})
        evidence, package = _describe(spec, build, model, outcome, clock=clock)
        if not package.violations:
            registry.put_directory(build.run_id, "model", model)
        record(registry, build.run_id, evidence)
        package.refuse(build.where)
        return evidence


def _some_rows(spec: ModelSpec, training: Path) -> pd.DataFrame:
    """Return the features of rows from the whole training window, evenly spread."""
    import pandas as pd

    frame = pd.read_parquet(training, columns=list(spec.data.features))
    return frame.iloc[:: max(1, len(frame) // _ANSWERED_ROWS)].head(_ANSWERED_ROWS)


def _answers(build: Build, path: Path) -> dict[str, object]:
    """Return what the training process said that the model predicts, and the columns of its signature."""
    try:
        found = document(content(path, most_bytes=_MEGABYTE))
        return {"predictions": list(found["predictions"]), "columns": list(found["columns"])}
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"the training process left no readable answers of the model: {error}",
            where=build.where,
            next_step="the task's log has its whole output; correct the code and push.",
        ) from error


def _describe(
    spec: ModelSpec, build: Build, model: Path, outcome: Outcome, *, clock: Clock
) -> tuple[Evidence, Package]:
    package = judge_package(spec, model)
    size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
    evidence = Evidence(
        stage="train",
        verdict=Verdict.FAILED if package.violations else Verdict.PASSED,
        at=clock.now(),
        reasons=package.violations,
        subject={"commit": build.sha, "digest": directory_digest(model)},
        figures={
            "seconds": round(outcome.seconds, 2),
            "size_mb": round(size / _MEGABYTE, 3),
            "package": dict(package.description),
        },
    )
    return evidence, package


def _failure(build: Build, outcome: Outcome) -> TrainingError:
    if outcome.limit:
        return TrainingError(
            f"training was stopped at the limit: {outcome.limit}",
            where=build.where,
            next_step="make it faster, or raise limits.train in the model spec.",
        )
    ending = " | ".join(outcome.output.strip().splitlines()[-3:])
    return TrainingError(
        f"training failed with exit code {outcome.exit_code}: {ending}",
        where=build.where,
        next_step="the task's log has its whole output; correct the code and push.",
    )
