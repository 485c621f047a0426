"""What a task pays for the other models: parsing a DAG file at task start, with many models declared.

Baseline: the same file parsed for the scheduler, which needs the DAGs of all models. A task start must build only the
DAG it belongs to, so that a task costs the same however many models a platform has. CPU seconds, medians.

    python benchmarks/task_start.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
TARGET = 0.15
CONTEXT = "_AIRFLOW_PARSING_CONTEXT_DAG_ID"


def main() -> int:
    """Measure, print the figures, and return 0 when the target is met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer models and repeats")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    models, repeats = (20, 3) if arguments.quick else (100, 5)
    with tempfile.TemporaryDirectory() as directory:
        _declare(models, Path(directory))
        everything = statistics.median(_parse(None) for _ in range(repeats))
        one = statistics.median(_parse("model_7.ci") for _ in range(repeats))
    figures = {"models": models, "all_cpu_s": everything, "one_cpu_s": one, "ratio": one / everything, "target": TARGET}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    print(f"{models} models: all {everything:.3f} s CPU, the DAG of one task {one:.3f} s CPU")
    print(f"ratio {one / everything:.3f}, target <= {TARGET}")
    return 0 if one / everything <= TARGET else 1


def _declare(models: int, directory: Path) -> None:
    """Write the specs and point Airflow and Taxiway to them, before Airflow is imported."""
    text = (PROJECT / "include" / "models" / "flight_delays.yaml").read_text()
    for number in range(models):
        spec = text.replace("model: flight_delays", f"model: model_{number}")
        (directory / f"model_{number}.yaml").write_text(spec)
    defaults = (PROJECT / "include" / "models" / "_defaults.yaml").read_text()
    (directory / "_defaults.yaml").write_text(defaults)
    os.environ |= {
        "AIRFLOW_HOME": str(directory / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "TAXIWAY_HOME": str(directory / "home"),
        "TAXIWAY_MODELS": str(directory),
    }


def _parse(dag_id: str | None) -> float:
    """Return the CPU seconds of parsing the CI file, for one DAG or for all."""
    from airflow.dag_processing.dagbag import DagBag

    os.environ.pop(CONTEXT, None)
    if dag_id is not None:
        os.environ[CONTEXT] = dag_id
    started = time.process_time()
    bag = DagBag(str(PROJECT / "dags" / "ci.py"))
    seconds = time.process_time() - started
    if bag.import_errors:
        raise SystemExit(f"the DAG file does not parse: {bag.import_errors}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
