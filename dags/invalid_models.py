"""Raises with every problem of every broken model spec, so that the Airflow UI shows it as an import error.

It defines no DAG: the valid models' DAGs are in the other files and keep running.
"""

from __future__ import annotations

from taxiway.bootstrap import settings
from taxiway.errors import SpecError
from taxiway.spec_files import load_specs

_here = settings()
_problems = load_specs(_here.models, _here.spec_variables).problems
if _problems:
    raise SpecError(
        "\n".join(str(problem) for problem in _problems),
        where=str(_here.models),
        next_step="correct the files, then run `taxiway validate`.",
    )
