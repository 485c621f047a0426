"""The registry port: the fake and MLflow keep the same promises."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from taxiway.adapters.mlflow_registry import MlflowRegistry
from taxiway.errors import NotFoundError, PermanentError, RegistryUnavailable, SettingsError
from taxiway.ports import Registry
from tests.conftest import free_port
from tests.fakes import FakeClock, FakeRegistry

pytestmark = pytest.mark.timeout(300)  # the first test waits for MLflow to start
NO_RUN = "0" * 32


@pytest.fixture(params=["fake", "mlflow"])
def registry(request: pytest.FixtureRequest) -> Registry:
    if request.param == "fake":
        return FakeRegistry()
    return MlflowRegistry(request.getfixturevalue("mlflow_url"))


@pytest.fixture
def model() -> str:
    return f"model_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def run_id(registry: Registry, model: str) -> str:
    return registry.open_build(model, "commit-1", {})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    files = tmp_path / "model"
    (files / "data/deep").mkdir(parents=True)
    (files / "MLmodel").write_text("flavors: {}")
    (files / ".hidden").write_bytes(b"\x00\xff")
    (files / "data/deep/a name with spaces.txt").write_text("é")
    (files / "empty").touch()
    return files


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_open_build_finds_the_same_run_again(registry: Registry, model: str) -> None:
    """The run of a build is found again by model and build id, whatever its name contains."""
    for build_id in ("commit-1", "commit-2", "it's a build"):
        first = registry.open_build(model, build_id, {"taxiway.commit": "abc"})
        assert registry.open_build(model, build_id, {"taxiway.commit": "abc"}) == first


def test_builds_are_apart(registry: Registry, model: str) -> None:
    """Another build, and the same build id of another model, are other runs."""
    runs = {
        registry.open_build(name, build_id, {})
        for name in (model, f"{model}_b")
        for build_id in ("commit-1", "commit-2")
    }
    assert len(runs) == 4


def test_a_closed_build_can_be_opened_again(registry: Registry, model: str, run_id: str) -> None:
    """A retry of a failed build goes on in the same run."""
    registry.close_build(run_id, succeeded=False)
    assert registry.open_build(model, "commit-1", {}) == run_id
    registry.close_build(run_id, succeeded=True)


def test_a_directory_comes_back_as_it_was_stored(
    registry: Registry, run_id: str, directory: Path, tmp_path: Path
) -> None:
    """Every file of a stored directory comes back with the same bytes: nested, hidden and empty ones too."""
    registry.put_directory(run_id, "model", directory)
    registry.get_directory(run_id, "model", tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(directory)


def test_a_directory_is_replaced_as_a_whole(registry: Registry, run_id: str, directory: Path, tmp_path: Path) -> None:
    """A second try leaves none of the first one's files, and touches nothing outside of its path."""
    registry.put_json(run_id, "taxiway/gate.json", {})
    registry.put_directory(run_id, "model", directory)
    (directory / "data/deep/a name with spaces.txt").unlink()
    (directory / "MLmodel").write_text("changed")
    registry.put_directory(run_id, "model", directory)
    registry.get_directory(run_id, "model", tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(directory)
    assert registry.list_files(run_id, "taxiway") == ["taxiway/gate.json"]


def test_a_file_is_replaced(registry: Registry, run_id: str, tmp_path: Path) -> None:
    """Storing a file again replaces it, and reading makes the directories it needs."""
    source = tmp_path / "source"
    for content in (b"one", b"two" * 1_000_000):
        source.write_bytes(content)
        registry.put_file(run_id, "taxiway/deep/file.bin", source)
    registry.get_file(run_id, "taxiway/deep/file.bin", tmp_path / "new/place/file.bin")
    assert contents(tmp_path / "new") == {"place/file.bin": b"two" * 1_000_000}


def test_json_round_trip(registry: Registry, run_id: str) -> None:
    """A JSON document comes back equal."""
    document = {"figures": {"roc_auc": 0.7, "none": None}, "reasons": ["größer", 'a "quote"'], "ok": True}
    registry.put_json(run_id, "taxiway/evaluate.json", document)
    assert registry.get_json(run_id, "taxiway/evaluate.json") == document


def test_list_files_names_files_directly_below(registry: Registry, run_id: str) -> None:
    """A listing has the sorted paths (within the run) of files directly below; an unknown path lists nothing."""
    for path in ("taxiway/b.json", "taxiway/a.json", "taxiway/monitoring/w/report.json", "top.json"):
        registry.put_json(run_id, path, {})
    assert registry.list_files(run_id, "taxiway") == ["taxiway/a.json", "taxiway/b.json"]
    assert registry.list_files(run_id, "") == ["top.json"]
    assert registry.list_files(run_id, "nothing") == []


def test_missing_files_are_not_found(registry: Registry, run_id: str, tmp_path: Path) -> None:
    """Reading what was never stored raises NotFoundError and leaves nothing behind."""
    with pytest.raises(NotFoundError):
        registry.get_file(run_id, "taxiway/none.bin", tmp_path / "none.bin")
    with pytest.raises(NotFoundError):
        registry.get_directory(run_id, "none", tmp_path / "none")
    with pytest.raises(NotFoundError):
        registry.get_json(run_id, "none.json")
    assert list(tmp_path.iterdir()) == []


def test_a_file_has_an_address_to_look_at(registry: Registry, run_id: str) -> None:
    """The address that a person is given names the run and the file."""
    page = registry.page(run_id, "taxiway/report.html")

    assert run_id in page
    assert page.endswith("taxiway/report.html")


def test_an_unknown_run_is_not_found(registry: Registry, model: str) -> None:
    """Everything about a run that does not exist raises NotFoundError."""
    with pytest.raises(NotFoundError):
        registry.put_json(NO_RUN, "a.json", {})
    with pytest.raises(NotFoundError):
        registry.list_files(NO_RUN, "")
    with pytest.raises(NotFoundError):
        registry.log_metrics(NO_RUN, {"roc_auc": 0.7})
    with pytest.raises(NotFoundError):
        registry.close_build(NO_RUN, succeeded=True)
    with pytest.raises(NotFoundError):
        registry.register(model, NO_RUN, {}, "")


def test_register_makes_one_version_per_run(registry: Registry, model: str, run_id: str) -> None:
    """Registering a run again returns its version as it is now, with the tags of the first time."""
    first = registry.register(model, run_id, {"taxiway.build": "b1"}, "the first")
    registry.set_alias(model, "staging", first.version)
    again = registry.register(model, run_id, {"taxiway.build": "other"}, "the second")
    assert (first.model, first.version, first.run_id) == (model, 1, run_id)
    assert (again.version, dict(again.tags), again.aliases) == (1, {"taxiway.build": "b1"}, {"staging"})
    assert len(registry.candidates(model)) == 1


def test_candidates_are_newest_first(registry: Registry, model: str) -> None:
    """All versions come newest first, each with its tags and aliases; an unknown model has none."""
    for number in (1, 2, 3):
        run = registry.open_build(model, f"commit-{number}", {})
        registry.register(model, run, {"number": str(number)}, "")
    registry.set_alias(model, "champion", 1)
    registry.set_alias(model, "previous", 1)
    found = registry.candidates(model)
    assert [(item.version, item.tags["number"]) for item in found] == [(3, "3"), (2, "2"), (1, "1")]
    assert [item.aliases for item in found] == [frozenset(), frozenset(), frozenset({"champion", "previous"})]
    assert found[-1] == registry.candidate(model, 1)
    assert registry.candidates("no_such_model") == []


def test_find_candidate_returns_the_newest_with_the_tag(registry: Registry, model: str) -> None:
    """Of several versions with the tag the newest is found; of none, None."""
    for number, build in enumerate(("it's x", "it's x", "y"), start=1):
        registry.register(model, registry.open_build(model, f"commit-{number}", {}), {"taxiway.build": build}, "")
    found = registry.find_candidate(model, "taxiway.build", "it's x")
    assert found is not None
    assert found.version == 2
    assert registry.find_candidate(model, "taxiway.build", "z") is None
    assert registry.find_candidate("no_such_model", "taxiway.build", "y") is None


def test_an_alias_moves_and_goes(registry: Registry, model: str) -> None:
    """An alias points to one version at a time; deleting it twice is harmless; unknown ones are None."""
    for number in (1, 2):
        registry.register(model, registry.open_build(model, f"commit-{number}", {}), {}, "")
    assert registry.by_alias(model, "champion") is None
    registry.set_alias(model, "champion", 1)
    registry.set_alias(model, "champion", 2)
    champion = registry.by_alias(model, "champion")
    assert champion is not None
    assert (champion.version, champion.aliases) == (2, {"champion"})
    assert registry.candidate(model, 1).aliases == frozenset()
    registry.delete_alias(model, "champion")
    registry.delete_alias(model, "champion")
    registry.delete_alias("no_such_model", "champion")
    assert registry.by_alias(model, "champion") is None
    assert registry.by_alias("no_such_model", "champion") is None


def test_tags_are_added_and_replaced(registry: Registry, model: str, run_id: str) -> None:
    """Setting tags replaces those of the same name, keeps the others, and leaves aliases alone."""
    registry.register(model, run_id, {"taxiway.state": "candidate", "taxiway.commit": "abc"}, "")
    registry.set_alias(model, "staging", 1)
    registry.set_tags(model, 1, {"taxiway.state": "staging", "taxiway.signoff.ana": '{"accepted": true}'})
    candidate = registry.candidate(model, 1)
    assert candidate.tags == {
        "taxiway.state": "staging",
        "taxiway.commit": "abc",
        "taxiway.signoff.ana": '{"accepted": true}',
    }
    assert candidate.aliases == {"staging"}


def test_an_unknown_version_is_not_found(registry: Registry, model: str, run_id: str) -> None:
    """A version that does not exist cannot be read, tagged or pointed to."""
    registry.register(model, run_id, {}, "")
    for name, version in ((model, 2), ("no_such_model", 1)):
        with pytest.raises(NotFoundError):
            registry.candidate(name, version)
        with pytest.raises(NotFoundError):
            registry.set_alias(name, "champion", version)
        with pytest.raises(NotFoundError):
            registry.set_tags(name, version, {"a": "b"})


def test_a_refusal_is_permanent(registry: Registry, model: str, run_id: str) -> None:
    """What the registry refuses is no reason to try again."""
    registry.register(model, run_id, {}, "")
    with pytest.raises(PermanentError, match="alias"):
        registry.set_alias(model, "not an alias", 1)


@pytest.fixture
def mlflow(mlflow_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{mlflow_url}/api/2.0/mlflow/") as client:
        yield client


def test_mlflow_shows_what_a_build_was(mlflow_url: str, mlflow: httpx.Client, model: str, directory: Path) -> None:
    """People find build id, commit, figures, status, description and model files where MLflow's pages show them."""
    registry = MlflowRegistry(mlflow_url, clock=FakeClock())
    assert registry.open_build(model, "commit-abc", {"taxiway.commit": "not yet known"})
    run_id = registry.open_build(model, "commit-abc", {"taxiway.commit": "abc"})
    registry.put_directory(run_id, "model", directory)
    registry.log_metrics(run_id, {"roc_auc": 0.7, "undefined": float("nan")})
    registry.register(model, run_id, {}, "Built from abc")
    registry.close_build(run_id, succeeded=True)

    run = mlflow.get("runs/get", params={"run_id": run_id}).json()["run"]
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    version = mlflow.get("model-versions/get", params={"name": model, "version": "1"}).json()["model_version"]
    experiment = mlflow.get("experiments/get-by-name", params={"experiment_name": model}).json()["experiment"]
    assert (run["info"]["run_name"], run["info"]["status"]) == ("commit-abc", "FINISHED")
    assert run["info"]["experiment_id"] == experiment["experiment_id"]
    assert run["info"]["start_time"] == int(FakeClock().now().timestamp() * 1000)
    assert {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}["roc_auc"] == 0.7
    assert (tags["mlflow.source.git.commit"], tags["taxiway.build_id"]) == ("abc", "commit-abc")
    assert (version["description"], version["status"]) == ("Built from abc", "READY")
    assert version["source"] == f"{run['info']['artifact_uri']}/model"


def test_mlflow_takes_collisions(mlflow_url: str, model: str) -> None:
    """Clients that make the same new alias and tag at once all succeed."""
    registry = MlflowRegistry(mlflow_url)
    registry.register(model, registry.open_build(model, "commit-1", {}), {}, "")
    with ThreadPoolExecutor(8) as pool:
        for number in range(5):
            list(pool.map(lambda _, n=number: registry.set_alias(model, f"alias_{n}", 1), range(8)))
            list(pool.map(lambda _, n=number: registry.set_tags(model, 1, {f"tag_{n}": "x"}), range(8)))
    candidate = registry.candidate(model, 1)
    assert candidate.aliases == {f"alias_{number}" for number in range(5)}
    assert candidate.tags == {f"tag_{number}": "x" for number in range(5)}


def test_more_versions_than_a_page(mlflow_url: str, model: str) -> None:
    """A model with more versions than MLflow lists at once still lists them all."""
    registry = MlflowRegistry(mlflow_url, page_size=2)
    for number in range(5):
        registry.register(model, registry.open_build(model, f"commit-{number}", {}), {}, "")
    assert [candidate.version for candidate in registry.candidates(model)] == [5, 4, 3, 2, 1]


def test_silence_is_transient() -> None:
    """An MLflow that does not answer is worth another try."""
    with pytest.raises(RegistryUnavailable):
        MlflowRegistry(f"http://127.0.0.1:{free_port()}").candidates("model")


def test_an_mlflow_without_proxy_is_a_wrong_setting(mlflow_url: str, mlflow: httpx.Client, model: str) -> None:
    """Runs whose artifacts the server does not serve are refused with the option that is missing."""
    location = {"name": model, "artifact_location": "s3://somewhere/else"}
    assert mlflow.post("experiments/create", json=location).is_success
    registry = MlflowRegistry(mlflow_url)
    with pytest.raises(SettingsError, match="--serve-artifacts"):
        registry.put_json(registry.open_build(model, "commit-1", {}), "a.json", {})
