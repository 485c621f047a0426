"""What a logged prediction says: the log keeps answers as they were sent, and versions may answer differently.

A version that answers class scores and one that answers labels can share a log; then both are text in it. What is
nothing of the task's kind counts as missing: monitoring tells of it, and does not fall over it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_SUM_TOLERANCE = 1e-3


def usable_answers(predictions: pd.Series[Any], kind: str, classes: Sequence[Any] = ()) -> pd.Series[Any]:
    """Return each answer as the kind of task asks for (see `domain.metrics`), None where it is nothing of that.

    Multiclass answers are one of the classes, or a list with the scores of all of them in sorted order.
    """
    import pandas as pd

    reader: Callable[[Any], Any] = _number
    if kind == "binary":
        reader = _score
    elif kind == "multiclass":
        reader = partial(_class_or_scores, by_name=_by_name(classes))
    return pd.Series([reader(value) for value in predictions], index=predictions.index, dtype=object)


def known_classes(values: pd.Series[Any], classes: Sequence[Any]) -> pd.Series[Any]:
    """Return each value as the class that it names, None where it names none: a join made 1 of 1.0, or of "1"."""
    import pandas as pd

    by_name = _by_name(classes)
    return pd.Series([by_name.get(_name(value)) for value in values], index=values.index, dtype=object)


def predicted_classes(answers: pd.Series[Any], classes: Sequence[Any]) -> pd.Series[Any]:
    """Return the class that each usable answer stands for: the first of the most probable ones."""
    import pandas as pd

    ordered = sorted(classes)
    best = [ordered[answer.index(max(answer))] if isinstance(answer, list) else answer for answer in answers]
    return pd.Series(best, index=answers.index, dtype=object)


def _by_name(classes: Sequence[Any]) -> dict[str, Any]:
    return {str(value): value for value in classes}


def _name(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _score(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and 0 <= number <= 1 else None


def _class_or_scores(value: Any, by_name: Mapping[str, Any]) -> Any:
    if (known := by_name.get(_name(value))) is not None:
        return known
    scores = [_score(score) for score in _listed(value)]
    known_scores = [score for score in scores if score is not None]
    if len(scores) != len(by_name) or len(known_scores) != len(scores):
        return None
    return known_scores if abs(math.fsum(known_scores) - 1) <= _SUM_TOLERANCE else None


def _listed(value: Any) -> Sequence[Any]:
    """Return the values of a list, of an array, of a record (a model that answers a frame), or of one of them as text.

    The log turns answers into text where they are of several types.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (json.JSONDecodeError, RecursionError):
            return ()
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if hasattr(value, "__len__") and not isinstance(value, str) else ()
