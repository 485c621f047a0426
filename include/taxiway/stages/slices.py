"""Slices: the metric of both models in each group of rows that the spec names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from taxiway.domain.evidence import Json
from taxiway.spec import ModelSpec
from taxiway.spec_ci import SliceGate

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

MISSING = "missing"
"""The group of the rows that have no value."""
_MOST_SMALL_GROUPS = 100


def slice_figures(spec: ModelSpec, holdout: pd.DataFrame, candidate: Any, champion: Any | None) -> list[Json]:
    """Return for each value of each slice column its rows and the metric of both models, null where not defined.

    Every group that is large enough to be judged is there; of the smaller ones only the largest hundred of a column.
    """
    from taxiway.domain.metrics import compute
    from taxiway.domain.statistics import finite

    policy, task = spec.gates.slices, spec.task
    if policy is None:
        return []
    labels = holdout[task.label].to_numpy()

    def value(predictions: Any | None, rows: NDArray[np.intp]) -> float | None:
        if predictions is None:
            return None
        return finite(compute(task.kind, policy.metric, labels[rows], predictions[rows], classes=task.classes))

    return [
        {
            "group": {column: name},
            "rows": len(rows),
            "value": value(candidate, rows),
            "champion": value(champion, rows),
        }
        for column in policy.by
        for name, rows in _groups(holdout[column], policy)
    ]


def _groups(values: pd.Series[Any], policy: SliceGate) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield the name and the row positions of each group, in the order of the values; missing ones come last."""
    import numpy as np
    import pandas as pd

    codes, found = pd.factorize(values, sort=True)
    codes = np.where(codes < 0, len(found), codes)
    sizes = np.bincount(codes, minlength=len(found) + 1)
    largest = np.argsort(-sizes, kind="stable")[:_MOST_SMALL_GROUPS]
    kept = np.union1d(np.flatnonzero(sizes >= policy.min_rows), largest)
    by_group = np.split(np.argsort(codes, kind="stable"), np.cumsum(sizes)[:-1])
    names = [*map(_name, found), MISSING]
    yield from ((names[group], by_group[group]) for group in kept if sizes[group])


def _name(value: Any) -> str:
    """Return the value as text; a whole number has no decimals, also where missing values made it a float."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
