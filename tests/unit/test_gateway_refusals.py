"""The real gateway serves nothing but what was signed: not for a delivery, a rollback, or its own restart.

A rollback needs nothing but this gateway.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import httpx
import pytest

from taxiway.adapters.gateway_target import GatewayTarget
from taxiway.domain.values import CHAMPION, PREVIOUS, Release, TrafficPlan
from taxiway.errors import IntegrityError
from taxiway.gateway.state import Desired, save_state
from taxiway.stages.candidates import APPROVAL, DIGEST, LOCK
from taxiway.stages.model_files import ModelFiles
from taxiway.stages.orders import Orders
from taxiway.stages.rollback import Order, Rollbacks
from taxiway.supervisor.credentials import ensure_credentials, write_private
from taxiway.supervisor.installation import Installation, Ports
from tests.conftest import free_port
from tests.fakes import FakeClock, FakeNotifier, FakeRegistry, FakeRun
from tests.gateway_models import PROJECT, tiny_models
from tests.gateway_process import ENVIRONMENT, TOKEN, GatewayProcess, Publisher, Start, gateways, wait_until
from tests.unit.model_versions import example_spec
from tests.unit.test_model_files import CHANGES_AT_REST, STORED_CHANGES, Change

APPROVAL_CHANGES = {
    "for another environment": "environment",
    "for another version": "version",
    "for another model": "model",
    "for another digest": "digest",
    "for another lock": "lock",
    "forged": "",
    "missing": "",
}
"""What can be done to the approval in the gateway's state -> what the refusal says."""
pytestmark = pytest.mark.timeout(600)  # the first test may have to build the models' environment


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> Publisher:
    models = tiny_models(tmp_path_factory.getbasetemp())
    return Publisher(tmp_path_factory.mktemp("registry"), models, keys[0])


