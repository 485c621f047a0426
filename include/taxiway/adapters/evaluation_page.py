"""The evaluation page as one file of HTML, with its charts inside it and beside it.

It has no script and asks nobody for anything, so it can be read from any store and be sent around; every text in it
is escaped.
"""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from taxiway.adapters.chart_drawing import draw
from taxiway.domain.charts import Page, Table
from taxiway.domain.evidence import Verdict


class HtmlEvaluationPages:
    """Writes pages with Jinja and draws their charts with Matplotlib."""

    def write(self, page: Page, directory: Path) -> None:
        """Write `evaluation.html` and `figures/<name>.png` for each drawing below the directory."""
        figures = directory / "figures"
        figures.mkdir(parents=True)
        pictures = {}
        for drawing in page.drawings:
            picture = draw(drawing)
            (figures / f"{drawing.name}.png").write_bytes(picture)
            pictures[drawing.name] = base64.b64encode(picture).decode()
        html = _template().render(page=page, pictures=pictures, verdicts=frozenset(Verdict))
        (directory / "evaluation.html").write_text(html, encoding="utf-8")


@cache
def _template() -> Template:
    loader = PackageLoader("taxiway.adapters", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.tests["table"] = lambda figure: isinstance(figure, Table)
    return environment.get_template("evaluation.html")
