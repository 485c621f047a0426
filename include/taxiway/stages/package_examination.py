"""Examination of a served package: what is asked of it, one check after the other, and what each found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from taxiway.domain.evidence import Json, Verdict
from taxiway.errors import PackageRejected
from taxiway.spec import ModelSpec
from taxiway.stages.bad_requests import BadRequest, bad_requests, problem
from taxiway.stages.behaviour_checks import BehaviourChecks
from taxiway.stages.golden import differing_rows
from taxiway.stages.scoring_protocol import as_split, is_sound, request
from taxiway.stages.served_model import ServedModel
from taxiway.stages.untrusted_files import content, document

if TYPE_CHECKING:
    import pandas as pd

_SEED = 20130101
_SAMPLE, _FEW = 300, 20
_WARM_UP, _SINGLE_ROWS, _ROUNDS = 5, 200, 3
_READY_TO_SEND, _EXAMPLE = "serving_input_example.json", "input_example.json"
_LARGEST_EXAMPLE = 16 * 1024 * 1024
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried: `error` means that it could not be tried any more."""

    name: str
    verdict: Verdict
    reason: str

    def to_json(self) -> dict[str, Json]:
        """Return the check as the evidence has it."""
        return {"check": self.name, "verdict": self.verdict.value, "reason": self.reason}


