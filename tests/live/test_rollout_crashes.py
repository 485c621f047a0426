"""A rollout survives SIGKILL of everything it needs, in each of its phases; callers notice next to nothing.

All the while two callers send requests, and a witness looks at production. One rollout is struck on its way to
promotion, another one on its way back:

    deploying   a worker that runs the task, gateway, MLflow, scheduler, scorer
    shadow      gateway, MLflow, scheduler, scorer, the workers that wait for tasks
    waiting     the same, one after the other, and the triggerer, while a person is asked
    canary      the same, and the triggerer
    promoting   the task, a worker that runs it, gateway, MLflow, scheduler, the scorer that now answers
    aborting    the challenger, then scorer, gateway, MLflow, scheduler; the task that clears up, its worker
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import httpx
import pytest

from taxiway.domain.rollout import Phase
from taxiway.domain.values import TrafficPlan, Window
from taxiway.errors import NotFoundError
from taxiway.stages.evidence_store import evidence_of
from taxiway.stages.rollout_store import stored_state
from tests.live.conftest import wait_for
from tests.live.ramp_setup import MODEL, SHORT, Ramp
from tests.live.strikes import (
    GATEWAY,
    Outage,
    frozen,
    kill,
    kill_idle_workers,
    kill_programs,
    kill_scorer,
    kill_task,
    kill_worker,
    orphans,
    strays,
)
from tests.live.traffic import Sent, Traffic
from tests.live.witness import Witness

_PERCENT = 30
_PATIENCE = 29.0  # seconds; a machine under heavy load needs more to load a model
_AIRFLOW = ("airflow-api-server", "airflow-dag-processor", "airflow-scheduler", "airflow-triggerer")
_ALWAYS = Window(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
_PROGRAMS = (GATEWAY, "mlflow", "airflow-scheduler")
# Long enough to be struck in. Whoever waits for a scorer that starts again waits long: not what is judged here.
_LONG = SHORT | {
    "shadow": {"duration": "20s", "min_requests": 20},
    "steps": [{"traffic": _PERCENT, "duration": "60s"}, {"traffic": 100}],
    # No agreement is surely perfect: after three times the shadow's duration a person is asked.
    "analysis": SHORT["analysis"] | {"max_latency_ratio": 10_000, "min_agreement": 1},
}
# Here it is what is judged: a challenger that dies keeps requests waiting, or fails them.
_STRICT = SHORT | {"steps": _LONG["steps"]}


@dataclass
class Struck:
    """One rollout that is struck under traffic."""

    ramp: Ramp
    champion: int
    version: int
    traffic: Traffic
    witness: Witness
    outages: list[Outage] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        """Return the run of the delivery."""
        return f"candidate-{self.version}"

    def reaches(self, plan: TrafficPlan) -> None:
        """Wait until production has the plan."""
        wait_for(lambda: self.ramp.plan() == plan, f"production to have {plan}", poll=0.05)

    @property
    def phase(self) -> Phase | None:
        """Return where the rollout is; None before it has begun."""
        registry = self.ramp.installation.services.registry
        state = stored_state(registry, registry.candidate(MODEL, self.version).run_id)
        return state.phase if state else None

    def strike(self, *blows: Callable[[], None], phase: Phase, plan: TrafficPlan) -> None:
        """Strike again and again; all the while the rollout stays where it is."""
        for blow in blows:
            blow()
            assert (self.phase, self.ramp.plan()) == (phase, plan)

    def programs(self, *more: str) -> Callable[[], None]:
        """Return the blow that kills all programs at once."""
        return lambda: self.kill_together(*_PROGRAMS, *more)

    def scorer(self, version: int) -> Callable[[], None]:
        """Return the blow that kills who answers: not a challenger that is watched, which would be taken out."""
        return lambda: kill_scorer(self.ramp.installation, MODEL, version)

    def workers(self) -> None:
        """Kill the workers that wait for tasks: after the scheduler, for a new one has new ones."""
        kill_idle_workers(self.ramp.installation)

    def kill_together(self, *names: str) -> None:
        """Kill programs; while the gateway of production is dead, nobody can be answered."""
        outage = kill_programs(self.ramp.installation, *names)
        if GATEWAY in names:
            self.outages.append(outage)

    def kill_task(self, task_id: str, strike: Callable[[int], bool] = kill) -> None:
        """Kill a task of the delivery, or its worker, as soon as it runs."""
        kill_task(self.ramp.installation, f"{MODEL}.delivery", self.run_id, task_id, strike)

    def excused(self, request: Sent) -> bool:
        """Tell whether the gateway was dead, or a scorer took longer to start than the gateway lets a request wait."""
        if request.status == httpx.codes.SERVICE_UNAVAILABLE:
            return request.over - request.sent > _PATIENCE
        return request.status == 0 and any(
            request.sent < outage.ended and request.over > outage.began for outage in self.outages
        )


@pytest.fixture(scope="module")
def long_ramp(ramp: Ramp) -> Iterator[Ramp]:
    """The model with phases that are long enough to be struck in."""
    ramp.declare(_LONG)
    yield ramp
    ramp.declare(SHORT)


def shadow(champion: int, version: int) -> TrafficPlan:
    """Return the traffic of the first step."""
    return TrafficPlan(champion, shadow=version)


def canary(champion: int, version: int) -> TrafficPlan:
    """Return the traffic of the second step."""
    return TrafficPlan(champion, version, _PERCENT)


@contextmanager
def struck_rollout(ramp: Ramp, branch: str) -> Iterator[Struck]:
    """Build the branch and let it into production under traffic; afterwards check what must always hold."""
    champion = ramp.champion()
    assert champion is not None
    version = ramp.build(branch)
    plans = [TrafficPlan(champion), shadow(champion, version), canary(champion, version), TrafficPlan(version)]
    with ramp.traffic() as traffic, Witness(ramp, plans, {champion, version}) as witness:
        struck = Struck(ramp, champion, version, traffic, witness)
        ramp.let_into_production(version)
        yield struck
        before = len(traffic.requests)
        wait_for(lambda: len(traffic.requests) > before + 20, "requests after all is over")
    assert witness.violations == []
    failed = [request for request in traffic.requests if request.status != 200 and not struck.excused(request)]
    assert failed == []
    assert_logged(struck)
    wait_for(lambda: strays(ramp.installation) == [], "the scorers of dead gateways to end")
    wait_for(lambda: orphans(ramp.installation) == [], "what dead programs and workers left to end")


def assert_logged(struck: Struck) -> None:
    """Every request that was answered is in the prediction log, once, with the version that answered it."""
    log = struck.ramp.installation.services.predictions("production").read(MODEL, _ALWAYS)
    answers = log[log["role"] != "shadow"]
    logged = Counter(zip(answers["request_id"], answers["version"].astype(str), strict=True))
    answered = [(request.request_id, request.version) for request in struck.traffic.requests if request.status == 200]
    assert [pair for pair in answered if logged[pair] != 1] == []


def test_a_rollout_that_is_struck_in_every_phase_is_promoted(long_ramp: Ramp) -> None:
    """Every phase outlives the death of gateway, scorer, MLflow, scheduler and worker; the release is whole."""
    with struck_rollout(long_ramp, "struck-and-promoted") as struck:
        champion, version = struck.champion, struck.version
        struck.kill_task("rollout.deploy_production", lambda task: struck.phase is not None and kill_worker(task))
        blows = (struck.programs(), struck.scorer(champion))
        struck.strike(*blows, phase=Phase.DEPLOYING, plan=TrafficPlan(champion))

        plan = shadow(champion, version)
        struck.reaches(plan)
        struck.strike(*blows, struck.workers, phase=Phase.SHADOW, plan=plan)
        long_ramp.asks(struck.run_id, "rollout.decide_shadow")
        one_by_one = [partial(struck.kill_together, name) for name in (*_PROGRAMS, "airflow-triggerer")]
        struck.strike(struck.scorer(champion), *one_by_one, struck.workers, phase=Phase.WAITING, plan=plan)
        long_ramp.decide(struck.run_id, "rollout.decide_shadow", "Approve")

        plan = canary(champion, version)
        struck.reaches(plan)
        blows = (struck.scorer(champion), struck.programs("airflow-triggerer"), struck.workers)
        struck.strike(*blows, phase=Phase.CANARY, plan=plan)

        struck.reaches(TrafficPlan(version))
        struck.kill_task("promote")
        struck.kill_task("promote", kill_worker)
        blows = (struck.programs(), struck.scorer(version))
        struck.strike(*blows, phase=Phase.PROMOTING, plan=TrafficPlan(version))
        finished = long_ramp.run("delivery", struck.run_id)

    assert finished["state"] == "success", finished
    assert_released(struck)


def assert_released(struck: Struck) -> None:
    """Production and registry agree on the new champion, and the records have all of its rollout."""
    champion, version = struck.champion, struck.version
    assert struck.ramp.champion() == version
    assert struck.witness.plans[-1] == TrafficPlan(version)
    registry = struck.ramp.installation.services.registry
    assert registry.candidate(MODEL, champion).tags["taxiway.state"] == "retired"
    release = evidence_of(registry, registry.candidate(MODEL, version).run_id, "release")
    assert release.subject["version"] == str(version)
    rollout = evidence_of(registry, registry.candidate(MODEL, version).run_id, "rollout")
    phases = [entry["phase"] for entry in rollout.figures["history"]]
    assert phases == ["deploying", "shadow", "waiting", "canary", "promoting", "promoted"]


def test_a_rollout_that_is_struck_while_it_aborts_is_aborted(long_ramp: Ramp) -> None:
    """A challenger that dies is taken out; everything may die over it, the task that clears up and its worker too."""
    installation = long_ramp.installation
    long_ramp.declare(_STRICT)
    with struck_rollout(long_ramp, "struck-and-aborted") as struck:
        champion, version = struck.champion, struck.version
        struck.reaches(canary(champion, version))
        kill_scorer(installation, MODEL, version, wait=False)
        struck.reaches(TrafficPlan(champion))
        kill_scorer(installation, MODEL, champion, wait=False)
        struck.kill_together(*_PROGRAMS)
        struck.kill_task("stop_delivery")
        struck.kill_task("stop_delivery", kill_worker)
        finished = long_ramp.run("delivery", struck.run_id)

    assert finished["state"] == "failed", finished
    assert long_ramp.champion() == champion
    assert struck.witness.plans[-1] == TrafficPlan(champion)
    assert TrafficPlan(version) not in struck.witness.plans
    registry = installation.services.registry
    rejected = registry.candidate(MODEL, version)
    assert rejected.tags["taxiway.state"] == "rejected"
    rollout = evidence_of(registry, rejected.run_id, "rollout")
    assert [entry["phase"] for entry in rollout.figures["history"]][-2:] == ["aborting", "aborted"]
    with pytest.raises(NotFoundError):
        evidence_of(registry, rejected.run_id, "release")
    served = {seen.version for seen in installation.services.target("production").status(MODEL).versions}
    assert version not in served


def test_production_answers_without_mlflow_and_airflow(long_ramp: Ramp) -> None:
    """While neither MLflow nor Airflow answers, production does, even after its gateway was killed."""
    installation, champion = long_ramp.installation, str(long_ramp.champion())
    with frozen(installation, "mlflow", *_AIRFLOW), long_ramp.traffic() as traffic:
        wait_for(lambda: traffic.answers()[200, champion] > 20, "answers")
        outage = kill_programs(installation, GATEWAY)
        answered = traffic.answers()[200, champion]
        wait_for(lambda: traffic.answers()[200, champion] > answered + 20, "answers of the new gateway")

    late = [request for request in traffic.requests if request.status == 0 and request.sent > outage.ended]
    assert late == []
    assert {(200, champion), (0, "")} >= set(traffic.answers())
    wait_for(lambda: installation.taxiway("status").returncode == 0, "everything to answer again", poll=2)
