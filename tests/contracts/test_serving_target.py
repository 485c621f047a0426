"""The serving port: the fake and the real gateway with real models keep the same promises."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from taxiway.adapters.gateway_target import GatewayTarget
from taxiway.adapters.model_signing import KeyVerifier
from taxiway.adapters.system_clock import SystemClock
from taxiway.domain.observation import CONCORDANCE, VersionObservation
from taxiway.domain.values import Release, TrafficPlan
from taxiway.errors import DataError, DeliveryStopped, IntegrityError, NotFoundError, SettingsError, TargetUnavailable
from taxiway.ports import ServingTarget
from tests.conftest import free_port
from tests.fakes_serving import FakeServingTarget
from tests.gateway_models import tiny_models
from tests.gateway_process import ENVIRONMENT, TOKEN, GatewayProcess, Publisher, wait_until

pytestmark = pytest.mark.timeout(600)  # the first test may have to build the models' environment
Keys = tuple[Path, Path]


@dataclass
class World:
    """A target, who publishes versions for it, and a model."""

    target: ServingTarget
    publisher: Publisher
    model: str
    releases: dict[int, Release] = field(default_factory=dict)

    def another_model(self) -> World:
        """Return the same with a model of its own, of which nothing is deployed."""
        return World(self.target, self.publisher, _name())

    def release(self, version: int) -> Release:
        """Return a version, published and approved for the target."""
        if version not in self.releases:
            self.releases[version] = self.publisher.release(self.model, version)
        return self.releases[version]

    def deploy(self, *versions: int) -> None:
        """Deploy versions; those that are deployed stay as they are."""
        for version in versions:
            self.target.deploy(self.release(version))

    def observation(self, version: int, since: datetime) -> VersionObservation:
        """Return what the version did."""
        found = {item.version: item for item in self.target.observe(self.model, since)}
        return found[version]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, registry: Path, keys: Keys) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("gateway"), registry, keys[1])
    process.start()
    yield process
    process.remove()


@pytest.fixture(scope="module", params=["fake", "gateway"])
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, registry: Path, keys: Keys
) -> World:
    publisher = Publisher(registry, tiny_models(tmp_path_factory.getbasetemp()), keys[0])
    if request.param == "fake":
        verifier = KeyVerifier(keys[1])
        fake = FakeServingTarget(SystemClock(), environment=ENVIRONMENT, answers=_linear, verifier=verifier)
        return World(fake, publisher, _name())
    gateway: GatewayProcess = request.getfixturevalue("gateway")
    return World(GatewayTarget(gateway.url, TOKEN), publisher, _name())


def test_unknown_model_is_not_served(world: World) -> None:
    """A model that nobody deployed has no plan and no versions, and cannot be asked."""
    world = world.another_model()

    status = world.target.status(world.model)

    assert (status.plan, status.versions) == (None, ())
    with pytest.raises(NotFoundError):
        world.target.predict(world.model, _rows())


def test_deployed_version_is_ready_without_traffic(world: World) -> None:
    """Deploying makes a version ready and moves no traffic, however often it is repeated."""
    world = world.another_model()
    release = world.release(1)
    world.target.deploy(release)
    world.target.deploy(release)

    status = world.target.status(world.model)
    assert [(item.version, item.digest, item.state) for item in status.versions] == [(1, release.digest, "ready")]
    assert status.plan is None
    with pytest.raises(NotFoundError):
        world.target.predict(world.model, _rows())


def test_stable_version_answers(world: World) -> None:
    """The stable version gives one prediction per row, whatever else the rows carry."""
    world.deploy(1)
    world.target.set_traffic(world.model, TrafficPlan(stable=1))

    answer = world.target.predict(world.model, _rows())

    assert answer.version == 1
    assert answer.values == pytest.approx((3.0, 2.5))
    assert answer.request_id


def test_switch_and_switch_back(world: World) -> None:
    """Traffic moves to a new version and back to the warm old one without another deployment."""
    world.deploy(1, 2)

    answered = []
    for version in (1, 2, 1):
        world.target.set_traffic(world.model, TrafficPlan(stable=version))
        answered.append(world.target.predict(world.model, _rows()).version)

    assert answered == [1, 2, 1]
    assert world.target.status(world.model).plan == TrafficPlan(stable=1)


def test_version_that_is_not_ready_gets_no_traffic(world: World) -> None:
    """A plan with an unknown version, or one that contradicts itself, is refused as a whole."""
    world.deploy(1)
    world.target.set_traffic(world.model, TrafficPlan(stable=1))

    for plan in (
        TrafficPlan(stable=9),
        TrafficPlan(stable=1, challenger=9, challenger_percent=5),
        TrafficPlan(stable=1, shadow=9),
        TrafficPlan(stable=1, challenger=1, challenger_percent=5),
        TrafficPlan(stable=1, challenger_percent=5),
    ):
        with pytest.raises(DeliveryStopped):
            world.target.set_traffic(world.model, plan)
    assert world.target.status(world.model).plan == TrafficPlan(stable=1)


def test_version_with_traffic_stays(world: World) -> None:
    """Only a version without traffic can be undeployed; a repeat, or an unknown version, changes nothing."""
    world.deploy(1, 2)
    world.target.set_traffic(world.model, TrafficPlan(stable=1))

    with pytest.raises(DeliveryStopped):
        world.target.undeploy(world.model, 1)
    for version in (2, 2, 9):
        world.target.undeploy(world.model, version)
    assert [item.version for item in world.target.status(world.model).versions] == [1]


def test_approval_for_something_else_is_refused(world: World) -> None:
    """An approval for another environment, version or digest, or a changed one, lets nothing in."""
    world = world.another_model()
    release = world.release(1)
    other = world.release(2)
    forged = Release.from_json(release.to_json() | {"approval": release.approval.replace("A", "B")})

    for refused in (
        world.publisher.approved(release, "production"),
        Release.from_json(release.to_json() | {"approval": other.approval}),
        Release.from_json(release.to_json() | {"digest": other.digest}),
        forged,
        Release.from_json(release.to_json() | {"approval": ""}),
    ):
        with pytest.raises(IntegrityError):
            world.target.deploy(refused)
    assert world.target.status(world.model).versions == ()


def test_observations_count_since_a_moment(world: World) -> None:
    """Requests, refused requests and the mean prediction are counted per version, from the moment on."""
    world.deploy(1, 2)
    world.target.set_traffic(world.model, TrafficPlan(stable=1))
    since = datetime.now(UTC)
    for _ in range(3):
        world.target.predict(world.model, _rows())
    with pytest.raises(DataError):
        world.target.predict(world.model, _rows().drop(columns="y"))

    seen, unused = world.observation(1, since), world.observation(2, since)

    assert (seen.requests, seen.errors) == (4, 1)
    assert seen.prediction_mean == pytest.approx(2.75)
    assert (unused.requests, unused.errors, unused.prediction_mean) == (0, 0, None)
    assert world.observation(1, datetime.now(UTC) + timedelta(hours=1)).requests == 0


def test_challenger_gets_its_share(world: World) -> None:
    """With 0 percent the challenger answers nothing, with 100 everything, with 40 about that."""
    world.deploy(1, 2)

    answered = {}
    for percent in (0, 40, 100):
        world.target.set_traffic(world.model, TrafficPlan(stable=1, challenger=2, challenger_percent=percent))
        versions = [world.target.predict(world.model, _rows()).version for _ in range(60)]
        answered[percent] = versions.count(2)

    assert answered[0] == 0
    assert 5 < answered[40] < 50
    assert answered[100] == 60


def test_failing_challenger_fails_no_request(world: World) -> None:
    """When the challenger cannot answer, the stable version does, and the challenger has the error."""
    world.deploy(1, 3)  # version 3 wants a column that callers do not send
    since = datetime.now(UTC)
    world.target.set_traffic(world.model, TrafficPlan(stable=1, challenger=3, challenger_percent=100))

    assert world.target.predict(world.model, _rows()).version == 1
    assert (world.observation(3, since).requests, world.observation(3, since).errors) == (1, 1)
    assert (world.observation(1, since).requests, world.observation(1, since).errors) == (1, 0)


def test_shadow_is_asked_and_never_answers(world: World) -> None:
    """A shadow gets a copy of each request; the stable version answers."""
    world.deploy(1, 2)
    since = datetime.now(UTC)
    world.target.set_traffic(world.model, TrafficPlan(stable=1, shadow=2))

    assert {world.target.predict(world.model, _rows()).version for _ in range(3)} == {1}
    wait_until(lambda: world.observation(2, since).requests == 3)
    assert world.observation(2, since).prediction_mean == pytest.approx((4.0 + 3.0) / 2)


def test_answers_of_shadow_and_champion_are_compared(world: World) -> None:
    """Predictions are counted on the same bins, and the answers to each request are compared with each other."""
    world.deploy(1, 2)
    since = datetime.now(UTC)
    world.target.set_traffic(world.model, TrafficPlan(stable=1, shadow=2))
    for _ in range(3):
        world.target.predict(world.model, _rows())

    def compared() -> VersionObservation | None:
        shadow = world.observation(2, since)
        return shadow if shadow.agreement and shadow.agreement.requests == 3 else None

    champion, shadow = world.observation(1, since), wait_until(compared)
    assert champion.predictions is not None
    assert shadow.predictions is not None
    assert (champion.predictions.rows, champion.predictions.bins) == (6, shadow.predictions.bins)
    assert shadow.agreement is not None
    assert shadow.agreement.measure == CONCORDANCE
    assert shadow.agreement.value == pytest.approx(2 * 0.125 / (0.0625 + 0.25 + 0.5625))


def test_nobody_there_is_transient() -> None:
    """A target that does not answer is worth another try."""
    fake = FakeServingTarget(SystemClock())
    fake.unavailable = True

    for target in (fake, GatewayTarget(f"http://127.0.0.1:{free_port()}", TOKEN)):
        with pytest.raises(TargetUnavailable):
            target.status("anything")


def test_wrong_token_is_a_wrong_setting(gateway: GatewayProcess) -> None:
    """Without the right token nothing can be controlled, and trying again does not help."""
    with pytest.raises(SettingsError):
        GatewayTarget(gateway.url, "another token").status("anything")


def _name() -> str:
    return f"model_{uuid.uuid4().hex[:12]}"


def _rows() -> pd.DataFrame:
    """Return two rows with key, time, a missing value and a text besides the features."""
    return pd.DataFrame(
        {
            "id": ["a", "b"],
            "at": pd.to_datetime(["2013-02-01T10:00:00Z", None]),
            "x": [1.0, 0.5],
            "y": [2, 2],
            "note": [float("nan"), "é"],
        }
    )


def _linear(version: int, frame: pd.DataFrame) -> list[float]:
    """Predict as the tiny models do."""
    wanted = {"x", "y", "z"} if version == 3 else {"x", "y"}
    if not wanted <= set(frame.columns):
        raise DataError("a column is missing")
    return [float(value) for value in frame["x"] * version + frame["y"]]
