"""Evidently in a process of its own, with limits: what reports and data tests start (see `evidently_worker`)."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from taxiway.errors import DataError, TransientError
from taxiway.stages.sandbox import CommandLimits, Outcome, run

LIMITS = CommandLimits(wall=timedelta(minutes=5), memory_mb=8192, log_kb=64)
_PACKAGES = Path(__file__).resolve().parents[2]
_SHOWN_LINES = 5


def run_worker(job: Mapping[str, Any], directory: Path, *, limits: CommandLimits, advice: str) -> None:
    """Do the job in the directory, which has its files.

    Raises DataError with the end of Evidently's message and the advice when it cannot do this with these rows,
    TransientError when a limit stopped it.
    """
    (directory / "job.json").write_text(json.dumps(job), encoding="utf-8")
    outcome = run(
        [sys.executable, "-W", "ignore", "-m", "taxiway.adapters.evidently_worker", directory / "job.json"],
        cwd=directory,
        limits=limits,
        extra_env={"DO_NOT_TRACK": "1", "PYTHONPATH": str(_PACKAGES)},
        confined=False,
    )
    if not outcome.succeeded:
        raise _failure(outcome, advice)


def _failure(outcome: Outcome, advice: str) -> DataError | TransientError:
    ending = " | ".join(outcome.output.strip().splitlines()[-_SHOWN_LINES:])
    if outcome.limit or outcome.exit_code < 0:
        cause = outcome.limit or f"signal {-outcome.exit_code}"
        return TransientError(f"the report was stopped by its {cause}: {ending}", where="Evidently")
    return DataError(
        f"Evidently cannot make a report of these rows: {ending}",
        where="Evidently",
        next_step=advice,
    )
