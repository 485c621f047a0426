"""The registry port on MLflow: one experiment per model, one run per build, one model version per candidate."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from taxiway.adapters.mlflow_rest import MlflowRest
from taxiway.adapters.system_clock import SystemClock
from taxiway.domain.values import Candidate
from taxiway.errors import NotFoundError, SettingsError
from taxiway.ports import Clock

BUILD_TAG = "taxiway.build_id"
MODEL_PATH = "model"
_TRANSFERS = 4


class MlflowRegistry:
    """Builds and candidates in one MLflow server with an artifact proxy; safe to share between threads.

    `seconds` is how long to wait for an answer where somebody is in a hurry.
    """

    def __init__(
        self, url: str, *, clock: Clock | None = None, page_size: int = 200, seconds: float | None = None
    ) -> None:
        self._rest = MlflowRest(url) if seconds is None else MlflowRest(url, httpx.Timeout(seconds))
        self._page_size = page_size
        self._clock = clock or SystemClock()
        self._roots: dict[str, str] = {}

    # Builds

    def open_build(self, model: str, build_id: str, tags: Mapping[str, str]) -> str:
        """Return the run id of the build, now running; the same for the same (model, build_id); sets the tags."""
        experiment = self._experiment(model)
        run = self._find_run(experiment, build_id)
        if run is None:
            self._create_run(experiment, build_id)
            run = self._find_run(experiment, build_id)  # the oldest, should two callers have created one each
        if run is None:
            raise NotFoundError(f"the run of build {build_id!r} was deleted while it was opened", where=self._rest.url)
        commit = {"mlflow.source.git.commit": tags["taxiway.commit"]} if "taxiway.commit" in tags else {}
        if tags:
            self._rest.post("runs/log-batch", {"run_id": run["info"]["run_id"], "tags": _pairs({**tags, **commit})})
        if run["info"]["status"] != "RUNNING":
            self._rest.post("runs/update", {"run_id": run["info"]["run_id"], "status": "RUNNING"})
        return str(run["info"]["run_id"])

    def close_build(self, run_id: str, *, succeeded: bool) -> None:
        """Mark the build's run as finished or failed; raises NotFoundError."""
        status = "FINISHED" if succeeded else "FAILED"
        self._rest.post("runs/update", {"run_id": run_id, "status": status, "end_time": self._milliseconds()})

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Record figures on the build's run."""
        at = self._milliseconds()
        entries = [{"key": key, "value": _number(value), "timestamp": at, "step": 0} for key, value in metrics.items()]
        self._rest.post("runs/log-batch", {"run_id": run_id, "metrics": entries})

    # Files of a build

    def put_file(self, run_id: str, path: str, source: Path) -> None:
        """Store one file at `path` of the run, replacing what was there."""
        self._rest.upload(f"{self._root(run_id)}/{path}", source)

    def put_directory(self, run_id: str, path: str, source: Path) -> None:
        """Store every file below `source` under `path` of the run; files that an earlier try left there go away."""
        target = f"{self._root(run_id)}/{path}"
        files = {file.relative_to(source).as_posix(): file for file in source.rglob("*") if file.is_file()}
        stale = [name for name in self._walk(target) if name not in files]
        _in_parallel(lambda name: self._rest.upload(f"{target}/{name}", files[name]), files)
        _in_parallel(lambda name: self._rest.delete(f"{target}/{name}"), stale)

    def put_json(self, run_id: str, path: str, document: object) -> None:
        """Store a JSON document at `path` of the run."""
        content = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
        self._rest.upload_bytes(f"{self._root(run_id)}/{path}", content.encode())

    def get_file(self, run_id: str, path: str, destination: Path) -> None:
        """Write the stored file to `destination`; raises NotFoundError when there is none."""
        self._rest.download(f"{self._root(run_id)}/{path}", destination)

    def get_directory(self, run_id: str, path: str, destination: Path) -> None:
        """Write every stored file below `path` to `destination`; raises NotFoundError when there is none."""
        origin = f"{self._root(run_id)}/{path}"
        names = list(self._walk(origin))
        if not names:
            raise NotFoundError(f"run {run_id} has no files below {path!r}", where=self._rest.url)
        _in_parallel(lambda name: self._rest.download(f"{origin}/{name}", destination / name), names)

    def get_json(self, run_id: str, path: str) -> Any:
        """Return the stored JSON document; raises NotFoundError when there is none."""
        return json.loads(self._rest.read(f"{self._root(run_id)}/{path}"))

    def list_files(self, run_id: str, path: str) -> list[str]:
        """Return the paths (within the run) of the files directly below `path`, sorted; empty when there are none."""
        entries = self._rest.entries(f"{self._root(run_id)}/{path}".rstrip("/"))
        return [f"{path}/{name}".lstrip("/") for name, is_directory in entries if not is_directory]

    def page(self, run_id: str, path: str) -> str:
        """Return the address of a stored file in MLflow's user interface, without a password of ours.

        Raises NotFoundError for an unknown run.
        """
        experiment = self._run(run_id)["info"]["experiment_id"]
        parts = urlsplit(self._rest.url)
        url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        return f"{url}/#/experiments/{experiment}/runs/{run_id}/artifacts/{path}"

    # Candidates

    def register(self, model: str, run_id: str, tags: Mapping[str, str], description: str) -> Candidate:
        """Make the run's model a new version; returns the existing one when the run has one already."""
        self._rest.post("registered-models/create", {"name": model}, allow="RESOURCE_ALREADY_EXISTS")
        found = self._search(model, f"run_id = {_quoted(run_id)}")
        if found:
            return self.candidate(model, min(found, key=lambda candidate: candidate.version).version)
        body = {
            "name": model,
            "source": f"{self._run(run_id)['info']['artifact_uri']}/{MODEL_PATH}",
            "run_id": run_id,
            "tags": _pairs(tags),
            "description": description,
        }
        return _candidate(self._rest.post("model-versions/create", body)["model_version"])

    def candidate(self, model: str, version: int) -> Candidate:
        """Return a version; raises NotFoundError."""
        return _candidate(self._rest.get("model-versions/get", name=model, version=version)["model_version"])

    def candidates(self, model: str) -> list[Candidate]:
        """Return all versions, newest first; empty for an unknown model."""
        return self._search(model)

    def find_candidate(self, model: str, tag: str, value: str) -> Candidate | None:
        """Return the newest version that has this tag, or None."""
        found = self._search(model, f"tags.`{tag}` = {_quoted(value)}")
        return found[0] if found else None

    def by_alias(self, model: str, alias: str) -> Candidate | None:
        """Return the version that the alias points to, or None."""
        try:  # MLflow answers 404 for an unknown model, but 400 for an unknown alias
            found = self._rest.get("registered-models/alias", name=model, alias=alias, allow="INVALID_PARAMETER_VALUE")
        except NotFoundError:
            return None
        return _candidate(found["model_version"]) if found else None

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point the alias to the version; raises NotFoundError."""
        self._rest.post("registered-models/alias", {"name": model, "alias": alias, "version": str(version)})

    def delete_alias(self, model: str, alias: str) -> None:
        """Remove the alias; nothing happens when there is none."""
        try:
            self._rest.post("registered-models/alias", {"name": model, "alias": alias}, method="DELETE")
        except NotFoundError:
            return

    def set_tags(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version; other tags stay; raises NotFoundError."""
        for key, value in tags.items():
            body = {"name": model, "version": str(version), "key": key, "value": value}
            self._rest.post("model-versions/set-tag", body)

    # MLflow's ways

    def _experiment(self, model: str) -> str:
        try:
            found = self._rest.get("experiments/get-by-name", experiment_name=model)
        except NotFoundError:
            self._rest.post("experiments/create", {"name": model}, allow="RESOURCE_ALREADY_EXISTS")
            found = self._rest.get("experiments/get-by-name", experiment_name=model)
        return str(found["experiment"]["experiment_id"])

    def _create_run(self, experiment: str, build_id: str) -> None:
        shown = {"mlflow.user": "taxiway", "mlflow.source.name": "taxiway", "mlflow.source.type": "JOB"}
        body = {
            "experiment_id": experiment,
            "run_name": build_id,
            "start_time": self._milliseconds(),
            "tags": _pairs({**shown, BUILD_TAG: build_id}),  # found again even after a crash right here
        }
        self._rest.post("runs/create", body)

    def _find_run(self, experiment: str, build_id: str) -> dict[str, Any] | None:
        query = {
            "experiment_ids": [experiment],
            "filter": f"tags.`{BUILD_TAG}` = {_quoted(build_id)}",
            "order_by": ["attributes.start_time ASC"],
            "max_results": 1,
        }
        runs: list[dict[str, Any]] = self._rest.post("runs/search", query).get("runs", [])
        return runs[0] if runs else None

    def _run(self, run_id: str) -> dict[str, Any]:
        run: dict[str, Any] = self._rest.get("runs/get", run_id=run_id)["run"]
        return run

    def _root(self, run_id: str) -> str:
        """Return the run's directory in the artifact store, as the proxy names it."""
        if run_id not in self._roots:
            uri = urlsplit(self._run(run_id)["info"]["artifact_uri"])
            if uri.scheme != "mlflow-artifacts":
                raise SettingsError(
                    f"MLflow does not serve the artifacts of run {run_id} ({uri.geturl()})",
                    where=self._rest.url,
                    next_step="start `mlflow server` with --serve-artifacts and --artifacts-destination.",
                )
            self._roots[run_id] = uri.path.strip("/")
        return self._roots[run_id]

    def _walk(self, directory: str, below: str = "") -> Iterator[str]:
        """Yield the path of every stored file below the directory, relative to it."""
        for name, is_directory in self._rest.entries(f"{directory}/{below}".rstrip("/")):
            if is_directory:
                yield from self._walk(directory, f"{below}{name}/")
            else:
                yield f"{below}{name}"

    def _search(self, model: str, condition: str = "") -> list[Candidate]:
        query = f"name = {_quoted(model)}" + (f" AND {condition}" if condition else "")
        versions: list[dict[str, Any]] = []
        token = ""
        while True:
            page = self._rest.get(
                "model-versions/search",
                filter=query,
                order_by="version_number DESC",
                max_results=self._page_size,
                page_token=token,
            )
            versions += page.get("model_versions", [])
            token = page.get("next_page_token", "")
            if not token:
                break
        if not versions:
            return []
        aliases = self._aliases(model)  # a search does not tell the aliases
        return [_candidate({**version, "aliases": aliases.get(version["version"], [])}) for version in versions]

    def _aliases(self, model: str) -> dict[str, list[str]]:
        by_version: dict[str, list[str]] = {}
        for entry in self._rest.get("registered-models/get", name=model)["registered_model"].get("aliases", []):
            by_version.setdefault(entry["version"], []).append(entry["alias"])
        return by_version

    def _milliseconds(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


def _candidate(version: Mapping[str, Any]) -> Candidate:
    return Candidate(
        model=version["name"],
        version=int(version["version"]),
        run_id=version.get("run_id", ""),
        tags={tag["key"]: tag["value"] for tag in version.get("tags", [])},
        aliases=frozenset(version.get("aliases", [])),
    )


def _pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _quoted(value: str) -> str:
    """Return the value as a literal of MLflow's filter language, which has two quotes and no escape."""
    return f'"{value}"' if "'" in value else f"'{value}'"


def _number(value: float) -> float | str:
    """Return the value as MLflow's JSON (protobuf) wants it: NaN and infinities are words."""
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _in_parallel(transfer: Callable[[str], None], names: Iterable[str]) -> None:
    """Run the transfers a few at a time; raises the first error when all have ended."""
    with ThreadPoolExecutor(_TRANSFERS) as pool:
        for done in [pool.submit(transfer, name) for name in names]:
            done.result()
