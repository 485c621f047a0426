"""A second, tiny model goes from a commit to production over Airflow's REST API; what is broken goes nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from taxiway.demo.commits import BareRepository
from taxiway.supervisor.airflow_environment import airflow_environment
from tests.live.conftest import LiveInstallation, wait_for
from tests.live.live_model import LiveModel
from tests.live.repositories_setup import BROKEN, MODEL, make_tumours, spec_text, tumours, write_tumours


@dataclass
class Tumours(LiveModel):
    """The tiny model in a running installation."""

    repository: BareRepository
    data: Path
    data_end: datetime

    def ask_production(self, rows: int = 3) -> httpx.Response:
        """Send rows to production, as `curl` would."""
        frame = tumours().head(rows).astype({"examined_at": str})
        document = {"dataframe_split": json.loads(frame.to_json(orient="split", index=False))}
        address = self.installation.settings.url("production")
        return httpx.post(f"{address}/models/{MODEL}/invocations", json=document, timeout=30)


@pytest.fixture(scope="module")
def model(installation: LiveInstallation, tmp_path_factory: pytest.TempPathFactory) -> Tumours:
    """The tiny model, declared by one YAML; its push is waiting to be noticed."""
    directory = tmp_path_factory.mktemp("tumours")
    repository = make_tumours(directory / "tumours.git")
    data_end = write_tumours(directory / "data")
    installation.add_spec(MODEL, spec_text(repository=repository.url, data=f"file://{directory / 'data'}"))
    return Tumours(installation, MODEL, repository, directory / "data", data_end)


@pytest.fixture(scope="module")
def delivered(model: Tumours) -> Tumours:
    """The tiny model in production: pushed, built, signed off by ana, approved by dana."""
    sha = model.repository.find("Tell malignant from benign tumours")
    built = model.run("ci", f"commit-{sha}")
    assert built["state"] == "success", built
    model.let_into_production(1)
    finished = model.run("delivery", "candidate-1")
    assert finished["state"] == "success", finished
    return model


@pytest.fixture(scope="module")
def broken(delivered: Tumours) -> Tumours:
    """Every broken commit has been built to its end."""
    api = delivered.installation.airflow()
    for branch in BROKEN:
        api.trigger(f"{MODEL}.ci", f"broken-{branch}", {"ref": branch})
    api.trigger(f"{MODEL}.ci", "broken-unknown-ref", {"ref": "no-such-branch"})
    api.trigger(f"{MODEL}.ci", "broken-no-rows", {"ref": "main", "data_end": "1990-01-01"})
    return delivered


def test_the_push_alone_brings_the_model_into_production(delivered: Tumours) -> None:
    """Nobody triggers anything: the watcher notices the commit, people sign off and approve, production answers."""
    response = delivered.ask_production()

    assert response.status_code == httpx.codes.OK
    assert response.headers["X-Taxiway-Model-Version"] == "1"
    assert all(0 <= score <= 1 for score in response.json()["predictions"])


def test_the_registry_tells_the_whole_story(delivered: Tumours) -> None:
    """The version has its aliases, its state, signed approval, and evidence of every stage."""
    registry = delivered.installation.services.registry
    champion = registry.by_alias(MODEL, "champion")
    assert champion is not None

    evidence = {Path(path).name for path in registry.list_files(champion.run_id, "taxiway")}

    stages = {"build", "unit_tests", "snapshot", "train", "evaluation", "gate", "uat", "approval", "release"}
    assert {f"{stage}.json" for stage in stages} <= evidence
    assert champion.tags["taxiway.state"] == "production"
    assert "dana" in json.dumps(registry.get_json(champion.run_id, "taxiway/approval.json"))


def test_status_tells_the_same_story(delivered: Tumours) -> None:
    """`taxiway status` names the version that production serves."""
    status = json.loads(delivered.installation.taxiway("status", "--json").stdout)

    assert "1" in json.dumps(status["models"][MODEL])
    assert status["models"][MODEL]["problems"] == []


def test_the_same_build_from_the_command_line_makes_no_second_candidate(delivered: Tumours) -> None:
    """`airflow dags trigger` starts the same CI; the same commit and data end at the version that exists."""
    installation = delivered.installation
    settings = installation.settings
    conf = json.dumps({"ref": "main", "data_end": delivered.data_end.isoformat()})
    airflow = str(Path(sys.executable).with_name("airflow"))
    command = [airflow, "dags", "trigger", f"{MODEL}.ci", "--conf", conf, "--run-id", "from-cli"]
    environment = {**os.environ, **airflow_environment(settings, installation.credentials)}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)

    finished = delivered.run("ci", "from-cli")

    assert finished["state"] == "success", finished
    assert {"success"} == {state for task, state in finished["tasks"].items() if task in ("checkout", "close_build")}
    assert {"skipped"} == {finished["tasks"][task] for task in ("unit_tests", "train", "register", "start_delivery")}
    assert [candidate.version for candidate in installation.services.registry.candidates(MODEL)] == [1]


@pytest.mark.parametrize(
    ("case", "task", "says"),
    [
        ("unknown-ref", "checkout", "no-such-branch"),
        ("no-taxiway-section", "checkout", "pyproject.toml has no [tool.taxiway]"),
        ("failing-unit-test", "unit_tests", "test_the_earth_is_flat"),
        ("no-rows", "snapshot_data", "has no labelled rows"),
        ("train-raises", "train", "no such luck"),
        ("train-hangs", "train", "wall time of 30 s"),
        ("no-model", "train", "no MLflow model was written"),
        ("no-signature", "train", "the model has no signature"),
    ],
)
def test_bad_input_is_one_clear_error_at_the_right_task(broken: Tumours, case: str, task: str, says: str) -> None:
    """The task fails at its first try with what went wrong and what to do next; nothing is registered."""
    finished = broken.run("ci", f"broken-{case}")

    assert finished["state"] == "failed"
    assert [name for name, state in finished["tasks"].items() if state == "failed"] == [task]
    log = broken.log("ci", f"broken-{case}", task)
    assert says in log
    assert "Next: " in log
    assert finished["tasks"]["register"] == "upstream_failed"
    registry = broken.installation.services.registry
    run_id = registry.open_build(MODEL, f"broken-{case}", {})
    registry.close_build(run_id, succeeded=False)
    assert says in str(registry.get_json(run_id, f"taxiway/failed/{task}.json")["reasons"])


def test_broken_builds_leave_production_untouched(broken: Tumours) -> None:
    """After all of them the champion still serves, and no candidate was made of a broken commit."""
    for case in (*BROKEN, "unknown-ref", "no-rows"):
        broken.run("ci", f"broken-{case}")

    assert broken.champion() == 1
    assert len(broken.installation.services.registry.candidates(MODEL)) == 1
    assert broken.ask_production().status_code == httpx.codes.OK


def test_a_missing_repository_or_dataset_hurts_only_its_own_model(delivered: Tumours) -> None:
    """A model whose repository is missing fails at checkout, one whose data is missing at the snapshot."""
    installation, url = delivered.installation, delivered.repository.url
    specs = {"ghost": ("file:///no/such/repository.git", str(delivered.data)), "empty": (url, "file:///no/such/data")}
    for name, (repository, data) in specs.items():
        text = spec_text(repository=repository, data=data, model=name)
        installation.add_spec(name, text)
        installation.airflow().trigger(f"{name}.ci", "try", {"ref": "main"})

    ghost, empty = (delivered.run("ci", "try", model=name) for name in specs)

    assert ("failed", "failed") == (ghost["tasks"]["checkout"], empty["tasks"]["snapshot_data"])
    assert "/no/such/repository.git" in delivered.log("ci", "try", "checkout", model="ghost")
    assert "/no/such/data" in delivered.log("ci", "try", "snapshot_data", model="empty")
    for name in specs:
        (installation.models / f"{name}.yaml").unlink()


def test_a_broken_spec_is_an_import_error_and_hides_no_model(delivered: Tumours) -> None:
    """An unknown key and a wrong type are shown with file and key; the other models' DAGs stay."""
    installation = delivered.installation
    text = spec_text(repository="file:///x.git", data="file:///x", model="typo", uat={"testers": "ana", "quorom": 1})
    (installation.models / "typo.yaml").write_text(text)

    def shown() -> str:
        return "\n".join(error["stack_trace"] for error in installation.airflow("admin").import_errors())

    wait_for(lambda: "typo.yaml" in shown(), "the import error")

    assert "typo.yaml: uat.quorom: unknown key; did you mean 'quorum'?" in shown()
    assert "typo.yaml: uat.testers" in shown()
    dags = {dag["dag_id"] for dag in installation.airflow().dags()}
    assert {f"{MODEL}.ci", "flight_delays.ci"} <= dags
    assert not any(dag.startswith("typo.") for dag in dags)
    (installation.models / "typo.yaml").unlink()
    wait_for(lambda: "typo.yaml" not in shown(), "the import error to go away")


def test_bad_params_are_refused_before_a_run_starts(delivered: Tumours) -> None:
    """A delivery without a version, and a reason that does not exist, are answered with what is wrong."""
    api = delivered.installation.airflow()

    for dag_id, conf in ((f"{MODEL}.delivery", {}), (f"{MODEL}.ci", {"reason": "boredom"})):
        body = {"dag_run_id": "refused", "logical_date": None, "conf": conf}
        response = api.request("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        assert response.status_code == httpx.codes.BAD_REQUEST, response.text


def test_a_rollback_without_an_earlier_version_says_so(delivered: Tumours) -> None:
    """With one version only there is nothing to go back to: a clear error, and production goes on."""
    delivered.installation.airflow().trigger(f"{MODEL}.rollback", "too-early", {"reason": "a test"})

    finished = delivered.run("rollback", "too-early")

    assert finished["state"] == "failed"
    assert "no previous version" in delivered.log("rollback", "too-early", "roll_back")
    assert delivered.champion() == 1
