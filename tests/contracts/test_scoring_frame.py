"""The scorer's own way from a request to a data frame gives MLflow's frame, or leaves the request to MLflow."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.models.utils import _enforce_schema
from mlflow.types import ColSpec, Schema, TensorSpec
from mlflow.types.schema import Array, DataType

with warnings.catch_warnings(action="ignore"):  # MLflow warns of its own type hints
    from mlflow.pyfunc import scoring_server

pytestmark = [  # both ways warn
    pytest.mark.filterwarnings("ignore:Could not infer format"),  # texts that are no dates
    pytest.mark.filterwarnings("ignore:overflow encountered in cast"),  # too large for float32: infinite
]
SANDBOX = Path(__file__).resolve().parents[2] / "include" / "taxiway" / "sandbox"
TYPES = ("double", "float", "long", "integer", "boolean", "string", "datetime")
SCHEMA = Schema([ColSpec(name, f"a_{name}") for name in TYPES])
ROW: dict[str, Any] = {
    "a_double": 1.5,
    "a_float": 0.1,
    "a_long": 2**53 + 1,
    "a_integer": -3,
    "a_boolean": True,
    "a_string": "Zürich",
    "a_datetime": "2013-01-01T05:00:00.123456",
}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(["2013-01-01", "2013-01-01T05:00:00Z", "1.5", "true", "", "\ud800", [1], {"a": 1}, *ROW.values()]),
)


@pytest.fixture(scope="module")
def maker_of() -> Iterator[Any]:
    """The script's class, found as the scorer finds it."""
    sys.path.insert(0, str(SANDBOX))
    try:
        from scoring_frame import FrameMaker

        yield lambda signature: FrameMaker(Model(signature=signature))
    finally:
        sys.path.remove(str(SANDBOX))


def mlflows(body: bytes, schema: Schema) -> pd.DataFrame:
    """Return the frame that MLflow's scoring server would give to the model."""
    document = json.loads(body)
    return _enforce_schema(scoring_server.infer_and_parse_data(document, schema), schema)


def of_records(*rows: dict[str, Any]) -> bytes:
    return json.dumps({"dataframe_records": list(rows)}).encode()


def of_split(columns: list[str], rows: list[list[Any]], **more: Any) -> bytes:
    return json.dumps({"dataframe_split": {"columns": columns, "data": rows, **more}}).encode()


@pytest.mark.parametrize(
    "body",
    [
        of_records(ROW),
        of_records(ROW, ROW | {"a_double": None, "a_float": 2}, dict(reversed(ROW.items()))),
        of_records(ROW | {"id": "x", "deep": [1]}),
        of_split(list(ROW), [list(ROW.values())] * 3),
        of_split(list(ROW)[::-1], [list(ROW.values())[::-1]]),
    ],
)
def test_full_rows_of_the_schemas_types_go_the_short_way(maker_of: Any, body: bytes) -> None:
    """What most callers send is made into MLflow's frame without MLflow."""
    made = maker_of(ModelSignature(SCHEMA)).frame(body)

    assert made is not None
    pd.testing.assert_frame_equal(made, mlflows(body, SCHEMA))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(changes=st.lists(st.dictionaries(st.sampled_from([*ROW, "more"]), VALUES, max_size=3), min_size=1, max_size=4))
def test_whatever_is_sent_there_is_no_other_frame_than_mlflows(maker_of: Any, changes: list[dict[str, Any]]) -> None:
    """For any values, of an additional column too: MLflow's frame, or none."""
    rows = [ROW | {"more": "x"} | change for change in changes]
    for body in (of_records(*rows), of_split([*ROW, "more"], [list(row.values()) for row in rows])):
        made = maker_of(ModelSignature(SCHEMA)).frame(body)
        if made is not None:
            try:
                theirs = mlflows(body, SCHEMA)
            except MlflowException as error:
                pytest.fail(f"MLflow refuses this: {error}")
            pd.testing.assert_frame_equal(made, theirs)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"[" * 30_000,
        of_records(),
        of_records({name: value for name, value in ROW.items() if name != "a_long"}),
        of_records(ROW, {}),
        of_records(ROW | {"a_long": 1.0}),
        of_records(ROW | {"a_long": True}),
        of_records(ROW | {"a_integer": 2**40}),
        of_records(ROW | {"a_string": None}),
        of_records(ROW | {"a_datetime": "2013-01-01T05:00:00Z"}),
        of_split(["a_long", *ROW], [[1, *ROW.values()]]),
        of_split(list(ROW), [list(ROW.values())[:-1]]),
        of_split(list(ROW), [list(ROW.values())], index=[7]),
        json.dumps({"instances": [ROW]}).encode(),
        json.dumps({"dataframe_records": [ROW], "params": {"factor": 2}}).encode(),
    ],
)
def test_everything_else_is_left_to_mlflow(maker_of: Any, body: bytes) -> None:
    """What would have to be converted, completed or refused is not decided here."""
    assert maker_of(ModelSignature(SCHEMA)).frame(body) is None


@pytest.mark.parametrize(
    "schema",
    [
        None,
        Schema([TensorSpec(pd.Series([1.0]).to_numpy().dtype, (-1, 2))]),
        Schema([ColSpec("double")]),
        Schema([ColSpec("double", "a_double"), ColSpec(Array(DataType.double), "list")]),
        Schema([ColSpec("binary", "a_double")]),
    ],
)
def test_models_without_a_schema_of_plain_columns_are_left_to_mlflow(maker_of: Any, schema: Schema | None) -> None:
    """Tensors, unnamed columns, nested and binary types are MLflow's business."""
    signature = None if schema is None else ModelSignature(schema)

    assert maker_of(signature).frame(of_records(ROW)) is None
