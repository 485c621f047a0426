"""What the pipeline costs beside its work: a commit through `<model>.ci`, against a shell script of the same stages.

Baseline: a shell script that runs the stages of dags/ci.py one after another, each in a process of its own. Both build
the example model from real flights in a running installation of their own, with warm caches and an environment that is
there already. Measured is the wall time from the start to the registered candidate; the ratio of the medians is below 1
where parallel branches save more than Airflow costs. Besides: a commit that changes documentation only, to the end of
its run, as a share of a full run. Starting the installation takes most of a `--quick` run, which needs two minutes.

    python benchmarks/pipeline_overhead.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from _pipeline_stage import STAGES

from taxiway.adapters.airflow_api import AirflowApi
from taxiway.demo.commits import FIRST, BareRepository, append, first
from taxiway.demo.flights import arrive
from taxiway.stages.environments import ensure_environment
from taxiway.supervisor.clients import open_airflow
from taxiway.supervisor.credentials import read_credentials
from taxiway.supervisor.installation import Installation
from taxiway.supervisor.programs import base_environment, platform_environment

PROJECT = Path(__file__).resolve().parents[1]
MODEL = "flight_delays"
TARGET, DOCS_TARGET = 1.25, 0.15
_COMMITTED_AT = datetime(2013, 4, 1, tzinfo=UTC)
_PATIENCE, _POLL = 600.0, 0.1
Found = TypeVar("Found")


@dataclass
class Bench:
    """A running installation with the example's repository and data, and what was measured in it (seconds)."""

    installation: Installation
    scratch: Path
    script: list[dict[str, float]] = field(default_factory=list)
    dag: list[dict[str, Any]] = field(default_factory=list)
    docs: list[float] = field(default_factory=list)

    @property
    def repository(self) -> BareRepository:
        """The repository that the spec of the example names."""
        return BareRepository(self.installation.home / "demo" / f"{MODEL}.git")

    @property
    def airflow(self) -> AirflowApi:
        """Airflow of the installation."""
        return open_airflow(self.installation)

    def commit(self, name: str, file: str, text: str, *, base: str) -> None:
        """Push a commit that adds a line to a file, to a branch of its own."""
        at = _COMMITTED_AT + timedelta(hours=1)
        self.repository.commit(name, append(file, text), at=at, branch=name, base=base)

    def run_script(self, ref: str) -> None:
        """Build the ref with the shell script."""
        file, script = self.scratch / f"{ref}.json", self.scratch / "pipeline.sh"
        stage = f"{sys.executable} {Path(__file__).with_name('_pipeline_stage.py')}"
        lines = [f"{stage} {name} {MODEL} {ref} {file}\necho {name} $(date +%s.%N)" for name in ("checkout", *STAGES)]
        script.write_text("\n".join(["set -e", *lines]))
        credentials = read_credentials(self.installation.home)
        environment = {
            **base_environment(self.installation, os.environ),
            **platform_environment(self.installation, credentials),
            "TAXIWAY_MODELS": str(PROJECT / "include" / "models"),
        }
        started = at = time.time()
        done = subprocess.run(["sh", str(script)], env=environment, check=False, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit(f"the script stopped after: {done.stdout[-500:]}")
        seconds = {}
        for line in done.stdout.splitlines():
            name, _, moment = line.partition(" ")
            if name in ("checkout", *STAGES) and moment.replace(".", "").isdigit():
                seconds[name], at = float(moment) - at, float(moment)
        self.script.append({**seconds, "all": at - started})

    def run_dag(self, ref: str, *, reason: str = "manual") -> dict[str, dict[str, float]]:
        """Build the ref with the DAG; returns when each task and the run began and ended, in seconds."""
        started = time.time()
        self.airflow.trigger(f"{MODEL}.ci", ref, {"ref": ref, "reason": reason})
        run = self.ended(ref)
        if run["state"] != "success":
            raise SystemExit(f"{MODEL}.ci {ref} ended as {run['state']}")
        tasks = self.airflow.task_instances(f"{MODEL}.ci", ref)
        spans = {task["task_id"]: task for task in tasks if task["start_date"] and task["end_date"]}
        return {name: _span(item, started) for name, item in {**spans, "run": run}.items()}

    def ended(self, run_id: str) -> dict[str, Any]:
        """Wait for the end of a build and return the run."""

        def look() -> dict[str, Any] | None:
            runs = [run for run in self.airflow.runs(f"{MODEL}.ci") if run["dag_run_id"] == run_id]
            return next((run for run in runs if run["state"] in ("success", "failed")), None)

        return wait_for(look, f"{MODEL}.ci {run_id}")

    def settled(self) -> None:
        """Wait until the deliveries that builds have started wait for people."""

        def look() -> bool:
            runs = [run["dag_run_id"] for run in self.airflow.runs(f"{MODEL}.delivery") if run["state"] == "running"]
            tasks = [self.airflow.task_instances(f"{MODEL}.delivery", run) for run in runs]
            return all(any(task["state"] == "deferred" for task in of) for of in tasks)

        wait_for(look, "the deliveries to wait for sign-offs")


def main() -> int:
    """Measure, print the figures, and return 0 when both targets are met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less data, and each way once")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    repeats, through = (1, date(2013, 3, 31)) if arguments.quick else (4, date(2013, 5, 31))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        bench = prepare(Path(directory), through)
        try:
            measure(bench, repeats)
        finally:
            taxiway(bench.installation.home, "down")
    figures = summarize(bench)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    show(figures)
    return 0 if figures["ratio"] <= TARGET and figures["docs_share"] <= DOCS_TARGET else 1


def prepare(directory: Path, through: date) -> Bench:
    """Start an installation; meanwhile make repository, data and the model's environment."""
    home, models = directory / "home", directory / "models"
    models.mkdir()
    shutil.copy(PROJECT / "include" / "models" / "_defaults.yaml", models)
    ports = [word for name in ("airflow", "mlflow", "staging", "production") for word in _port(name)]
    with taxiway_process(home, "up", "--detach", "--models", str(models), *ports) as starting:
        bench = Bench(Installation(home, models), directory)
        arrive(home / "demo" / "flights", through=through)
        first(bench.repository, at=_COMMITTED_AT)
        lock = PROJECT / "examples" / MODEL / "requirements.txt"
        ensure_environment(lock, home / "cache", timeout=timedelta(minutes=10))
    if starting.returncode != 0:
        raise SystemExit("the installation did not start")
    bench.installation = Installation.load(home)
    return bench


def measure(bench: Bench, repeats: int) -> None:
    """Build by script and by DAG, in turns; after each, push a commit that changes documentation only."""
    bench.run_script("main")
    declare(bench)
    for number in range(repeats):
        script, dag = f"script-{number}", f"dag-{number}"
        if number:
            bench.commit(script, f"src/{MODEL}/train.py", f"# {script}\n", base="main")
            bench.run_script(script)
        bench.commit(dag, f"src/{MODEL}/train.py", f"# {dag}\n", base="main")
        bench.dag.append(bench.run_dag(dag))
        bench.settled()
        docs = f"docs-{number}"
        bench.commit(docs, "README.md", "One more sentence.\n", base=dag)
        bench.docs.append(bench.run_dag(docs, reason="commit")["run"]["end"])


def declare(bench: Bench) -> None:
    """Give Airflow the model's spec; its watcher finds that the newest commit is built already."""
    shutil.copy(PROJECT / "include" / "models" / f"{MODEL}.yaml", bench.installation.models)
    wait_for(lambda: f"{MODEL}.ci" in {dag["dag_id"] for dag in bench.airflow.dags()}, "the DAGs")
    sha = bench.repository.find(FIRST)
    bench.ended(f"commit-{sha}")


def summarize(bench: Bench) -> dict[str, Any]:
    """Return medians in seconds and the two ratios."""
    script = {name: statistics.median(run[name] for run in bench.script) for name in bench.script[0]}
    dag = {
        name: {edge: statistics.median(run[name][edge] for run in bench.dag) for edge in ("start", "end")}
        for name in bench.dag[0]
    }
    candidate, run, docs = dag["register"]["end"], dag["run"]["end"], statistics.median(bench.docs)
    return {
        "script_s": script,
        "dag_s": dag,
        "ratio": candidate / script["all"],
        "docs_s": docs,
        "docs_share": docs / run,
        "targets": {"ratio": TARGET, "docs_share": DOCS_TARGET},
    }


def show(figures: dict[str, Any]) -> None:
    """Print where the time goes, task by task, and the two figures."""
    script, dag = figures["script_s"], figures["dag_s"]
    print(f"{'stage':<20}{'script, s':>10}{'task, s':>10}{'from':>8}{'to':>8}")
    for name, span in sorted(dag.items(), key=lambda item: item[1]["end"]):
        alone = f"{script[name]:.2f}" if name in script else "-"
        print(f"{name:<20}{alone:>10}{span['end'] - span['start']:>10.2f}{span['start']:>8.2f}{span['end']:>8.2f}")
    print(f"to the candidate: script {script['all']:.1f} s, DAG {dag['register']['end']:.1f} s")
    print(f"documentation only: {figures['docs_s']:.1f} s of {dag['run']['end']:.1f} s")
    print(
        f"ratio {figures['ratio']:.3f}, target <= {TARGET}; "
        f"documentation {figures['docs_share']:.3f}, target <= {DOCS_TARGET}"
    )


def wait_for(look: Callable[[], Found | None], what: str) -> Found:
    """Return what `look` finds."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(_POLL)
    raise SystemExit(f"waited {_PATIENCE:g} s in vain for {what}")


def taxiway(home: Path, *words: str) -> None:
    """Run a command of Taxiway to its end."""
    with taxiway_process(home, *words):
        pass


def taxiway_process(home: Path, command: str, *words: str) -> subprocess.Popen[bytes]:
    """Start a command of Taxiway."""
    program = str(Path(sys.executable).with_name("taxiway"))
    return subprocess.Popen([program, command, "--home", str(home), *words], stdout=subprocess.DEVNULL)


def _port(name: str) -> tuple[str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"--{name}-port", str(free.getsockname()[1])


def _span(item: dict[str, Any], since: float) -> dict[str, float]:
    return {edge: datetime.fromisoformat(item[f"{edge}_date"]).timestamp() - since for edge in ("start", "end")}


if __name__ == "__main__":
    sys.exit(main())
