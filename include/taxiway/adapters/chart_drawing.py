"""Charts drawn by Matplotlib as PNG: light, and in colours that colour-blind people can tell apart.

Texts are drawn as they are: labels may be data from outside, which is no markup.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from taxiway.domain.charts import Area, Bars, Chart, Curve, Matrix, Role

_INK, _FAINT = "#24292f", "#e6e8eb"
_COLOURS: Mapping[Role, str] = {
    "candidate": "#0b66b3",
    "champion": "#cc5a10",
    "guide": "#8b9099",
    "summary": _INK,
    "yes": "#0b66b3",
    "no": "#9aa1ab",
}
_SIZE, _DPI = (5.6, 4.2), 160
_LOOKS: Any = {
    "text.parse_math": False,  # a label such as $\frac is a label
    "text.usetex": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#b6bbc2",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "grid.color": _FAINT,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.fontsize": 9,
}
_LONGEST_LABEL = 18
_ON_TOP = 3
_CELLS_WITH_COUNTS, _CELLS_WITH_TEXT = 7, 14


def draw(drawing: Chart | Matrix) -> bytes:
    """Return the PNG."""
    with mpl.rc_context(_LOOKS), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from"
        )  # it becomes a box, which is no reason to end
        figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        if isinstance(drawing, Matrix):
            _draw_matrix(figure, drawing)
        else:
            _draw_chart(figure, drawing)
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
        return file.getvalue()


def _draw_chart(figure: Figure, chart: Chart) -> None:
    heights = (1,) if chart.below is None else (4, 1)
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    axes = panels[0, 0]
    for area in chart.areas:
        _draw_area(axes, area)
    for bars in chart.bars:
        _draw_bars(axes, bars, filled=len(chart.bars) == 1)
    for curve in chart.curves:
        _draw_curve(axes, curve)
    if chart.bars:
        axes.set_ylim(bottom=0)
    axes.set_ylabel(chart.y_label)
    _name(axes, chart.title)
    if chart.below is not None:
        below = panels[1, 0]
        _draw_bars(below, chart.below, filled=True)
        below.set_ylabel(chart.below.label)
        below.set_ylim(bottom=0)
        below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    panels[-1, 0].set_xlabel(chart.x_label)
    if chart.days:
        locator = AutoDateLocator(minticks=3, maxticks=7)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _name(axes: Axes, title: str) -> None:
    """Write the title and below it the legend, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    axes.set_title(title, loc="left", fontsize=11.5, fontweight="bold", pad=26 if handles else 8)
    if handles:
        place: Any = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "ncols": 4}
        axes.legend(handles, labels, **place, frameon=False, handlelength=1.5, columnspacing=1.2)


def _draw_curve(axes: Axes, curve: Curve) -> None:
    colour = _COLOURS[curve.role]
    if curve.style == "points":
        axes.plot(curve.x, curve.y, "o", markersize=2.6, alpha=0.45, color=colour, label=curve.label, markeredgewidth=0)
        return
    if curve.lower:
        axes.vlines(curve.x, curve.lower, curve.upper, color=colour, alpha=0.45, linewidth=1.4)
    axes.plot(
        curve.x,
        curve.y,
        linestyle="--" if curve.style == "dashed" else "-",
        linewidth=1.2 if curve.role == "guide" else 1.8,
        zorder=_ON_TOP if curve.role == "candidate" else None,
        marker="o" if curve.style == "marked" else None,
        markersize=4.2,
        color=colour,
        label=curve.label,
    )


def _draw_area(axes: Axes, area: Area) -> None:
    colour = _COLOURS[area.role]
    axes.fill_between(area.x, area.lower, area.upper, color=colour, alpha=0.16, linewidth=0, label=area.label)


def _draw_bars(axes: Axes, bars: Bars, *, filled: bool) -> None:
    colour = _COLOURS[bars.role]
    axes.stairs(bars.heights, bars.edges, fill=True, color=colour, alpha=0.55 if filled else 0.22, label=None)
    axes.stairs(bars.heights, bars.edges, color=colour, linewidth=1.4, label=None if filled else bars.label)


def _draw_matrix(figure: Figure, matrix: Matrix) -> None:
    axes = figure.add_subplot()
    _name(axes, matrix.title)
    counts = np.array(matrix.counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.grid(False)
    names = [_shortened(label) for label in matrix.labels]
    slanted = max(map(len, names)) * len(names) > 40
    axes.set_xticks(range(len(names)), names, rotation=40 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    _write_cells(axes, counts, shares)
    colours = figure.colorbar(image, ax=axes, format=PercentFormatter(1, decimals=0), shrink=0.9)
    colours.outline.set_visible(False)
    colours.set_label("share of the true class")


def _write_cells(axes: Axes, counts: np.ndarray[tuple[int, int]], shares: np.ndarray[tuple[int, int]]) -> None:
    if len(counts) > _CELLS_WITH_TEXT:
        return
    size = 10 if len(counts) <= 5 else 8
    for (row, column), share in np.ndenumerate(shares):
        if len(counts) <= _CELLS_WITH_COUNTS:
            text = f"{share:.0%}\n{counts[row, column]:,}"
        else:
            text = f"{share * 100:.0f}" if counts[row, column] else ""
        axes.text(column, row, text, ha="center", va="center", size=size, color="white" if share > 0.55 else _INK)


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"