@dataclass(slots=True)
class Examination:
    """Everything that is asked of one served model; a check says what it found, or raises PackageRejected.

    `holdout` has the key and the features; `trained` is what train.py wrote, with the rows under `inputs`. The checks
    leave their `figures`.
    """

    spec: ModelSpec
    model: Path
    served: ServedModel
    holdout: pd.DataFrame
    trained: dict[str, Any]
    figures: dict[str, Json] = field(default_factory=dict)
    _answers_good_rows: bool = False

    def checks(self) -> Iterator[Check]:
        """Try one thing after the other; what may kill the server comes last."""
        behaviour = BehaviourChecks(self.spec, self.served, self.holdout)
        for name, check in (*self._questions(), *behaviour.questions(), *self._bad_questions()):
            if self.served.has_ended:
                yield Check(name, Verdict.ERROR, "not tried: the server had ended")
                continue
            try:
                yield Check(name, Verdict.PASSED, check())
            except PackageRejected as error:
                yield Check(name, Verdict.FAILED, error.what)
        if behaviour.figures:
            self.figures["behaviour"] = list(behaviour.figures)

    def _questions(self) -> Iterator[tuple[str, Callable[[], str]]]:
        yield "becomes ready", self._becomes_ready
        if any((self.model / name).is_file() for name in (_READY_TO_SEND, _EXAMPLE)):
            yield "answers its input example", self._answers_its_example
        yield "answers as in training", self._answers_as_in_training
        yield "answers each row alike", self._answers_each_row_alike
        yield "answers with finite numbers", self._answers_with_finite_numbers
        yield "latency", self._latency

    def _bad_questions(self) -> Iterator[tuple[str, Callable[[], str]]]:
        good = as_split(self._rows(self._spread(1)))
        row = dict(zip(good["columns"], good["data"][0], strict=True))
        for bad in bad_requests(row, self.trained["columns"]):
            yield f"refuses {bad.name}", partial(self._refuses, bad)

    def _becomes_ready(self) -> str:
        seconds = round(self.served.wait_until_ready(), 2)
        self.figures["ready_seconds"] = seconds
        return f"after {seconds:g} s"

    def _answers_its_example(self) -> str:
        """Ask what MLflow saved as an example of a request, or of a frame."""
        ready = self.model / _READY_TO_SEND
        try:
            if ready.is_file():
                body = content(ready, most_bytes=_LARGEST_EXAMPLE)
            else:
                example = document(content(self.model / _EXAMPLE, most_bytes=_LARGEST_EXAMPLE))
                split = isinstance(example, dict) and set(example) == {"columns", "data"}
                body = request(example, form="dataframe_split" if split else "inputs")
        except ValueError as error:
            raise PackageRejected(f"the example cannot be read: {error}") from error
        found = self.served.predictions(self.served.ask(body))
        return f"{len(found)} predictions"

    def _answers_as_in_training(self) -> str:
        """Compare with what the saved model answered in the training process."""
        expected: Sequence[Any] = self.trained["predictions"]
        found = self.served.predictions(self.served.ask(request(self.trained["inputs"])), len(expected))
        if wrong := differing_rows(expected, found):
            row = wrong[0]
            raise PackageRejected(
                f"{len(wrong)} of {len(expected)} rows are answered differently than in the training process, such as "
                f"{_shown(found[row])} instead of {_shown(expected[row])}: the model depends on something that is not "
                "packaged with it"
            )
        return f"{len(expected)} rows"

    def _answers_each_row_alike(self) -> str:
        """Ask the same rows together, in another order, and one by one."""
        rows = self._rows(self._spread(_FEW))
        together = self.served.predict(rows)
        backwards = self.served.predict(rows.iloc[::-1])[::-1]
        single = [self.served.predict(rows.iloc[[row]])[0] for row in range(len(rows))]
        for way, found in (("in another order", backwards), ("one by one", single)):
            if wrong := differing_rows(together, found):
                row = wrong[0]
                raise PackageRejected(
                    f"{len(wrong)} of {len(rows)} rows are answered differently when they are asked {way}, such as "
                    f"{_shown(found[row])} instead of {_shown(together[row])}"
                )
        return f"{len(rows)} rows together, in another order, and one by one"

    def _answers_with_finite_numbers(self) -> str:
        positions = self._spread(_SAMPLE)
        found = self.served.predict(self._rows(positions))
        unsound = [position for position, value in zip(positions, found, strict=True) if not is_sound(value)]
        if unsound:
            keys = ", ".join(str(self.holdout[self.spec.task.key].iloc[position]) for position in unsound[:_SHOWN])
            raise PackageRejected(
                f"{len(unsound)} of {len(found)} rows of the holdout have no finite prediction, such as "
                f"{self.spec.task.key} {keys}"
            )
        return f"{len(found)} rows of the holdout"

    def _latency(self) -> str:
        """Time single rows. Other work on this machine can only add: when it is too slow, the best of some rounds."""
        rounds = [self._time_single_rows()]
        while rounds[-1][1] > self.spec.gates.latency_p99_ms and len(rounds) < _ROUNDS:
            rounds.append(self._time_single_rows())
        p50, p99 = min(rounds, key=lambda measured: measured[1])
        self.figures.update(latency_p50_ms=round(p50, 3), latency_p99_ms=round(p99, 3), requests=_SINGLE_ROWS)
        return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms of {_SINGLE_ROWS} single rows"

    def _time_single_rows(self) -> tuple[float, float]:
        """Return median and 99th percentile in milliseconds, after a few requests that nobody counts."""
        positions = np.linspace(0, len(self.holdout) - 1, _WARM_UP + _SINGLE_ROWS).astype(int)
        measured = []
        for position in positions:
            answer = self.served.ask(request(as_split(self._rows([position]))))
            self.served.predictions(answer, 1)
            measured.append(1000 * answer.seconds)
        self._answers_good_rows = True
        p50, p99 = np.percentile(measured[_WARM_UP:], [50, 99])
        return float(p50), float(p99)

    def _refuses(self, bad: BadRequest) -> str:
        """Ask something bad, then something good (if that was answered before)."""
        if wrong := problem(bad, self.served.ask(bad.body, bad.content_type)):
            raise PackageRejected(wrong)
        if not self._answers_good_rows:
            return "but answers no good request either"
        try:
            self.served.predict(self._rows(self._spread(1)))
        except PackageRejected as error:
            raise PackageRejected(f"afterwards a good request fails: {error.what}") from error
        return "and answers the next request"

    def _spread(self, count: int) -> list[int]:
        """Return positions of that many rows of the holdout (or all), drawn with a fixed seed."""
        rows = len(self.holdout)
        return sorted(np.random.default_rng(_SEED).choice(rows, size=min(count, rows), replace=False).tolist())

    def _rows(self, positions: Sequence[int]) -> pd.DataFrame:
        return self.holdout.iloc[list(positions)][list(self.spec.data.features)]


def _shown(prediction: Any) -> str:
    return str(prediction)[:100]
