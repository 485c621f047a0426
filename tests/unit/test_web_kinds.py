"""The console shows what models of every kind answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taxiway.bootstrap import Settings
from taxiway.spec import ModelSpec
from taxiway.web import create_app
from tests.unit.test_web_console import DOCUMENT, MODEL, Place, as_user, client_of, user_of_header

TASK = {"label": "left", "key": "customer", "timestamp": "asked_at"}
CLASSES = {"classes": ["stays", "goes", "rests"]}


@pytest.mark.parametrize(
    ("task", "metric", "predictions", "texts"),
    [
        (
            {"kind": "multiclass", **CLASSES},
            "accuracy",
            [[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]],
            ("stays (0.70)", "goes (0.50)", "its most probable class"),
        ),
        ({"kind": "multiclass", **CLASSES}, "accuracy", ["rests", "stays"], ("rests", "stays")),
        ({"kind": "regression"}, "rmse", [12.5, -3.25], ("12.5", "-3.25", "its prediction")),
    ],
    ids=["scores", "labels", "regression"],
)
async def test_cases_can_be_read(
    tmp_path: Path, task: dict[str, Any], metric: str, predictions: list[Any], texts: tuple[str, ...]
) -> None:
    """Testers see the most probable class with its score, the class, or the number; the API has the answer itself."""
    place = Place(Settings(*[tmp_path] * 3, "http://mlflow.example", "http://airflow.example", tmp_path, tmp_path, {}))
    place.model = ModelSpec.model_validate(
        {
            **DOCUMENT,
            "task": {**TASK, **task},
            "gates": {"metrics": {metric: {}}},
            "monitoring": {"performance": {"metric": metric, "max_drop": 0.05}},
        }
    )
    run = place.registry.open_build(MODEL, "commit-1", {})
    place.registry.register(MODEL, run, {"taxiway.state": "staging"}, "")
    golden = {"inputs": {"columns": ["customer"], "data": [["c1"], ["c2"]]}, "predictions": predictions}
    place.registry.put_json(run, "taxiway/golden.json", golden)
    path = f"models/{MODEL}/versions/1"

    async with client_of(create_app(lambda: place, current_user=user_of_header)) as client:
        page = (await client.get(f"/taxiway/{path}", headers=as_user("ana"))).text
        document = (await client.get(f"/taxiway/api/{path}", headers=as_user("ana"))).json()

    assert [text for text in texts if text not in " ".join(page.split())] == []
    assert [case["prediction"] for case in document["cases"]] == predictions
