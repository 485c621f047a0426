"""Where Airflow, MLflow and the gateways disagree about a model: pure comparisons of what each of them said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from taxiway.domain.values import CHALLENGER, CHAMPION, PREVIOUS, STAGING, Candidate, TargetStatus, TrafficPlan
from taxiway.stages.candidates import APPROVAL, CLOSED, DIGEST, STATE, WAITING, State
from taxiway.stages.orders import KeptOrder
from taxiway.supervisor.findings import Finding, weaker, wrong

_OPEN_IN_STAGING = frozenset({State.STAGING, State.TESTED, State.APPROVED})


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What was said about one model; None: who should have said it did not answer.

    `deliveries` are those that Airflow runs now, as run id -> version, `orders` the rollbacks that MLflow does not know
    yet, `unapproved` the versions whose approval for production does not hold, and why.
    """

    model: str
    versions: tuple[Candidate, ...] | None = None
    staging: TargetStatus | None = None
    production: TargetStatus | None = None
    deliveries: Mapping[str, int] | None = None
    orders: tuple[KeptOrder, ...] = ()
    unapproved: Mapping[int, str] = field(default_factory=dict)

    def version(self, number: int) -> Candidate | None:
        """Return a version as MLflow has it."""
        return next((version for version in self.versions or () if version.version == number), None)

    def holder(self, alias: str) -> Candidate | None:
        """Return the version that has the alias."""
        return next((version for version in self.versions or () if alias in version.aliases), None)

    def is_delivering(self, number: int) -> bool:
        """Tell whether a delivery of the version runs."""
        return number in (self.deliveries or {}).values()


def disagreements(facts: ModelFacts) -> list[Finding]:
    """Return everything that the three do not agree on, as far as they answered."""
    found = list(_orders(facts))
    if facts.versions is not None:
        found += [*_states(facts), *_aliases(facts), *_champion(facts), *_rollout(facts), *_staging(facts)]
        found += [*_deliveries(facts), *_approvals(facts), *_previous(facts)]
    for target in (facts.staging, facts.production):
        if target is not None:
            found += _deployed(facts, target, "production" if target is facts.production else "staging")
    return found


def _orders(facts: ModelFacts) -> Iterator[Finding]:
    """Name the rollbacks that were carried out while MLflow did not answer: what it says is older than they are."""
    for order in facts.orders:
        what = f"the rollback to version {order.to} by {order.by} ({order.reason}) is not recorded in MLflow yet"
        advice = f"repeat `taxiway rollback {facts.model}`, or start the DAG housekeeping; no delivery moves before."
        yield wrong(facts.model, what, advice)


def _approvals(facts: ModelFacts) -> Iterator[Finding]:
    """Judge the approvals of what production serves, or would serve after a rollback."""
    for number, why in sorted(facts.unapproved.items()):
        what = f"the approval of version {number} for production does not hold: {why}"
        yield wrong(facts.model, what, "find out who changed it in MLflow; roll back to a version that was approved.")


def _previous(facts: ModelFacts) -> Iterator[Finding]:
    """See that production has the previous champion ready: a rollback is one switch then, even without MLflow."""
    previous = facts.holder(PREVIOUS)
    if previous is None or facts.production is None or facts.production.plan is None:
        return
    loaded = {status.version for status in facts.production.versions}
    if previous.version not in loaded:
        what = f"{_name(previous)} is what a rollback would serve, but production has not loaded it"
        yield weaker(facts.model, what, "start the DAG housekeeping, which loads it; a rollback loads it first, too.")


def _states(facts: ModelFacts) -> Iterator[Finding]:
    """Judge each version by itself: a known state, the digest that verification needs, one production at most."""
    for version in facts.versions or ():
        name, state = _name(version), version.tags.get(STATE)
        if state is not None and _state(version) is None:
            yield wrong(facts.model, f"{name} has the state {state!r}, which Taxiway does not know", _SET_TAGS)
        if DIGEST not in version.tags:
            what = f"{name} has no digest: it was not registered by a build, and nothing can serve it"
            yield weaker(facts.model, what, "delete it in MLflow, or leave it alone.")
        if _state(version) is State.PRODUCTION and CHAMPION not in version.aliases:
            what = f"{name} is in state production, but the alias champion is {_alias(facts, CHAMPION)}"
            yield wrong(facts.model, what, _ROLL_BACK)


