"""What both models answered to the holdout, stored with the build: whoever looks later needs no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taxiway.ports import Registry
from taxiway.spec import ModelSpec
from taxiway.stages.data import stored_frame
from taxiway.stages.workspaces import workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

PREDICTIONS = "taxiway/predictions.parquet"
_OWN = ("key", "timestamp", "label", "candidate", "champion")


@dataclass(frozen=True, slots=True)
class HoldoutPredictions:
    """The holdout as both models saw it: one entry per row; champion None when none was measured.

    Predictions are one value per row (n,), or one score per class (n, classes).
    """

    times: pd.Series[Any]
    labels: NDArray[np.generic]
    candidate: NDArray[np.generic]
    champion: NDArray[np.generic] | None

    @property
    def days(self) -> NDArray[np.int64]:
        """Return the day of each row, as days since 1970."""
        return days_of(self.times)


def days_of(times: pd.Series[Any]) -> NDArray[np.int64]:
    """Return the day (UTC) of each time, as days since 1970."""
    import pandas as pd

    plain = pd.to_datetime(times, utc=True).dt.tz_localize(None).to_numpy()
    days: NDArray[np.int64] = plain.astype("datetime64[D]").astype("int64")
    return days


def store_predictions(
    spec: ModelSpec, run_id: str, holdout: pd.DataFrame, candidate: Any, champion: Any | None, *, registry: Registry
) -> None:
    """Store key, timestamp, label, the slice columns and the predictions of both models.

    The five names of the file win over slice columns that are called the same.
    """
    import pandas as pd

    own = {
        "key": holdout[spec.task.key],
        "timestamp": holdout[spec.task.timestamp],
        "label": holdout[spec.task.label],
        "candidate": candidate.tolist(),
    }
    if champion is not None:
        own["champion"] = champion.tolist()
    slices = spec.gates.slices.by if spec.gates.slices else ()
    frame = pd.DataFrame({**own, **{name: holdout[name] for name in slices if name not in _OWN}})
    with workspace("predictions") as directory:
        path = directory / "predictions.parquet"
        frame.to_parquet(path, index=False)
        registry.put_file(run_id, PREDICTIONS, path)


def stored_predictions(registry: Registry, run_id: str) -> HoldoutPredictions:
    """Read what `store_predictions` stored; raises NotFoundError."""
    frame = stored_frame(registry, run_id, PREDICTIONS)
    return HoldoutPredictions(
        times=frame["timestamp"],
        labels=frame["label"].to_numpy(),
        candidate=_array(frame["candidate"]),
        champion=_array(frame["champion"]) if "champion" in frame else None,
    )


def _array(predictions: pd.Series[Any]) -> NDArray[np.generic]:
    import numpy as np

    values = predictions.to_numpy()
    return np.stack(values.tolist()) if len(values) and isinstance(values[0], np.ndarray) else values
