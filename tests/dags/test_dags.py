"""The DAG files: which DAGs they make of which specs, and how their stages are wired."""

from __future__ import annotations

import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag

from taxiway.spec_files import load_spec

PROJECT = Path(__file__).resolve().parents[2]
KINDS = ("ci", "delivery", "monitoring", "retraining", "rollback")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project's model specs that a test may break."""
    directory = tmp_path / "models"
    shutil.copytree(PROJECT / "include" / "models", directory)
    monkeypatch.setenv("TAXIWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TAXIWAY_MODELS", str(directory))
    return directory


def parse() -> DagBag:
    """Parse all DAG files as the DAG processor does."""
    return DagBag(str(PROJECT / "dags"))


def edges(dag: Any) -> set[tuple[str, str]]:
    """Return the arrows of a DAG as pairs of task ids."""
    return {(task.task_id, later) for task in dag.tasks for later in task.downstream_task_ids}


def add_model(models: Path, name: str, **changes: Any) -> None:
    """Write a spec that differs from the example in its name and the changes."""
    document = yaml.safe_load((models / "flight_delays.yaml").read_text().replace(" on:", " 'on':"))
    (models / f"{name}.yaml").write_text(yaml.safe_dump({**document, "model": name, **changes}))


def test_each_spec_makes_the_five_dags_of_its_model(models: Path) -> None:
    """A second YAML file is all that a second model needs."""
    add_model(models, "tumours")

    bag = parse()

    expected = {f"{model}.{kind}" for model in ("flight_delays", "tumours") for kind in KINDS}
    assert expected | {"repositories", "housekeeping"} == set(bag.dags)
    assert {} == bag.import_errors


def test_a_broken_spec_is_shown_and_hides_no_other_model(models: Path) -> None:
    """An unknown key becomes an import error that names file, key and the nearest key; other models stay."""
    add_model(models, "tumours", colour="blue")

    bag = parse()

    assert {f"flight_delays.{kind}" for kind in KINDS} <= set(bag.dags)
    assert not any(dag_id.startswith("tumours.") for dag_id in bag.dags)
    [(file, error)] = bag.import_errors.items()
    assert file.endswith("invalid_models.py")
    assert "tumours.yaml: colour: unknown key" in error


def test_every_ci_stage_runs_before_the_candidate_is_registered(models: Path) -> None:
    """Nothing is registered before tests, data checks and gate; training waits for tests and data checks."""
    ci = parse().dags["flight_delays.ci"]

    assert {("build", "unit_tests"), ("build", "static_checks")} <= edges(ci)
    assert {"unit_tests", "static_checks", "check_data"} <= ci.get_task("train").upstream_task_ids
    assert {"integration_tests", "evaluate"} <= ci.get_task("gate").upstream_task_ids
    assert ("gate", "register") in edges(ci)
    assert ("register", "start_delivery") in edges(ci)


def test_production_is_only_reached_after_sign_offs_and_approval(models: Path) -> None:
    """The journey of a delivery is one chain: no step can be overtaken by a later one."""
    rollout = load_spec(models / "flight_delays.yaml", {"TAXIWAY_HOME": "/nowhere"})
    steps = [f"rollout.{task}" for step in rollout.rollout.watched_steps for task in (step, f"decide_{step}")]
    delivery = parse().dags["flight_delays.delivery"]
    chain = [
        "admit", "deploy_staging", "check_staging", "wait_for_sign_offs", "ask_for_approval", "approve",
        "rollout.wait_for_turn", "rollout.deploy_production", *steps, "promote", "verify_production", "record_release",
    ]  # fmt: skip

    assert set(pairwise(chain)) <= edges(delivery)
    assert set(chain[:-1]) <= delivery.get_task("stop_delivery").upstream_task_ids


def test_a_failed_gate_is_not_retried_but_infrastructure_errors_are(models: Path) -> None:
    """Each stage has retries for what may pass, and turns a permanent error into one that Airflow does not retry."""
    for kind in KINDS:
        for task in parse().dags[f"flight_delays.{kind}"].tasks:
            if "ask_for_approval" != task.task_id and ".decide_" not in task.task_id:
                assert task.retries >= 1, task.task_id


def test_a_task_start_builds_only_the_dag_it_belongs_to(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the parsing context of one DAG, the other models' DAGs are not built."""
    for number in range(3):
        add_model(models, f"tumours{number}")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "tumours1.ci")  # as the task runner sets it

    bag = DagBag(str(PROJECT / "dags" / "ci.py"))

    assert {"tumours1.ci"} == set(bag.dags)


def test_the_dag_shows_its_validated_spec(models: Path) -> None:
    """A DAG's documentation holds the spec it was built from, with the defaults filled in."""
    doc = parse().dags["flight_delays.ci"].doc_md

    assert "holdout_window" in doc
    assert "roc_auc" in doc


def test_parsing_imports_no_heavy_library(models: Path) -> None:
    """Parsing all DAG files imports neither pandas nor MLflow, so a task start stays cheap."""
    script = (
        "import sys; from airflow.dag_processing.dagbag import DagBag; "
        f"bag = DagBag({str(PROJECT / 'dags')!r}); assert not bag.import_errors, bag.import_errors; "
        "heavy = ('pandas', 'numpy', 'mlflow', 'evidently', 'sklearn', 'pyarrow'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip().splitlines()[-1]


def test_a_rollback_is_one_task_that_asks_why(models: Path) -> None:
    """Production is switched first; what makes the next rollback quick comes after it; a reason is a must."""
    dag = parse().dags["flight_delays.rollback"]

    assert {("roll_back", "keep_previous_warm")} == edges(dag)
    assert not dag.params.get_param("reason").has_value


def test_housekeeping_records_what_waits(models: Path) -> None:
    """Rollbacks that MLflow does not know are recorded every night, before the way back is made warm again."""
    assert ("record_rollbacks", "keep_previous_warm") in edges(parse().dags["housekeeping"])
