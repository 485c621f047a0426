"""Behaviour checks: rows of the holdout with one column changed, asked of the served model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from taxiway.domain import behaviour
from taxiway.domain.behaviour import Movement, other_rows
from taxiway.domain.evidence import Json
from taxiway.domain.statistics import finite
from taxiway.errors import PackageRejected
from taxiway.spec import ModelSpec
from taxiway.spec_ci import Direction, Invariance
from taxiway.stages.scoring_protocol import as_split, is_sound
from taxiway.stages.served_model import ServedModel

if TYPE_CHECKING:
    import pandas as pd

_SEED = 20130102


@dataclass(frozen=True, slots=True)
class BehaviourChecks:
    """The behavioural tests of one model spec; a test says what it found, or raises PackageRejected."""

    spec: ModelSpec
    served: ServedModel
    holdout: pd.DataFrame
    figures: list[Json] = field(default_factory=list)

    def questions(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Yield each test of the spec with its name."""
        for invariance in self.spec.behaviour.invariance:
            yield f"does not depend on {invariance.column}", partial(self._invariance, invariance)
        for direction in self.spec.behaviour.direction:
            step = f"{direction.column} {direction.by:+g}"
            yield f"{step}: predictions {direction.expect}", partial(self._direction, direction)

    def _invariance(self, test: Invariance) -> str:
        """Exchange the column's values for those of other rows."""
        rng = np.random.default_rng(_SEED)
        drawn = self._drawn(np.arange(len(self.holdout)), rng)
        values = [value for (value,) in as_split(self.holdout[[test.column]])["data"]]
        others = other_rows(values, drawn, rng)
        pairs = [(row, other) for row, other in zip(drawn, others, strict=True) if other is not None]
        if not pairs:
            return f"not tested: {test.column} has only one value in the holdout"
        positions, sources = [row for row, _ in pairs], [other for _, other in pairs]
        rows = self._features(positions)
        changed = rows.assign(**{test.column: self.holdout[test.column].take(sources).array})
        before, after = self._answers(rows, changed)
        moved = behaviour.invariance(before, after, max_change=test.max_change, labels=self._are_labels(before + after))
        said = f"largest change {moved.largest:.4g}, allowed {test.max_change:g}"
        return self._judged(f"{test.column} exchanged", moved, positions, said)

    def _direction(self, test: Direction) -> str:
        """Add to the column."""
        import pandas as pd

        column = self.holdout[test.column]
        if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            raise PackageRejected(f"{test.column} has no numbers")
        known = np.flatnonzero(column.notna().to_numpy())
        if not len(known):
            return f"not tested: {test.column} has no value in the holdout"
        positions = self._drawn(known, np.random.default_rng(_SEED))
        rows = self._features(positions)
        step = int(test.by) if float(test.by).is_integer() else test.by  # a column of integers stays one
        changed = rows.assign(**{test.column: rows[test.column] + step})
        before, after = self._answers(rows, changed)
        if not all(isinstance(value, int | float) for value in before + after):
            raise PackageRejected("the model answers no single number per row")
        moved = behaviour.direction(before, after, rises=test.expect == "rise", min_share=test.min_share)
        said = f"{moved.share:.1%} of the rows {test.expect} or stay, at least {test.min_share:.1%} must"
        return self._judged(f"{test.column} {test.by:+g}", moved, positions, said)

    def _answers(self, rows: pd.DataFrame, changed: pd.DataFrame) -> tuple[list[Any], list[Any]]:
        """Return the predictions of both, which have the same form."""
        before, after = self.served.predict(rows), self.served.predict(changed)
        if unsound := sum(not is_sound(value) for value in before + after):
            raise PackageRejected(f"{unsound} of {len(before + after)} rows have no finite prediction")
        if len({len(value) if isinstance(value, list) else 0 for value in before + after}) > 1:
            raise PackageRejected("the changed rows are answered with another number of scores")
        return before, after

    def _are_labels(self, values: Sequence[Any]) -> bool:
        """Tell whether predictions name classes: then no distance is between them."""
        if any(isinstance(value, str) for value in values):
            return True
        return self.spec.task.kind == "multiclass" and not isinstance(values[0], list)

    def _judged(self, test: str, moved: Movement, positions: Sequence[int], said: str) -> str:
        key = str(self.holdout[self.spec.task.key].iloc[positions[moved.worst]])
        figures: dict[str, Json] = {
            "test": test,
            "rows": moved.rows,
            "largest_change": finite(moved.largest),
            "mean_change": finite(moved.mean),
            "share": moved.share,
            "worst_row": key,
        }
        self.figures.append(figures)
        said = f"{moved.rows} rows: {said} (furthest: {self.spec.task.key} {key})"
        if not moved.holds:
            raise PackageRejected(said)
        return said

    def _drawn(self, positions: Sequence[int] | np.ndarray[Any, Any], rng: np.random.Generator) -> list[int]:
        count = min(self.spec.behaviour.rows, len(positions))
        return [int(position) for position in sorted(rng.choice(positions, size=count, replace=False))]

    def _features(self, positions: Sequence[int]) -> pd.DataFrame:
        return self.holdout.iloc[list(positions)][list(self.spec.data.features)]