def _aliases(facts: ModelFacts) -> Iterator[Finding]:
    """Judge what an alias promises against the state of the version that has it.

    A champion whose production is being verified is still rolling out.
    """
    champion, previous, challenger = (facts.holder(alias) for alias in (CHAMPION, PREVIOUS, CHALLENGER))
    if champion is not None and _state(champion) not in (State.PRODUCTION, State.ROLLING_OUT, None):
        what = f"{_name(champion)} is champion, but its state is {_said(champion)}"
        yield wrong(facts.model, what, _ROLL_BACK)
    if champion is not None and APPROVAL not in champion.tags:
        what = f"{_name(champion)} is champion, but was never approved for production"
        yield wrong(facts.model, what, "find out who set the alias; roll back to a version that was approved.")
    if previous is not None and _state(previous) in CLOSED:
        what = f"{_name(previous)} is what a rollback would serve, but it is {_said(previous)}"
        yield wrong(facts.model, what, "name a good version in the next rollback, or point the alias `previous` to it.")
    if challenger is not None and _state(challenger) in CLOSED:
        what = f"{_name(challenger)} is challenger, but it is {_said(challenger)}: newer deliveries are not hindered"
        yield weaker(facts.model, what, "delete the alias `challenger` in MLflow.")


def _champion(facts: ModelFacts) -> Iterator[Finding]:
    """Compare the alias champion with who answers in production."""
    if facts.production is None:
        return
    champion, plan = facts.holder(CHAMPION), facts.production.plan
    expected, serving = (champion.version if champion else None), (plan.stable if plan else None)
    if expected == serving:
        return
    what = f"production serves {_number(serving)}, but the alias champion is {_alias(facts, CHAMPION)}"
    if serving is not None and facts.is_delivering(serving):
        yield weaker(
            facts.model, f"{what}: its delivery is just promoting it", "look again when the delivery has ended."
        )
    else:
        yield wrong(facts.model, what, _ROLL_BACK)


def _rollout(facts: ModelFacts) -> Iterator[Finding]:
    """Compare who gets part of production's traffic, or copies of it, with the version that is being rolled out."""
    rolling = [str(found.version) for found in facts.versions or () if _state(found) is State.ROLLING_OUT]
    if len(rolling) > 1:
        what = f"versions {' and '.join(sorted(rolling))} are rolling out at once"
        yield wrong(facts.model, what, _ROLL_BACK)
    plan = facts.production.plan if facts.production else None
    if plan is None:
        return
    for number, share in ((plan.challenger, "part of the traffic"), (plan.shadow, "copies of the traffic")):
        version = facts.version(number) if number is not None else None
        if version is not None and _state(version) is not State.ROLLING_OUT:
            what = f"{_name(version)} gets {share} in production, but its state is {_said(version)}: nobody watches it"
            yield wrong(facts.model, what, _ROLL_BACK)


def _staging(facts: ModelFacts) -> Iterator[Finding]:
    """Compare the alias staging, and the versions that are tested, with who answers in staging."""
    if facts.staging is None:
        return
    plan, holder = facts.staging.plan, facts.holder(STAGING)
    if holder is not None and plan is not None and plan.stable != holder.version:
        what = f"staging serves version {plan.stable}, but the alias staging is version {holder.version}"
        yield wrong(facts.model, what, "run the task deploy_staging of the newer version's delivery again.")
    tested = holder is not None and _state(holder) in _OPEN_IN_STAGING
    if holder is not None and tested and plan is None:
        what = f"{_name(holder)} is {_said(holder)}, but staging does not serve it: testers see nothing"
        yield wrong(facts.model, what, "run the task deploy_staging of its delivery again.")
    served = facts.version(plan.stable) if plan else None
    if served is not None and _state(served) in CLOSED:
        what = f"staging still serves version {served.version}, which is {_said(served)}"
        yield weaker(facts.model, what, "nothing: the next delivery replaces it.")


