"""What is tested and what trains is the wheel's code, even where the repository has other code of the same name."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from taxiway.domain.evidence import Verdict
from taxiway.errors import TestsFailed
from taxiway.stages.build import Build
from taxiway.stages.data import TRAINING
from taxiway.stages.repository_tests import RepositoryTests
from taxiway.stages.train import train
from tests.gateway_models import CACHE, LOCK
from tests.unit.tiny_repositories import OWN_BACKEND, Workshop

TRAIN = """
import mlflow.pyfunc
from mlflow.models import infer_signature

WHOSE = "the repository's"

class Same(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["distance"].to_numpy()

def train(frame, model_dir, params):
    features = frame[["distance"]]
    signature = infer_signature(features, features["distance"])
    requirements, whose = ["mlflow-skinny"], {"whose": WHOSE}
    mlflow.pyfunc.save_model(
        model_dir, python_model=Same(), signature=signature, pip_requirements=requirements, metadata=whose
    )
"""
PACKAGE = '''
import pathlib, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    """Package the code, with one word changed."""
    info, name = "tiny-1.0.dist-info", "tiny-1.0-py3-none-any.whl"
    code = pathlib.Path("tiny/train.py").read_text().replace("the repository's", "the wheel's")
    with zipfile.ZipFile(pathlib.Path(directory, name), "w") as archive:
        archive.writestr("tiny/__init__.py", "")
        archive.writestr("tiny/train.py", code)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(f"{info}/RECORD", "")
    return name
'''
TEST = """
from importlib.metadata import version
from tests.unit.shared import whose

def test_whose_code_it_is():
    assert (whose(), version("tiny")) == ("the wheel's", "1.0")
"""
FLAT: dict[str, str | None] = {
    # All that could put the repository first: flat code, tests that are packages, and pytest's own setting.
    "pyproject.toml": OWN_BACKEND + '\n[tool.pytest.ini_options]\npythonpath = [".", "src"]\n',
    "backend.py": PACKAGE,
    "tiny/__init__.py": "",
    "tiny/train.py": TRAIN,
    "src/tiny/train.py": TRAIN,
    "tests/__init__.py": "",
    "tests/unit/__init__.py": "",
    "tests/unit/shared.py": "from tiny.train import WHOSE\n\ndef whose(): return WHOSE\n",
    "tests/unit/test_tiny.py": TEST,
}


@pytest.fixture
def workshop() -> Workshop:
    """A machine with the example's environment, the real one."""
    return Workshop(CACHE, LOCK.read_text())


def unit_tests(workshop: Workshop, of: Build) -> Verdict:
    """Run the repository's unit tests; returns the verdict."""
    tests = RepositoryTests(workshop.spec, of, workshop.git, workshop.registry, workshop.cache, workshop.clock)
    return tests.unit_tests().verdict


def test_unit_tests_test_the_wheel(workshop: Workshop) -> None:
    """Neither a flat layout nor tests in packages nor pytest's `pythonpath` bring the repository's code back."""
    assert unit_tests(workshop, workshop.built(FLAT)) is Verdict.PASSED


def test_code_that_was_not_packaged_is_missed_by_its_tests(workshop: Workshop) -> None:
    """A module that the wheel lacks cannot pass tests, though the repository has it."""
    test = "def test_more():\n    import tiny.more\n"

    with pytest.raises(TestsFailed, match="test_more"):
        unit_tests(workshop, workshop.built({**FLAT, "tiny/more.py": "", "tests/unit/test_tiny.py": test}))


def test_the_wheel_trains(workshop: Workshop, tmp_path: Path) -> None:
    """The model is made by the code that was packaged."""
    of = workshop.built(FLAT)
    frame = tmp_path / "training.parquet"
    pd.DataFrame({name: [1.0] for name in workshop.spec.data.features}).to_parquet(frame)
    workshop.registry.put_file(of.run_id, TRAINING, frame)

    train(workshop.spec, of, git=workshop.git, registry=workshop.registry, cache=workshop.cache, clock=workshop.clock)

    assert b"the wheel's" in workshop.stored(of)["model/MLmodel"]
