"""The costs of a log at a glance: how many texts were left as they are, and how far the others moved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from redraft.diagnose.measure import Histogram, Measures, Summary
from redraft.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot"]

CHANGED, UNCHANGED, INK = "#2f6690", "#e0913a", "#333333"


def plot(measures: Measures, file: Path) -> None:
    """Draw the divided cost and the raw distance; the suffix of ``file`` (.png, .svg, .pdf) is the format.

    Raises ``DataError`` when no edit has come, and when the file cannot be written.
    """
    if measures.divided is None or measures.raw is None:
        raise DataError("nothing to draw: no completion has an edit yet")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _panel(left, measures.unchanged, measures.divided, measures.divided_histogram)
    _panel(right, measures.unchanged, measures.raw, measures.raw_histogram)
    left.set(xlabel=f"cost Δ(y, y′): {measures.cost}", ylabel="edits")
    right.set(xlabel="raw distance, before division")
    kept = measures.unchanged / measures.edits
    figure.suptitle(f"{measures.edits:,} edits, {kept:.0%} of which left the text as it was", color=INK)
    try:
        figure.savefig(file, dpi=160)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"figure {file}: cannot be written ({reason}): check the folder and its room") from error
    except ValueError as error:  # an unknown suffix
        raise DataError(f"figure {file}: cannot be written ({error}): name it .png, .svg or .pdf") from error


def _panel(axes: Axes, unchanged: int, summary: Summary, changed: Histogram | None) -> None:
    """Draw changed texts as a histogram and, left of zero, the unchanged as a bar of its own."""
    edges = changed.edges if changed else (0.0, 1.0)
    width = (edges[-1] - edges[0]) / max(20, len(edges))
    place = edges[0] - 2 * width
    axes.bar(place, unchanged, 1.6 * width, color=UNCHANGED)
    axes.annotate("unchanged", (place, unchanged), (0, 3), textcoords="offset points", ha="center", color=UNCHANGED)
    if changed:
        step = edges[1] - edges[0]
        axes.bar(edges[:-1], changed.counts, step, align="edge", color=CHANGED, edgecolor="white", linewidth=0.6)
    axes.axvline(summary.mean, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.set_title(_words(summary, changed), loc="left", fontsize=9, color=INK)
    axes.set_xlim(place - 2 * width, edges[-1] + width)
    axes.margins(y=0.1)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(colors=INK, left=False)


def _words(summary: Summary, changed: Histogram | None) -> str:
    words = f"mean {summary.mean:.3g} (dashed), quartiles {summary.q1:.3g} / {summary.median:.3g} / {summary.q3:.3g}"
    return f"{words}; {changed.beyond} beyond, up to {summary.max:.3g}" if changed and changed.beyond else words
