"""Model specs and the environments file: what is read, and how problems are told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from taxiway.errors import SpecError
from taxiway.spec_files import DEFAULTS, load_environments, load_spec, load_specs

INCLUDE = Path(__file__).resolve().parents[2] / "include"
VARIABLES = {"TAXIWAY_HOME": "/srv/taxiway"}
ENVIRONMENTS = {
    f"TAXIWAY_{name}_{part}": f"{name}-{part}" for name in ("STAGING", "PRODUCTION") for part in ("URL", "TOKEN")
}
MINIMAL = """
model: churn
description: Will they leave?
owner: crm
repository: {url: "https://git.example.org/churn.git"}
task: {kind: binary, label: left, key: customer, timestamp: at}
data: {uri: "/data/churn", features: [age, plan]}
gates: {metrics: {roc_auc: {min: 0.6}}}
uat: {testers: [ana]}
approval: {approvers: [dana]}
monitoring: {performance: {metric: roc_auc, max_drop: 0.05}}
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a spec into a directory of its own, and return its path."""

    def write_spec(text: str, name: str = "churn.yaml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write_spec


def problems(path: Path) -> list[str]:
    return [str(problem) for problem in load_specs(path.parent, VARIABLES).problems]


def test_the_shipped_specs_are_valid() -> None:
    """Every spec of include/models is valid, and its variables are filled in."""
    found = load_specs(INCLUDE / "models", VARIABLES)
    assert found.problems == ()
    assert found.specs["flight_delays"].data.uri == "file:///srv/taxiway/demo/flights"


def test_the_shipped_environments_are_valid() -> None:
    """Staging and production are read from include/environments.yaml."""
    found = load_environments(INCLUDE / "environments.yaml", ENVIRONMENTS)
    assert {name: item.url for name, item in found.items()} == {
        "staging": "STAGING-URL",
        "production": "PRODUCTION-URL",
    }


def test_a_minimal_spec_gets_defaults(write: Write) -> None:
    """What a spec does not say has a default."""
    spec = load_spec(write(MINIMAL), {})
    assert spec.repository.branch == "main"
    assert spec.approval.mode == "delivery"
    assert spec.approval.four_eyes
    assert [step.traffic for step in spec.rollout.steps] == [100]


def test_defaults_are_merged_below_every_spec(write: Write) -> None:
    """_defaults.yaml fills in at any depth, and the spec wins."""
    write("uat: {timeout: 5d, cases: 7}\ngates: {confidence: 0.9, metrics: {roc_auc: {margin: 0.01}}}", DEFAULTS)
    spec = load_spec(write(MINIMAL.replace("testers: [ana]", "testers: [ana], cases: 3")), {})
    assert (spec.uat.timeout, spec.uat.cases) == (timedelta(days=5), 3)
    assert spec.gates.confidence == 0.9
    assert (spec.gates.metrics["roc_auc"].min, spec.gates.metrics["roc_auc"].margin) == (0.6, 0.01)


def test_a_broken_spec_hides_no_other(write: Write) -> None:
    """A valid spec among broken ones is read, and each broken one has its problems."""
    write(MINIMAL)
    write("model: [", "a_broken.yaml")
    write("model: z_empty", "z_empty.yaml")
    found = load_specs(write("", "_ignored.yaml").parent, {})
    assert list(found.specs) == ["churn"]
    assert {problem.file.name for problem in found.problems} == {"a_broken.yaml", "z_empty.yaml"}


MISTAKES = {
    "unknown key": (
        "description: Will they leave?",
        "descripton: x",
        "descripton: unknown key; did you mean 'description'?",
    ),
    "unknown deep key": ("min: 0.6", "minn: 0.6", "gates.metrics.roc_auc.minn: unknown key; did you mean 'min'?"),
    "nothing near": ("min: 0.6", "zzz: 0.6", "gates.metrics.roc_auc.zzz: unknown key; known: margin, max, min"),
    "missing key": ("owner: crm", "", "owner: is required, but missing"),
    "missing deep key": ("label: left, ", "", "task.label: is required, but missing"),
    "wrong type": ("min: 0.6", "min: high", "gates.metrics.roc_auc.min: Input should be a valid number"),
    "unknown word": (
        "kind: binary",
        "kind: binry",
        "task.kind: Input should be 'binary', 'multiclass' or 'regression'",
    ),
    "nearest word": ("kind: binary", "kind: binry", "did you mean 'binary'? (value: 'binry')"),
    "unknown metric": ("{roc_auc: {min", "{roc_acu: {min", "gates.metrics.roc_acu: Input should be"),
    "nearest metric": ("{roc_auc: {min", "{roc_acu: {min", "did you mean 'roc_auc'?"),
    "duration": (
        "{testers: [ana]}",
        "{testers: [ana], timeout: 3 days}",
        "uat.timeout: a duration is a number and a unit",
    ),
    "duration value": ("{testers: [ana]}", "{testers: [ana], timeout: 3 days}", "(value: '3 days')"),
    "number for a duration": ("{testers: [ana]}", "{testers: [ana], timeout: 3}", "uat.timeout: a duration is"),
    "schedule": (
        "monitoring: {",
        "monitoring: {schedule: often, ",
        "monitoring.schedule: a schedule is a cron expression",
    ),
    "quorum": ("{testers: [ana]}", "{testers: [ana], quorum: 2}", "uat: quorum 2 is more than the 1 testers"),
    "label as feature": ("[age, plan]", "[age, left]", "data.features contains the label 'left'"),
    "type of no column": (
        "features: [age, plan]",
        "features: [age, plan], checks: {types: {agee: number, left: integer}}",
        "data.checks.types names agee, which data.features does not have",
    ),
    "no features": ("[age, plan]", "[]", "data.features: "),
    "out of range": (
        "approval:",
        "limits: {memory_mb: 1}\napproval:",
        "limits.memory_mb: Input should be greater than",
    ),
    "list item": (
        "approval:",
        "rollout: {steps: [{trafic: 5}, {traffic: 100}]}\napproval:",
        "rollout.steps.0.trafic: unknown",
    ),
    "traffic": (
        "approval:",
        "rollout: {steps: [{traffic: 50}]}\napproval:",
        "rollout: the steps' traffic must rise and end at",
    ),
    "webhook": ("approval:", "notify: [{channel: webhook}]\napproval:", "notify.0: a webhook channel needs a url"),
    "unknown variable": ("/data/churn", "${HOM}/churn", "${HOM} is not a known variable (known: TAXIWAY_HOME)"),
    "other name": ("model: churn", "model: chrun", "model: 'chrun' must equal the file's name 'churn'"),
    "bad name": ("model: churn", "model: Churn 2", "model: String should match pattern"),
    "key twice": ("approval:", "uat: {testers: [mallory]}\napproval:", "the key 'uat' is there twice"),
    "deep key twice": ("{testers: [ana]}", "{testers: [ana], testers: [mallory]}", "the key 'testers' is there twice"),
    "no YAML": ("uat: {", "uat: {{{", "churn.yaml is not valid YAML"),
}


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told(old: str, new: str, expected: str, write: Write) -> None:
    """A mistake is told with the file, the dotted key, the value and the nearest valid choice."""
    assert old in MINIMAL
    found = problems(write(MINIMAL.replace(old, new)))
    assert all(problem.startswith("churn.yaml: ") for problem in found)
    assert expected in "\n".join(found)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text"])
def test_a_file_that_is_no_mapping_is_told(text: str, write: Write) -> None:
    """An empty file, a list or a text is no spec."""
    assert "must be a mapping of keys" in problems(write(text))[0]


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are a problem of that file only."""
    (tmp_path / "churn.yaml").write_bytes(b"\xff\xfe\x00")
    assert len(problems(tmp_path / "churn.yaml")) == 1


