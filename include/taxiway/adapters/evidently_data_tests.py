"""The data tests port on Evidently, in a process of its own with limits (see `evidently_worker`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from taxiway.adapters.evidently_process import LIMITS, run_worker
from taxiway.domain.data_rules import HOLDOUT, TRAINING
from taxiway.domain.evidence import Verdict
from taxiway.domain.second_opinion import DataTest, TestResult
from taxiway.stages.sandbox import CommandLimits
from taxiway.stages.workspaces import workspace

if TYPE_CHECKING:
    import pandas as pd

_ADVICE = "look at the page of the data tests' evidence; the checks of Taxiway itself do not need Evidently."
_VERDICTS = {"SUCCESS": Verdict.PASSED, "FAIL": Verdict.FAILED}


class EvidentlyDataTests:
    """Tests windows with Evidently: all rows, because a count takes a second for 300,000 of them."""

    def __init__(self, limits: CommandLimits = LIMITS) -> None:
        self._limits = limits

    def run(self, windows: Mapping[str, pd.DataFrame], tests: Sequence[DataTest], pages: Path) -> list[TestResult]:
        """Run the tests; write a page `<window>.html` for each tested window, the holdout beside training.

        Raises DataError with the end of Evidently's message when it cannot read these rows, TransientError when a
        limit stopped it.
        """
        with workspace("evidently") as directory:
            for name in (TRAINING, HOLDOUT):
                windows[name].to_parquet(directory / f"{name}.parquet", index=False)
            job = {
                "do": "data tests",
                "windows": {name: str(directory / f"{name}.parquet") for name in (TRAINING, HOLDOUT)},
                "pages": str(pages.absolute()),
                "tests": [asdict(test) for test in tests],
                "results": str(directory / "results.json"),
            }
            run_worker(job, directory, limits=self._limits, advice=_ADVICE)
            results = json.loads((directory / "results.json").read_text(encoding="utf-8"))
        return [TestResult(_VERDICTS.get(result["status"], Verdict.ERROR), result["counted"]) for result in results]