def _deliveries(facts: ModelFacts) -> Iterator[Finding]:
    """Compare the deliveries that run with the versions that wait for one."""
    if facts.deliveries is None:
        return
    for run_id, number in sorted(facts.deliveries.items()):
        version = facts.version(number)
        if version is None:
            what = f"the delivery {run_id} runs, but MLflow has no version {number}"
            yield wrong(facts.model, what, "mark the run as failed in Airflow.")
        elif _state(version) in CLOSED:
            what = f"the delivery {run_id} runs, but {_name(version)} is {_said(version)}"
            advice = "it ends at its next step, or when its question is answered; if not, mark the run as failed."
            yield (weaker if _state(version) is State.SUPERSEDED else wrong)(facts.model, what, advice)
    champion = facts.holder(CHAMPION)
    for version in facts.versions or ():
        if STATE not in version.tags or facts.is_delivering(version.version):
            continue
        newer = champion is None or version.version > champion.version
        if _state(version) is State.ROLLING_OUT:
            what = f"{_name(version)} is rolling out, but no delivery of it runs: newer versions wait for its end"
            advice = f"clear the failed tasks of its run in Airflow, or end it: `taxiway rollback {facts.model} "
            champions = str(champion.version) if champion else "<version>"
            yield wrong(facts.model, what, f"{advice}--to {champions} --reason ...`.")
        elif newer and _state(version) in WAITING:
            what = f"{_name(version)} is {_said(version)}, but no delivery of it runs"
            advice = f"retry its run in Airflow, or start {facts.model}.delivery with this version."
            yield wrong(facts.model, what, advice)


def _deployed(facts: ModelFacts, target: TargetStatus, environment: str) -> Iterator[Finding]:
    """Compare what a gateway has loaded with what MLflow knows."""
    for status in target.versions:
        name = f"version {status.version} in {environment}"
        traffic = target.plan is not None and _has_traffic(target.plan, status.version)
        if status.state == "failed":
            severity = wrong if traffic else weaker
            yield severity(facts.model, f"{name} does not run: {status.detail}", "see the gateway's log.")
        version = facts.version(status.version)
        if facts.versions is None:
            continue
        if version is None:
            yield wrong(facts.model, f"{name} is served, but MLflow does not know it", _WHO_DELETED)
            continue
        if DIGEST in version.tags and version.tags[DIGEST] != status.digest:
            what = f"{name} has digest {status.digest}, but {version.tags[DIGEST]} is registered"
            yield wrong(
                facts.model, what, "find out who changed the tag: the gateway serves what was signed and approved."
            )
        if traffic and environment == "production" and _state(version) in CLOSED:
            yield wrong(facts.model, f"{name} answers requests, but it is {_said(version)}", _ROLL_BACK)


_ROLL_BACK = "decide who shall serve, and run `taxiway rollback` with that version (`--to`): it sets all of them."
_SET_TAGS = "find out who changed the tag `taxiway.state` in MLflow, and put it back."
_WHO_DELETED = "find out who deleted it; deliver another version, so that what serves has its evidence."


def _has_traffic(plan: TrafficPlan, version: int) -> bool:
    return version in (plan.stable, plan.challenger, plan.shadow)


def _state(version: Candidate) -> State | None:
    """Return the state; None when the tag has a value that is no state."""
    value = version.tags.get(STATE, State.CANDIDATE.value)
    return State(value) if value in set(State) else None


def _said(version: Candidate) -> str:
    return version.tags.get(STATE, State.CANDIDATE.value).replace("_", " ")


def _name(version: Candidate) -> str:
    return f"version {version.version}"


def _number(version: int | None) -> str:
    return "nothing" if version is None else f"version {version}"


def _alias(facts: ModelFacts, alias: str) -> str:
    holder = facts.holder(alias)
    return _number(holder.version) if holder else "nobody's"