def test_broken_defaults_are_told_by_name(write: Write) -> None:
    """When _defaults.yaml is broken, the problem says so."""
    write("gates: {", DEFAULTS)
    assert f"{DEFAULTS} is not valid YAML" in problems(write(MINIMAL))[0]


def test_every_problem_of_a_spec_is_told_at_once(write: Write) -> None:
    """Two mistakes are two problems, and loading that spec alone raises both."""
    path = write(MINIMAL.replace("owner: crm", "").replace("kind: binary", "kind: binry"))
    assert len(problems(path)) == 2
    with pytest.raises(SpecError) as failure:
        load_spec(path, VARIABLES)
    assert "owner: is required" in str(failure.value)
    assert "task.kind" in str(failure.value)
    assert "taxiway validate" in failure.value.next_step


def test_the_words_on_and_yes_stay_words(write: Write) -> None:
    """`on` is a key, and only true and false are booleans."""
    extra = "retraining: {on: [drift]}\nparams: {penalty: no, country: NO, shuffle: true}\napproval:"
    spec = load_spec(write(MINIMAL.replace("approval:", extra)), {})
    assert spec.retraining.on == {"drift"}
    assert spec.params == {"penalty": "no", "country": "NO", "shuffle": True}


def test_variables_are_filled_in_everywhere(write: Write) -> None:
    """A variable is replaced wherever a text is, and nothing else is evaluated."""
    text = MINIMAL.replace("/data/churn", "${TAXIWAY_HOME}/data").replace(
        "[age, plan]", '["${TAXIWAY_HOME}", "{{ x }}"]'
    )
    spec = load_spec(write(text), VARIABLES)
    assert spec.data.uri == "/srv/taxiway/data"
    assert spec.data.features == ("/srv/taxiway", "{{ x }}")


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    """A directory of specs that does not exist is told, not taken for empty."""
    with pytest.raises(SpecError, match="none"):
        load_specs(tmp_path / "none", {})


def test_a_wrong_environments_file_is_told_without_its_tokens(tmp_path: Path) -> None:
    """Every mistake is told with its key and the nearest choice, and no token is shown."""
    path = tmp_path / "environments.yaml"
    path.write_text(
        "staging: {kind: gateway, token: s3cret}\n"
        "production: {kind: gateway, url: u, token: s3cret, tokn: s3cret}\n"
        "other: {kind: gatway, url: u, token: s3cret}\n"
    )
    with pytest.raises(SpecError) as failure:
        load_environments(path, {})
    told = str(failure.value)
    assert "staging.url: is required, but missing" in told
    assert "production.tokn: unknown key; did you mean 'token'?" in told
    assert "other.kind: Input should be 'gateway'; did you mean 'gateway'? (value: 'gatway')" in told
    assert "s3cret" not in told


@pytest.mark.parametrize("text", [None, "a: [", "", "staging: {kind: gateway, url: '${NONE}', token: t}"])
def test_an_unreadable_environments_file_is_told(text: str | None, tmp_path: Path) -> None:
    """A file that is missing, no YAML, empty, or names an unknown variable is a SpecError."""
    if text is not None:
        (tmp_path / "environments.yaml").write_text(text)
    with pytest.raises(SpecError, match=r"environments\.yaml"):
        load_environments(tmp_path / "environments.yaml", {})


def test_a_copy_of_the_shipped_specs_can_live_elsewhere(tmp_path: Path) -> None:
    """Specs and defaults work in any directory (TAXIWAY_MODELS)."""
    shutil.copytree(INCLUDE / "models", tmp_path / "models")
    assert load_specs(tmp_path / "models", VARIABLES).specs == load_specs(INCLUDE / "models", VARIABLES).specs
