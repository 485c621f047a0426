"""DAG tests parse the real DAG files; Airflow reads its settings when it is first imported."""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="taxiway-airflow-"))
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
