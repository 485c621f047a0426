"""Writes software bills of materials as CycloneDX 1.6 JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component as Part
from cyclonedx.model.component import ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from taxiway.domain.values import Component


class CycloneDx:
    """The bill of materials port; what it writes has neither time nor randomness."""

    def write(self, components: Sequence[Component], destination: Path, *, name: str, version: str) -> None:
        """Write one JSON document: the environment as an application that depends on each of the components."""
        whole = Part(name=name, version=version, type=ComponentType.APPLICATION, bom_ref=name)
        parts = [_part(component) for component in components]
        bom = Bom(components=parts, serial_number=_serial(components, name, version), metadata=BomMetaData())
        bom.metadata.component = whole
        bom.metadata.timestamp = None  # type: ignore[assignment]  # left out: it would make each bill another
        bom.register_dependency(whole, parts)
        destination.write_text(JsonV1Dot6(bom).output_as_string(indent=2), encoding="utf-8")


def _part(component: Component) -> Part:
    identity = PackageURL("pypi", None, component.name, component.version)
    licences = [LicenseFactory().make_from_string(component.licence)] if component.licence else []
    return Part(
        name=component.name,
        version=component.version,
        purl=identity,
        bom_ref=identity.to_string(),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in component.hashes],
        licenses=licences,
    )


def _serial(components: Sequence[Component], name: str, version: str) -> UUID:
    """Return the bill's number, made from what it says."""
    content = "\n".join((name, version, *sorted(map(repr, components))))
    return UUID(bytes=hashlib.sha256(content.encode()).digest()[:16], version=5)
