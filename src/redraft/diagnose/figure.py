"""The costs of a log at a glance: how many texts were left as they are, and how far the others moved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from redraft.diagnose.measure import Histogram, Measures, Summary
from redraft.errors import DataError
from redraft.figures import INK, draw_svg, drawn, standalone
from redraft.files import whole, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot"]

_SIZE = (11.0, 4.8)
_FORMATS = (".png", ".svg", ".pdf")


def plot(measures: Measures, file: Path) -> None:
    """Draw the divided cost and the raw distance; the suffix of ``file`` (.png, .svg, .pdf) is the format.

    Raises ``DataError`` when no edit has come or the suffix is another, ``ConfigError`` when nothing can be written.
    """
    if measures.divided is None or measures.raw is None:
        raise DataError("nothing to draw: no completion has an edit yet")
    if file.suffix not in _FORMATS:
        raise DataError(f"figure {file}: unknown format {file.suffix!r}: name it .png, .svg or .pdf")
    divided, raw = measures.divided, measures.raw

    def draw(left: Axes, right: Axes) -> None:
        _panel(left, measures.unchanged, divided, measures.divided_histogram)
        _panel(right, measures.unchanged, raw, measures.raw_histogram)
        left.set(xlabel=f"cost Δ(y, y′): {measures.cost}", ylabel="edits")
        right.set(xlabel="raw distance, before division")
        kept = measures.unchanged / measures.edits
        left.figure.suptitle(f"{measures.edits:,} edits, {kept:.0%} of which left the text as it was")

    if file.suffix == ".svg":
        write_text(file, standalone(draw_svg(draw, _SIZE, 2, 2)))
        return
    with drawn(draw, _SIZE, 2, 2) as figure, whole(file) as scratch:
        figure.savefig(scratch)


def _panel(axes: Axes, unchanged: int, summary: Summary, changed: Histogram | None) -> None:
    """Draw changed texts as a histogram and, left of zero, the unchanged as a bar of its own."""
    edges = changed.edges if changed else (0.0, 1.0)
    width = (edges[-1] - edges[0]) / max(20, len(edges))
    place = edges[0] - 2 * width
    axes.bar(place, unchanged, 1.6 * width, color=INK, alpha=0.35)
    axes.annotate("unchanged", (place, unchanged), (-8, 3), textcoords="offset points")
    if changed:
        step = edges[1] - edges[0]
        axes.bar(edges[:-1], changed.counts, 0.92 * step, align="edge", color=INK, alpha=0.7)
    axes.axvline(summary.mean, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_title(_words(summary, changed), loc="left", fontsize=12.5)
    axes.set_xlim(place - 2 * width, edges[-1] + width)
    axes.margins(y=0.1)
    axes.grid(visible=False, axis="x")


def _words(summary: Summary, changed: Histogram | None) -> str:
    words = f"mean {summary.mean:.3g} (dashed), quartiles {summary.q1:.3g} / {summary.median:.3g} / {summary.q3:.3g}"
    return f"{words}\n{changed.beyond} beyond, up to {summary.max:.3g}" if changed and changed.beyond else words
