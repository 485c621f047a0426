"""User acceptance testing: what testers are shown, and the answers they sign off with.

An answer is the version tag `taxiway.signoff.<tester>`. MLflow allows letters, digits and `_ - . / :` and spaces in
the name of a tag, and 100 000 characters in its value: names are escaped and comments bounded accordingly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote

from taxiway.domain.evidence import Json
from taxiway.domain.uat import SignOff, UatDecision, decide
from taxiway.domain.values import Candidate
from taxiway.errors import IntegrityError, NotAllowed, PermanentError, WrongState
from taxiway.ports import Registry
from taxiway.spec import ModelSpec
from taxiway.stages.candidates import DIGEST, State, state_of, where
from taxiway.stages.golden import GOLDEN

MAX_COMMENTS = 4000
"""Characters; each may become six in JSON."""
_PREFIX = "taxiway.signoff."


@dataclass(frozen=True, slots=True)
class UatCase:
    """One row that testers look at: its columns (key and time first), and what the candidate answers."""

    inputs: Mapping[str, Json]
    prediction: Json


def record_sign_off(registry: Registry, spec: ModelSpec, version: int, sign_off: SignOff) -> SignOff:
    """Store a tester's answer in place of an earlier one, with the digest of the model that it is about.

    Raises NotAllowed for anybody whom the spec does not name, WrongState when the version is not in UAT or the
    answers so far are a verdict already, PermanentError when the comments are too long.
    """
    if sign_off.tester not in spec.uat.testers:
        raise NotAllowed(
            f"{sign_off.tester} is no tester of {spec.model}",
            where=f"{spec.model} version {version}",
            next_step=f"the testers are {', '.join(spec.uat.testers)}: see uat.testers in the model spec.",
        )
    candidate = registry.candidate(spec.model, version)
    _refuse_decided(spec, candidate)
    if len(sign_off.comments) > MAX_COMMENTS:
        raise PermanentError(f"comments have at most {MAX_COMMENTS} characters", where=where(candidate))
    stored = replace(sign_off, saw=candidate.tags.get(DIGEST, ""))
    text = json.dumps(stored.to_json(), ensure_ascii=False)
    registry.set_tags(spec.model, version, {_tag(sign_off.tester): text})
    return stored


def sign_offs(candidate: Candidate) -> list[SignOff]:
    """Return every stored answer, oldest first; raises IntegrityError when one cannot be what a tester stored."""
    answers = [_read(candidate, name) for name in candidate.tags if name.startswith(_PREFIX)]
    return sorted(answers, key=lambda answer: (answer.at, answer.tester))


def uat_decision(spec: ModelSpec, candidate: Candidate, *, deadline_passed: bool = False) -> UatDecision:
    """Return where UAT of the version stands by the answers so far."""
    return decide(
        sign_offs(candidate), testers=spec.uat.testers, quorum=spec.uat.quorum, deadline_passed=deadline_passed
    )


def uat_cases(registry: Registry, candidate: Candidate, count: int) -> list[UatCase]:
    """Return up to `count` recent rows with the candidate's answers; raises NotFoundError when none were stored."""
    golden = registry.get_json(candidate.run_id, GOLDEN)
    columns = golden["inputs"]["columns"]
    rows = zip(golden["inputs"]["data"], golden["predictions"], strict=True)
    cases = [UatCase(dict(zip(columns, row, strict=True)), prediction) for row, prediction in rows]
    return cases[-count:]


def _refuse_decided(spec: ModelSpec, candidate: Candidate) -> None:
    """Refuse what would contradict a verdict: an answer that the pipeline may have acted on stays as it was."""
    state = state_of(candidate)
    if state is not State.STAGING:
        reason = f"it is {state.value}"
    elif (decision := uat_decision(spec, candidate)).verdict is not None:
        reason = f"the testers' verdict is in ({decision.reason})"
    else:
        return
    raise WrongState(
        f"version {candidate.version} takes no sign-offs: {reason}",
        where=where(candidate),
        next_step="testers sign off while a version waits for them in staging.",
    )


def _tag(tester: str) -> str:
    return _PREFIX + quote(tester, safe="").replace("~", "%7E").replace("%", ":")


def _read(candidate: Candidate, name: str) -> SignOff:
    try:
        answer = SignOff.from_json(json.loads(candidate.tags[name]))
        if _tag(answer.tester) == name:
            return answer
        problem = f"it is an answer of {answer.tester}"
    except (KeyError, TypeError, ValueError, PermanentError) as error:
        problem = f"it cannot be read ({error})"
    raise IntegrityError(
        f"the tag {name} is no sign-off: {problem}",
        where=where(candidate),
        next_step="find out who changed it in MLflow, and delete the tag.",
    )
