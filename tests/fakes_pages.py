"""The in-memory stand-in for evaluation pages; tests/contracts runs the same tests on it as on the real adapter."""

from __future__ import annotations

from html import escape
from pathlib import Path

from taxiway.domain.charts import Page, Table

ONE_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


class FakeEvaluationPages:
    """Writes pages without looks; `written` has all of them."""

    def __init__(self) -> None:
        self.written: list[Page] = []

    def write(self, page: Page, directory: Path) -> None:
        """Write every text of the page, and a pixel for each drawing."""
        (directory / "figures").mkdir(parents=True)
        for drawing in page.drawings:
            (directory / "figures" / f"{drawing.name}.png").write_bytes(ONE_PIXEL)
        texts = [page.title, page.description, page.verdict, *(text for fact in page.facts for text in fact)]
        texts += [text for check in page.checks for text in (check.verdict, check.reason)]
        for section in page.sections:
            texts += [section.title, section.text]
            for figure in section.figures:
                rows = figure.rows if isinstance(figure, Table) else ()
                texts += [figure.title, figure.note, *(cell for row in rows for cell in row)]
        (directory / "evaluation.html").write_text("<!doctype html>" + "".join(f"<p>{escape(text)}" for text in texts))
        self.written.append(page)
