"""The port of evaluation pages: the fake and the HTML that people read keep the same promises."""

from __future__ import annotations

import math
import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from taxiway.adapters.evaluation_page import HtmlEvaluationPages
from taxiway.domain.charts import Area, Bars, Chart, Curve, Matrix, Page, PageSection, Table
from taxiway.domain.evidence import Verdict
from taxiway.domain.gates import Check
from taxiway.ports import EvaluationPages
from tests.fakes_pages import FakeEvaluationPages

HOSTILE = "<script>alert('x')</script> {{ 7 * 7 }} $\\frac{1}{ $x_"
CURVE = Curve(
    "candidate 0.9", "candidate", (0.0, 0.5, 1.0), (0.2, math.nan, 0.9), "marked", (0.1, 0.2, 0.3), (0.3,) * 3
)
CHARTS = (
    Chart("curves", HOSTILE, "x", HOSTILE, (CURVE, Curve(HOSTILE, "champion", (0.0, 1.0), (1.0, 0.0), "points"))),
    Chart("days", "Days", "", "y", (Curve("", "guide", (15000.0, 15009.0), (0.0, 0.0), "dashed"),), days=True),
    Chart("areas", "Areas", "x", "y", areas=(Area("most", "summary", (0.0, 1.0), (0.0, 0.0), (1.0, 2.0)),)),
    Chart("bars", "Bars", "x", "y", bars=(Bars("label 1", "yes", (0.0, 1.0, 2.0), (3.0, 4.0)),)),
    Chart("below", "Below", "x", "y", (CURVE,), below=Bars("rows", "candidate", (0.0, 0.5, 1.0), (3.0, 4.0))),
    Chart("nothing", "Nothing is defined", "x", "y", (Curve("a", "candidate", (math.nan,), (math.nan,)),)),
    Matrix("few", "Few", ("a", HOSTILE, "日本語 " * 20), ((3, 0, 1), (0, 0, 0), (1, 2, 9000)), note=HOSTILE),
    Matrix("many", "Many", tuple(map(str, range(12))), ((1,) * 12,) * 12),
)
TABLE = Table(HOSTILE, ("group", "rows", "verdict"), ("text", "number", "verdict"), ((HOSTILE, "1,000", "failed"),))
PAGE = Page(
    title=HOSTILE,
    description=HOSTILE,
    verdict=Verdict.INCONCLUSIVE,
    facts=(("Champion", HOSTILE),),
    checks=(Check("roc_auc minimum", Verdict.FAILED, HOSTILE),),
    sections=(PageSection(HOSTILE, HOSTILE, (*CHARTS, TABLE)), PageSection("Empty", "", ())),
)


class Reader(HTMLParser):
    """Reads what a browser would: the elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(params=["fake", "html"])
def pages(request: pytest.FixtureRequest) -> EvaluationPages:
    found: Any = FakeEvaluationPages() if request.param == "fake" else HtmlEvaluationPages()
    return found


def test_every_drawing_is_a_picture(pages: EvaluationPages, tmp_path: Path) -> None:
    """Each drawing is a PNG of its name, whatever its labels are and however little it shows."""
    pages.write(PAGE, tmp_path)

    pictures = sorted((tmp_path / "figures").iterdir())

    assert [picture.name for picture in pictures] == sorted(f"{chart.name}.png" for chart in CHARTS)
    assert all(picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") for picture in pictures)


def test_texts_stay_texts(pages: EvaluationPages, tmp_path: Path) -> None:
    """What came from outside is shown as it is, and is no element of the page."""
    pages.write(PAGE, tmp_path)

    read = Reader((tmp_path / "evaluation.html").read_text(encoding="utf-8"))

    assert "script" not in {tag for tag, _ in read.elements}
    assert read.text.count(HOSTILE) >= 8
    assert all(word in read.text for word in ("1,000", "failed", "inconclusive"))


def test_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    """No element of the page leads elsewhere, its pictures are inside, and browsers are told to fetch nothing."""
    HtmlEvaluationPages().write(PAGE, tmp_path)

    read = Reader((tmp_path / "evaluation.html").read_text(encoding="utf-8"))
    sources = [value for _, found in read.elements for name, value in found.items() if name in ("src", "href")]
    policies = [found["content"] for tag, found in read.elements if tag == "meta" and "http-equiv" in found]

    assert len(sources) == len(CHARTS)
    assert all(source and source.startswith("data:image/png;base64,") for source in sources)
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_pictures_can_be_read_by_everybody(tmp_path: Path) -> None:
    """Pictures are large enough for any screen, and each is described to who cannot see it."""
    HtmlEvaluationPages().write(PAGE, tmp_path)

    read = Reader((tmp_path / "evaluation.html").read_text(encoding="utf-8"))
    sizes = [struct.unpack(">II", path.read_bytes()[16:24]) for path in (tmp_path / "figures").iterdir()]

    assert [found["alt"] for tag, found in read.elements if tag == "img"] == [chart.title for chart in CHARTS]
    assert all(width >= 800 and height >= 600 for width, height in sizes)


def test_the_same_page_is_written_the_same(tmp_path: Path) -> None:
    """A repeat gives the same bytes."""
    for name in ("one", "two"):
        HtmlEvaluationPages().write(PAGE, tmp_path / name)

    assert (tmp_path / "one" / "evaluation.html").read_bytes() == (tmp_path / "two" / "evaluation.html").read_bytes()
