"""Packaged models as production serves them: what is asked of them, and how those that must not pass are found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taxiway.adapters.cyclonedx_sbom import CycloneDx
from taxiway.errors import IntegrityError, PackageRejected
from taxiway.spec import ModelSpec
from taxiway.stages.build import BuildTools, Request, open_build
from taxiway.stages.build import build as build_once
from taxiway.stages.data import HOLDOUT, TRAINING
from taxiway.stages.package_checks import PackageChecks
from taxiway.stages.train import TRAINED_ANSWERS, train
from tests.fakes import FakeClock, FakeGit, FakeRegistry
from tests.gateway_models import CACHE, LOCK
from tests.packaged_models import FRAME, make_models, small_spec, trained_build

pytestmark = pytest.mark.timeout(600)  # the first test may have to build the models' environment
SUMS = (FRAME["x"] / 10 + FRAME["y"] / 100).head(20).tolist()
BEHAVIOUR = {
    "rows": 40,
    "invariance": [{"column": "c", "max_change": 0}, {"column": "y", "max_change": 0.01}],
    "direction": [{"column": "x", "by": 1, "expect": "rise"}, {"column": "y", "by": -0.5, "expect": "rise"}],
}
BAD = ("malformed JSON", "JSON without a known key", "a missing column", "text in a column of numbers", "no rows")
BAD += ("an unknown content type", "no content type", "a very long content type")
ALWAYS = ("answers as in training", "answers each row alike", "answers with finite numbers", "latency")
URL = "memory://small"


@dataclass(frozen=True)
class Found:
    """What the checks left: the error that ended the stage (None: it passed), the evidence, MLflow's metrics."""

    error: str | None
    evidence: dict[str, Any]
    metrics: dict[str, float]

    @property
    def verdicts(self) -> dict[str, str]:
        return {check["check"]: check["verdict"] for check in self.evidence["figures"]["checks"]}

    @property
    def failed(self) -> dict[str, str]:
        checks = self.evidence["figures"]["checks"]
        return {check["check"]: check["reason"] for check in checks if check["verdict"] == "failed"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


def check(model: Path, spec: ModelSpec | None = None, answers: list[Any] = SUMS) -> Found:
    """Check a model whose training process gave these answers."""
    registry = FakeRegistry()
    build = trained_build(registry, model, answers)
    checks = PackageChecks(spec or small_spec(), build, registry, CACHE, FakeClock())
    error = None
    try:
        checks.run()
    except PackageRejected as raised:
        error = raised.what
    run = registry.runs[build.run_id]
    return Found(error, registry.get_json(build.run_id, "taxiway/package_checks.json"), run.metrics)


@pytest.fixture(scope="module")
def good(models: Path) -> Found:
    """A good model, asked everything."""
    return check(models / "good", small_spec(behaviour=BEHAVIOUR))


def test_a_good_model_answers_everything(models: Path) -> None:
    """Every check passes, and each is in the evidence."""
    found = check(models / "good")

    assert (found.error, found.evidence["verdict"]) == (None, "passed")
    assert found.verdicts == dict.fromkeys(
        ("becomes ready", "answers its input example", *ALWAYS, *(f"refuses {bad}" for bad in BAD)), "passed"
    )


def test_latency_and_size_are_measured(good: Found) -> None:
    """The figures that the gate judges come from here, and MLflow shows them."""
    figures = good.evidence["figures"]

    assert 0 < figures["latency_p50_ms"] <= figures["latency_p99_ms"]
    assert figures["requests"] >= 200
    assert good.metrics == {name: figures[name] for name in ("latency_p50_ms", "latency_p99_ms", "size_mb")}


def test_behaviour_is_judged_by_the_spec(good: Found) -> None:
    """A column that matters more than allowed, and a direction that does not hold, are failures with their figures."""
    assert set(good.failed) == {"does not depend on y", "y -0.5: predictions rise"}
    assert "largest change 0.02, allowed 0.01" in good.failed["does not depend on y"]
    rows = {row["test"]: row for row in good.evidence["figures"]["behaviour"]}
    assert rows["c exchanged"]["largest_change"] == pytest.approx(0)
    assert rows["x +1"]["mean_change"] == pytest.approx(0.1)
    assert rows["x +1"]["share"] == 1
    assert rows["y exchanged"]["rows"] == 40
    assert FRAME["id"].isin([rows["y exchanged"]["worst_row"]]).any()


def test_behaviour_is_the_same_at_every_try(models: Path, good: Found) -> None:
    """The rows are drawn with a fixed seed: a repeat finds the same figures."""
    again = check(models / "good", small_spec(behaviour=BEHAVIOUR))

    assert again.evidence["figures"]["behaviour"] == good.evidence["figures"]["behaviour"]


BAD_MODELS = {
    "nan": ("answers with finite numbers", "9 of 60 rows of the holdout have no finite prediction, such as id row-51"),
    "dies": ("refuses no rows", "the server ended with exit code 7"),
    "mean": ("answers each row alike", "20 of 20 rows are answered differently when they are asked one by one"),
    "short": ("answers with finite numbers", "1 predictions for 60 rows"),
    "elsewhere": ("answers as in training", "instead of 0.0"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_models_are_found(models: Path, name: str) -> None:
    """Each bad model fails the check that is made for it, and the stage names the reason."""
    check_name, reason = BAD_MODELS[name]
    found = check(models / name)

    assert reason in found.failed[check_name]
    assert f"{check_name}: {found.failed[check_name]}" in str(found.error)
    assert found.evidence["verdict"] == "failed"


def test_all_failures_are_recorded(models: Path) -> None:
    """The first failure hides no other: a data scientist corrects them together."""
    found = check(models / "mean")

    assert set(found.failed) == {"answers as in training", "answers each row alike"}
    assert found.verdicts["refuses no rows"] == "passed"


def test_what_cannot_be_tried_is_said(models: Path) -> None:
    """After a server has died nothing is said to have passed."""
    found = check(models / "dies")

    assert found.verdicts["refuses text in a column of numbers"] == "passed"
    assert found.verdicts["refuses an unknown content type"] == "error"
    assert "answers its input example" not in found.verdicts  # it was saved without one


@pytest.mark.parametrize(("name", "check_name"), [("never", "becomes ready"), ("stubborn", "refuses no rows")])
def test_a_model_that_hangs_meets_its_limit(models: Path, name: str, check_name: str) -> None:
    """A model that never becomes ready, or never answers, is stopped by its limit, which is the reason."""
    spec = small_spec(limits={"predict": "20s"})

    assert check(models / name, spec).failed[check_name] == "the server was stopped at the limit: wall time of 20 s"


def test_an_error_that_holds_the_input_is_not_passed_on(models: Path) -> None:
    """A model may put the caller's rows into its exceptions: callers get none of it, which is what is checked."""
    assert check(models / "leaks").error is None


def test_a_slow_model_is_measured_not_judged(models: Path) -> None:
    """How slow is too slow is the gate's to say; the quietest of three rounds counts."""
    found = check(models / "slow", small_spec(gates={"metrics": {"roc_auc": {"min": 0}}, "latency_p99_ms": 1}))

    assert found.error is None
    assert found.evidence["figures"]["latency_p50_ms"] > 20


@pytest.mark.parametrize(
    ("name", "answers", "change"),
    [
        ("labels", ["here", "near", "near"], 1),
        ("scores", [[0, 0, 1], [0.1 / 9, 1 / 9, 7.9 / 9], [0.2 / 9, 2 / 9, 6.8 / 9]], 2 / 9),
    ],
)
def test_classes_are_answers_too(models: Path, name: str, answers: list[Any], change: float) -> None:
    """Labels and scores per class pass every check; another label is a change of 1, of scores the largest counts."""
    found = check(
        models / name,
        small_spec("multiclass", behaviour={"invariance": [{"column": "y", "max_change": change}]}),
        answers,
    )

    assert found.failed == {}
    assert found.evidence["figures"]["behaviour"][0]["largest_change"] == pytest.approx(change)


def test_files_that_were_exchanged_after_training_are_not_checked(models: Path) -> None:
    """The digest in the evidence is the one that training left: other files are nobody's model."""
    registry = FakeRegistry()
    build = trained_build(registry, models / "good", SUMS)
    registry.put_file(build.run_id, "model/extra", LOCK)

    with pytest.raises(IntegrityError, match="is not the one that was trained"):
        PackageChecks(small_spec(), build, registry, CACHE, FakeClock()).run()


AS_CODE = {"loaders": ["mlflow.pyfunc.loaders.code_model"], "code": True}
REPOSITORY = {
    "pyproject.toml": """
[build-system]
requires = ["uv_build"]
build-backend = "uv_build"

[project]
name = "trainer"
version = "1.0"

[tool.taxiway]
train = "trainer:train"
""",
    "requirements.txt": LOCK.read_text(),
    "tests/unit/empty.txt": "",
    "tests/integration/empty.txt": "",
    "src/trainer/__init__.py": """
from pathlib import Path
import mlflow
from mlflow.models import infer_signature

SCRIPT = '''
from pathlib import Path
import sys
import mlflow

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        files = [Path(folder, "trainer", "factor.txt") for folder in sys.path]
        found = [file.read_text() for file in files if file.exists()]
        return model_input["x"].to_numpy() * (float(found[0]) if found else 1.0)

mlflow.models.set_model(Model())
'''

def train(frame, model_dir, params):
    Path("script.py").write_text(SCRIPT)
    features = frame[["x", "y", "c"]]
    mlflow.pyfunc.save_model(model_dir, python_model="script.py", pip_requirements=["mlflow-skinny"],
                             input_example=features.head(2), signature=infer_signature(features, frame["x"]))
""",
}


@pytest.mark.parametrize("factor", ["1.0", "2.0"])
def test_the_repository_is_not_there_in_production(tmp_path: Path, factor: str) -> None:
    """A model that reads a file of its repository answers as in training only where that file is: it is found out."""
    git, registry, spec = FakeGit(), FakeRegistry(), small_spec(package=AS_CODE)
    git.commit(URL, {**REPOSITORY, "src/trainer/factor.txt": factor})
    request = Request("commit-1", None, None, "commit", None)
    build = open_build(spec, request, git=git, registry=registry, cache=CACHE, clock=FakeClock())
    build_once(spec, build, BuildTools(git, registry, CycloneDx(), CACHE, FakeClock()))
    FRAME.to_parquet(tmp_path / "frame.parquet")
    for path in (TRAINING, HOLDOUT):
        registry.put_file(build.run_id, path, tmp_path / "frame.parquet")
    train(spec, build, git=git, registry=registry, cache=CACHE, clock=FakeClock())
    checks = PackageChecks(spec, build, registry, CACHE, FakeClock())

    trained = registry.get_json(build.run_id, TRAINED_ANSWERS)
    assert trained["predictions"] == [float(factor) * row[0] for row in trained["inputs"]["data"]]
    assert len(trained["predictions"]) == 20
    if factor == "1.0":
        checks.run()
    else:
        with pytest.raises(PackageRejected, match="depends on something that is not packaged"):
            checks.run()