@pytest.fixture(scope="module")
def start(publisher: Publisher, keys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with gateways(publisher, keys, tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="module")
def gateway(start: Start) -> GatewayProcess:
    return start()


@pytest.fixture
def model() -> str:
    return f"model_{uuid.uuid4().hex[:12]}"


def change_stored(publisher: Publisher, release: Release, change: Change, directory: Path) -> None:
    """Change the files in the store, where they lie under other names than on a gateway."""
    run, files = publisher.run_of(release.model, release.version), ModelFiles(directory / "files")
    files.directory.mkdir()
    places = {run / "model": files.model, run / "taxiway" / "model.sig": files.signature}
    places[run / "taxiway" / "requirements.txt"] = files.lock
    for stored, known in places.items():
        stored.rename(known)
    change(files)
    for stored, known in places.items():
        if known.exists():
            known.rename(stored)


@pytest.mark.parametrize("case", STORED_CHANGES)
def test_what_was_changed_in_the_store_is_not_served(
    gateway: GatewayProcess, publisher: Publisher, model: str, tmp_path: Path, case: str
) -> None:
    """Nothing of a changed version is loaded, and nothing of it stays on the gateway."""
    release = publisher.release(model, 1)
    change, says = STORED_CHANGES[case]
    change_stored(publisher, release, change, tmp_path)
    target = GatewayTarget(gateway.url, TOKEN)

    with pytest.raises(IntegrityError, match=says):
        target.deploy(release)
    assert target.status(model).versions == ()
    assert not (gateway.home / "versions" / model / "1").exists()


def test_a_rollback_to_changed_files_moves_no_traffic(
    gateway: GatewayProcess, publisher: Publisher, model: str, tmp_path: Path
) -> None:
    """The version that a rollback names is verified before it loads: production stays as it was, aliases too."""
    registry, target = FakeRegistry(), GatewayTarget(gateway.url, TOKEN)
    releases = [publisher.release(model, version) for version in (1, 2)]
    for release in releases:
        registry.runs[release.run_id] = FakeRun(model, release.run_id, {})
        tags = {DIGEST: release.digest, LOCK: release.lock_digest, APPROVAL: release.approval}
        registry.register(model, release.run_id, tags, "")
    target.deploy(releases[1])
    target.set_traffic(model, TrafficPlan(stable=2))
    registry.set_alias(model, CHAMPION, 2)
    registry.set_alias(model, PREVIOUS, 1)
    change_stored(publisher, releases[0], STORED_CHANGES["added"][0], tmp_path)
    spec = example_spec().model_copy(update={"model": model})

    with pytest.raises(IntegrityError, match="digest"):
        Rollbacks(spec, registry, target, Orders(tmp_path / "rollbacks"), FakeClock(), FakeNotifier()).roll_back(
            Order("dana", "wrong answers")
        )

    champion = registry.by_alias(model, CHAMPION)
    assert target.status(model).plan == TrafficPlan(stable=2)
    assert champion is not None
    assert champion.version == 2


def test_nothing_that_was_changed_on_its_disk_is_loaded_again(start: Start, publisher: Publisher) -> None:
    """A gateway that starts again verifies files and approvals before it loads: each change is found, and named."""
    gateway = start()
    gateway.stop()
    state = {case: _at_rest(gateway, publisher, f"rest_{number}") for number, case in enumerate(CHANGES_AT_REST)}
    says = {release.model: CHANGES_AT_REST[case][1] for case, release in state.items()}
    for case, release in state.items():
        CHANGES_AT_REST[case][0](_files(gateway, release))
    for number, (change, text) in enumerate(APPROVAL_CHANGES.items()):
        release = _at_rest(gateway, publisher, f"approval_{number}")
        state[change] = _with_changed_approval(release, change, publisher)
        says[release.model] = text
    desired = {item.model: Desired({item.version: item}, TrafficPlan(stable=item.version)) for item in state.values()}
    save_state(gateway.home / "state.json", desired)

    gateway.start()

    target = GatewayTarget(gateway.url, TOKEN)
    wait_until(lambda: set(_ready(gateway)[1].values()) == {"failed"})
    found = {model: target.status(model).versions[0].detail for model in says}
    assert {model: detail for model, detail in found.items() if says[model] not in detail} == {}
    assert _ready(gateway)[0] == 503
    assert gateway.scorers() == []
    assert {_status_of_a_request(gateway, model) for model in says} == {503}


def _files(gateway: GatewayProcess, release: Release) -> ModelFiles:
    return ModelFiles(gateway.home / "versions" / release.model / str(release.version))


def _at_rest(gateway: GatewayProcess, publisher: Publisher, model: str) -> Release:
    """Put a good version on the disk of a gateway that does not run, as a delivery would have."""
    release = publisher.release(model, 1)
    run, files = publisher.run_of(model, 1), _files(gateway, release)
    shutil.copytree(run / "model", files.model)
    shutil.copyfile(run / "taxiway" / "model.sig", files.signature)
    shutil.copyfile(run / "taxiway" / "requirements.txt", files.lock)
    return release


def _with_changed_approval(release: Release, change: str, publisher: Publisher) -> Release:
    """Return the release with an approval that was given for something else, or by nobody."""
    others = {
        "for another environment": lambda: publisher.approved(release, "production"),
        "for another version": lambda: publisher.approved(replace(release, version=2), ENVIRONMENT),
        "for another model": lambda: publisher.approved(replace(release, model="other"), ENVIRONMENT),
        "for another digest": lambda: publisher.approved(replace(release, digest="sha256:0"), ENVIRONMENT),
        "for another lock": lambda: publisher.approved(replace(release, lock_digest="sha256:0"), ENVIRONMENT),
        "forged": lambda: replace(release, approval=release.approval.replace("A", "B")),
        "missing": lambda: replace(release, approval=""),
    }
    return replace(release, approval=others[change]().approval)


def _ready(gateway: GatewayProcess) -> tuple[int, dict[str, str]]:
    answer = httpx.get(f"{gateway.url}/readyz", trust_env=False)
    return answer.status_code, {model: states["1"] for model, states in answer.json()["models"].items()}


def _status_of_a_request(gateway: GatewayProcess, model: str) -> int:
    return httpx.post(
        f"{gateway.url}/models/{model}/invocations",
        content='{"inputs": {"x": [1.0], "y": [1.0]}}',
        headers={"Content-Type": "application/json"},
        trust_env=False,
    ).status_code


def test_a_rollback_needs_nothing_but_the_gateway(
    gateway: GatewayProcess, publisher: Publisher, model: str, tmp_path: Path
) -> None:
    """`taxiway rollback` without MLflow and Airflow takes production back and keeps the order; typed again, no more."""
    target = GatewayTarget(gateway.url, TOKEN)
    for version in (1, 2):
        target.deploy(publisher.release(model, version))
    target.set_traffic(model, TrafficPlan(stable=2))
    home = tmp_path / "home"
    installation = Installation(home, tmp_path / "models", Ports(free_port(), free_port(), free_port(), gateway.port))
    installation.save()
    write_private(home / "secrets.json", asdict(replace(ensure_credentials(home, ()), production_token=TOKEN)))
    write_spec(installation.models, model)

    command = [sys.executable, "-c", "from taxiway.cli import main; main()", "rollback", model, "--home", str(home)]
    words = ["--reason", "wrong answers", "--by", "dana"]
    typed = [subprocess.run([*command, *words], capture_output=True, text=True, check=False) for _ in range(2)]

    assert [0, 0] == [done.returncode for done in typed], typed
    assert f"{model}: production went from version 2 to version 1 in" in typed[0].stdout
    assert "not recorded in MLflow yet" in typed[0].stdout
    assert TrafficPlan(stable=1) == target.status(model).plan
    assert [(2, 1, "dana")] == [(kept.leaves, kept.to, kept.by) for kept in Orders(home / "rollbacks").waiting(model)]


def write_spec(models: Path, model: str) -> None:
    """Write the example's spec under another name."""
    models.mkdir()
    for name in ("_defaults", "flight_delays"):
        text = (PROJECT / "include" / "models" / f"{name}.yaml").read_text(encoding="utf-8")
        path = models / f"{name}.yaml".replace("flight_delays", model)
        path.write_text(text.replace("model: flight_delays", f"model: {model}"), encoding="utf-8")
