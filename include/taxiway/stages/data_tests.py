"""Data tests: the spec's rules on both windows again, by a well-known tool, with pages for people.

Our own checks (`stages.data_checks`) judge the data; this stage asks for a second opinion on what they found, beside
them and before anything is trained. What its answers mean is in `domain.second_opinion`. A tool that cannot read the
rows, or meets a limit, stops nothing: the evidence is inconclusive and says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taxiway.domain.data_quality import judge
from taxiway.domain.data_rules import HOLDOUT, TRAINING, Kind, Rules
from taxiway.domain.evidence import Evidence, Verdict
from taxiway.domain.second_opinion import Question, SecondOpinion, compare, questions
from taxiway.errors import DataError, TransientError
from taxiway.ports import Clock, DataTests, Registry
from taxiway.spec import ModelSpec
from taxiway.stages import data
from taxiway.stages.build import Build
from taxiway.stages.data_checks import rules_of
from taxiway.stages.evidence_store import evidence_of, record
from taxiway.stages.workspaces import workspace

if TYPE_CHECKING:
    import pandas as pd

    from taxiway.stages.data_figures import Plain

PAGES = "taxiway/data_tests"


def report_data(spec: ModelSpec, build: Build, *, registry: Registry, data_tests: DataTests, clock: Clock) -> Evidence:
    """Ask for the second opinion and store its pages; raises DataError, after the evidence, when a rule is broken.

    It needs the snapshot and nothing else, so it may run beside `check_data`.
    """
    from taxiway.stages.data_figures import measure, plain

    snapshot = evidence_of(registry, build.run_id, "snapshot")
    rules = rules_of(spec)
    paths = {TRAINING: data.TRAINING, HOLDOUT: data.HOLDOUT}
    windows = {name: plain(data.stored_frame(registry, build.run_id, path)) for name, path in paths.items()}
    training, holdout = measure(rules, windows[TRAINING], windows[HOLDOUT])
    findings = judge(rules, training, holdout)
    known = _known_categories(rules, windows[TRAINING])
    asked = questions(rules, findings, {TRAINING: training, HOLDOUT: holdout}, known)
    frames = {name: window.frame.drop(columns=spec.task.key, errors="ignore") for name, window in windows.items()}
    opinion = _ask(asked, frames, build, registry=registry, data_tests=data_tests)
    evidence = Evidence("data_tests", opinion.verdict, clock.now(), opinion.reasons, snapshot.subject, opinion.figures)
    record(registry, build.run_id, evidence)
    if evidence.verdict is Verdict.FAILED:
        advice = "correct the data, or the rules under data.checks in the model spec; the pages are with the build."
        raise DataError("; ".join(evidence.reasons), where=f"{build.where}, {spec.data.uri}", next_step=advice)
    return evidence


def _ask(
    asked: Sequence[Question],
    frames: Mapping[str, pd.DataFrame],
    build: Build,
    *,
    registry: Registry,
    data_tests: DataTests,
) -> SecondOpinion:
    with workspace("data-tests") as pages:
        try:
            results = data_tests.run(frames, [question.test for question in asked], pages)
        except (DataError, TransientError) as error:
            return SecondOpinion(Verdict.INCONCLUSIVE, (f"there is no second opinion: {error.what}",), {"tests": []})
        registry.put_directory(build.run_id, PAGES, pages)
    return compare(asked, results)


def _known_categories(rules: Rules, training: Plain) -> dict[str, list[Any]]:
    """Return what training showed in each column that may have no new categories, where a tool can be told so."""
    known: dict[str, list[Any]] = {}
    for column in rules.checks.max_new_categories:
        kind = training.kinds.get(column)
        if kind in (Kind.TEXT, Kind.INTEGER):  # of other numbers Evidently would cut off the fractions
            values = training.frame[column].dropna().unique()
            known[column] = sorted(map(str if kind is Kind.TEXT else int, values))
    return known
