"""What the DAGs of all models have in common: which specs to build, ids, documentation, defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import yaml
from airflow.sdk import DAG, get_parsing_context

from taxiway.bootstrap import settings
from taxiway.spec import ModelSpec
from taxiway.spec_files import load_specs

_START = datetime(2013, 1, 1, tzinfo=UTC)


def build_all(build: Callable[[ModelSpec], DAG]) -> dict[str, DAG]:
    """Build one DAG per valid spec; inside a task only the DAG that the task belongs to."""
    wanted = get_parsing_context().dag_id
    here = settings()
    only = None if wanted is None else wanted.rpartition(".")[0]
    specs = load_specs(here.models, here.spec_variables, only=only).specs
    return {dag.dag_id: dag for dag in map(build, specs.values())}


def dag_arguments(spec: ModelSpec, kind: str, summary: str) -> dict[str, Any]:
    """Return what every DAG of a model is made with."""
    return {
        "dag_id": f"{spec.model}.{kind}",
        "description": summary,
        "doc_md": f"**{spec.model}**: {spec.description}\n\n{summary}\n\n```yaml\n{_as_yaml(spec)}```\n",
        "tags": ["taxiway", spec.model, kind],
        "default_args": {"owner": spec.owner},
        "start_date": _START,
        "catchup": False,
        "schedule": None,
    }


def _as_yaml(spec: ModelSpec) -> str:
    document: Mapping[str, Any] = spec.model_dump(mode="json", exclude_none=True, by_alias=True)
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
