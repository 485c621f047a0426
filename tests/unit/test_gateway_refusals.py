"""The real gateway serves nothing but what was signed: not for a delivery, a rollback, or its own restart.

A rollback needs nothing but this gateway.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from taxiway.adapters.gateway_target import GatewayTarget
from taxiway.domain.values import CHAMPION, PREVIOUS, Release, TrafficPlan
from taxiway.errors import IntegrityError
from taxiway.stages.candidates import APPROVAL, DIGEST, LOCK
from taxiway.stages.model_files import ModelFiles
from taxiway.stages.orders import Orders
from taxiway.stages.rollback import Order, Rollbacks
from taxiway.supervisor.credentials import ensure_credentials, write_private
from taxiway.supervisor.installation import Installation, Ports
from tests.conftest import free_port
from tests.fakes import FakeClock, FakeNotifier, FakeRegistry, FakeRun
from tests.gateway_process import PROJECT, TOKEN, GatewayProcess, Publisher, Start, gateways, tiny_models, wait_until
from tests.unit.model_versions import example_spec
from tests.unit.test_model_files import CHANGES_AT_REST, STORED_CHANGES, Change

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


@pytest.mark.parametrize("case", ["link", "another-key", "other-lock"])
def test_files_changed_on_the_gateways_disk_are_not_loaded_again(
    start: Start, publisher: Publisher, model: str, case: str
) -> None:
    """A gateway that starts again verifies its own files before it loads them."""
    gateway = start()
    target = GatewayTarget(gateway.url, TOKEN)
    target.deploy(publisher.release(model, 1))
    target.set_traffic(model, TrafficPlan(stable=1))
    gateway.stop()
    change, says = CHANGES_AT_REST[case]
    change(ModelFiles(gateway.home / "versions" / model / "1"))
    gateway.start()

    wait_until(lambda: target.status(model).versions[0].state == "failed")
    assert says in target.status(model).versions[0].detail


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
