"""What pages and API show: read-only values, made from the registry and the model specs at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from taxiway.domain.evidence import Evidence
from taxiway.domain.uat import SignOff
from taxiway.domain.values import CHALLENGER, CHAMPION, PREVIOUS, Candidate
from taxiway.errors import NotFoundError, PermanentError
from taxiway.ports import Registry
from taxiway.spec import ModelSpec
from taxiway.spec_files import SpecSet
from taxiway.stages.candidates import DIGEST, LOCK, REASON, REQUESTED_BY, STATE, VERDICT, State, evaluation_page
from taxiway.stages.uat import UatCase, sign_offs, uat_cases, uat_decision
from taxiway.web.access import Installation


@dataclass(frozen=True, slots=True)
class Waiting:
    """What has to happen next with a version, and who can do it (nobody named: the pipeline)."""

    what: str
    people: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VersionSummary:
    """One version in a list; texts are empty when they are not known."""

    model: str
    version: int
    state: str
    aliases: tuple[str, ...]
    commit: str
    author: str
    requested_by: str
    verdict: str
    trained_until: str
    waiting: Waiting | None


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """One model: who serves, who is on the way, and its versions, newest first.

    `problem` says why the versions cannot be shown.
    """

    model: str
    description: str
    owner: str
    mode: str
    champion: int | None = None
    challenger: int | None = None
    previous: int | None = None
    versions: tuple[VersionSummary, ...] = ()
    problem: str = ""

    @property
    def waiting(self) -> VersionSummary | None:
        """Return the newest version that waits for people, or None."""
        return next((version for version in self.versions if version.waiting and version.waiting.people), None)


@dataclass(frozen=True, slots=True)
class Overview:
    """All models, and the keys of the broken specs (without their values, which may be secrets)."""

    models: tuple[ModelSummary, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TesterAnswer:
    """A tester whom the spec names, and the answer, if there is one."""

    tester: str
    answer: SignOff | None


@dataclass(frozen=True, slots=True)
class Uat:
    """Where the sign-offs of one version stand; `may_answer` is about the user who looks."""

    answers: tuple[TesterAnswer, ...]
    quorum: int
    verdict: str
    standing: str
    may_answer: bool
    mine: SignOff | None


@dataclass(frozen=True, slots=True)
class VersionDetails:
    """Everything about one version; digests, names and links, but never the raw tags.

    `classes` are those of a multiclass task, in the order of the scores; `evaluation_url` is empty without a page.
    """

    summary: VersionSummary
    description: str
    kind: str
    label: str
    classes: tuple[str, ...]
    reason: str
    build_reason: str
    digest: str
    data: str
    lock: str
    version_url: str
    run_url: str
    evaluation_url: str
    uat: Uat
    cases: tuple[UatCase, ...]
    evidence: tuple[Evidence, ...]


def overview(found: SpecSet, registry: Registry) -> Overview:
    """Return all models; a model whose versions cannot be read says so and hides no other.

    Raises TransientError when the registry does not answer.
    """
    models = tuple(model_summary(spec, registry) for spec in found.specs.values())
    return Overview(models, tuple(f"{problem.file.name}: {problem.key or 'the file'}" for problem in found.problems))


def model_summary(spec: ModelSpec, registry: Registry) -> ModelSummary:
    """Return one model with all its versions."""
    about = (spec.model, spec.description, spec.owner, spec.approval.mode)
    try:
        candidates = registry.candidates(spec.model)
        versions = tuple(_summary(spec, candidate) for candidate in candidates)
    except PermanentError as error:
        return ModelSummary(*about, problem=error.what)
    roles = {alias: candidate.version for candidate in candidates for alias in candidate.aliases}
    return ModelSummary(
        *about,
        champion=roles.get(CHAMPION),
        challenger=roles.get(CHALLENGER),
        previous=roles.get(PREVIOUS),
        versions=versions,
    )


def version_details(services: Installation, model: str, version: int, *, user: str) -> VersionDetails:
    """Return one version as `user` sees it; raises NotFoundError."""
    spec, registry = services.spec(model), services.registry
    candidate = registry.candidate(model, version)
    mlflow = _without_password(services.settings.mlflow_url)
    return VersionDetails(
        summary=_summary(spec, candidate),
        description=spec.description,
        kind=spec.task.kind,
        label=spec.task.label,
        classes=tuple(str(name) for name in sorted(spec.task.classes)),
        reason=candidate.tags.get(REASON, ""),
        build_reason=candidate.tags.get("taxiway.build_reason", ""),
        digest=candidate.tags.get(DIGEST, ""),
        data=candidate.tags.get("taxiway.data", ""),
        lock=candidate.tags.get(LOCK, ""),
        version_url=f"{mlflow}/#/models/{model}/versions/{version}",
        run_url=f"{mlflow}/#/runs/{candidate.run_id}",
        evaluation_url=evaluation_page(candidate, registry),
        uat=_uat(spec, candidate, user),
        cases=_cases(spec, candidate, registry),
        evidence=_evidence(candidate, registry),
    )


def _summary(spec: ModelSpec, candidate: Candidate) -> VersionSummary:
    tags = candidate.tags
    return VersionSummary(
        model=candidate.model,
        version=candidate.version,
        state=tags.get(STATE, State.CANDIDATE.value),
        aliases=tuple(sorted(candidate.aliases)),
        commit=tags.get("taxiway.commit", ""),
        author=tags.get("taxiway.author", ""),
        requested_by=tags.get(REQUESTED_BY, ""),
        verdict=tags.get(VERDICT, ""),
        trained_until=tags.get("taxiway.trained_until", ""),
        waiting=_waiting(spec, candidate),
    )


def _waiting(spec: ModelSpec, candidate: Candidate) -> Waiting | None:
    state = candidate.tags.get(STATE, State.CANDIDATE.value)
    if state == State.STAGING:
        decision = uat_decision(spec, candidate)
        if decision.verdict is None:
            return Waiting("sign-off", decision.missing)
        return Waiting("the pipeline to act on the testers' verdict")
    if state == State.TESTED:
        return Waiting("approval", spec.approval.approvers)
    pipeline = {
        State.CANDIDATE.value: "its delivery",
        State.APPROVED.value: "its rollout",
        State.ROLLING_OUT.value: "the end of its rollout",
    }
    return Waiting(pipeline[state]) if state in pipeline else None


def _uat(spec: ModelSpec, candidate: Candidate, user: str) -> Uat:
    decision = uat_decision(spec, candidate)
    answers = {answer.tester: answer for answer in sign_offs(candidate)}
    is_open = candidate.tags.get(STATE) == State.STAGING and decision.verdict is None
    return Uat(
        answers=tuple(TesterAnswer(tester, answers.get(tester)) for tester in spec.uat.testers),
        quorum=spec.uat.quorum,
        verdict=decision.verdict.value if decision.verdict else "",
        standing=decision.reason,
        may_answer=is_open and user in spec.uat.testers,
        mine=answers.get(user),
    )


def _cases(spec: ModelSpec, candidate: Candidate, registry: Registry) -> tuple[UatCase, ...]:
    try:
        return tuple(uat_cases(registry, candidate, spec.uat.cases))
    except NotFoundError:
        return ()


def _evidence(candidate: Candidate, registry: Registry) -> tuple[Evidence, ...]:
    """Return the evidence of every stage in the order of time; other JSON files of the run are left out."""
    found: list[Evidence] = []
    for path in registry.list_files(candidate.run_id, "taxiway"):
        if not path.endswith(".json"):
            continue
        document: Any = registry.get_json(candidate.run_id, path)
        if isinstance(document, dict) and {"stage", "verdict", "at", "figures"} <= document.keys():
            found.append(Evidence.from_json(document))
    return tuple(sorted(found, key=lambda evidence: evidence.at))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
