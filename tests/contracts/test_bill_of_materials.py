"""The bill of materials port: what scanners read, and the same bytes for the same components."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from taxiway.adapters.cyclonedx_sbom import CycloneDx
from taxiway.domain.values import Component
from taxiway.ports import BillOfMaterials

COMPONENTS = (
    Component("numpy", "2.4.6", ("a" * 64, "b" * 64), "BSD-3-Clause AND MIT"),
    Component("pandas", "2.3.3", ("c" * 64,), "BSD License"),
    Component("pytest", "9.2.0", ("d" * 64,), "MIT"),
    Component("unknown", "1.0"),
)


@pytest.fixture
def bill() -> BillOfMaterials:
    return CycloneDx()


def written(bill: BillOfMaterials, path: Path, *components: Component, version: str = "sha256:1") -> str:
    """Return the bill of these components."""
    bill.write(components, path, name="flight_delays", version=version)
    return path.read_text(encoding="utf-8")


def test_scanners_accept_it(bill: BillOfMaterials, tmp_path: Path) -> None:
    """The document keeps every rule of the CycloneDX 1.6 schema, with components and without."""
    for components in (COMPONENTS, ()):
        text = written(bill, tmp_path / "sbom.json", *components)

        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_each_component_has_name_version_purl_hashes_and_licence(bill: BillOfMaterials, tmp_path: Path) -> None:
    """A vulnerability or a licence is found by what is written about a package."""
    document = json.loads(written(bill, tmp_path / "sbom.json", *COMPONENTS))

    numpy, pandas, pytest_, unknown = document["components"]
    assert (numpy["name"], numpy["version"], numpy["purl"]) == ("numpy", "2.4.6", "pkg:pypi/numpy@2.4.6")
    assert [item["content"] for item in numpy["hashes"]] == ["a" * 64, "b" * 64]
    assert [item["licenses"] for item in (numpy, pandas, pytest_)] == [
        [{"expression": "BSD-3-Clause AND MIT"}],
        [{"license": {"name": "BSD License"}}],
        [{"license": {"id": "MIT"}}],
    ]
    assert {"licenses", "hashes"}.isdisjoint(unknown)
    whole = document["metadata"]["component"]
    assert (whole["name"], whole["version"]) == ("flight_delays", "sha256:1")


def test_the_same_components_give_the_same_bytes(bill: BillOfMaterials, tmp_path: Path) -> None:
    """Neither time, chance nor order is in it; another content is another document with another number."""
    shuffled = random.Random(7).sample(COMPONENTS, len(COMPONENTS))
    texts = [written(bill, tmp_path / "sbom.json", *components) for components in (COMPONENTS, shuffled)]
    other = written(bill, tmp_path / "sbom.json", *COMPONENTS[1:])

    assert texts[0] == texts[1]
    assert "timestamp" not in json.loads(texts[0])["metadata"]
    assert json.loads(texts[0])["serialNumber"] != json.loads(other)["serialNumber"]
