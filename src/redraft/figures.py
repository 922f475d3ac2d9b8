"""The style of every figure, once: fonts, grid, and ink that is dark on a light page and light on a dark one.

A figure is drawn as SVG in which text stays text. In a page its ink is the page's own; as a file it brings ink and
paper along and follows the reader's system. Left out: colours of policies, which are the laboratory's.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

__all__ = ["INK", "draw_svg", "drawn", "standalone"]

INK = "#010203"
"""Stands for the colour of the text: almost black in a PNG, and in an SVG replaced by ``currentColor``."""

_STYLE: dict[str, Any] = {
    **{"svg.fonttype": "none", "svg.hashsalt": "redraft", "savefig.dpi": 160},
    **{"font.size": 13.5, "font.family": "sans-serif", "axes.titlesize": 13.5, "lines.markersize": 5},
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **{"grid.color": INK, "grid.alpha": 0.12, "axes.grid": True, "axes.axisbelow": True},
}
_FONTS = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif'
_FILE_STYLE = (
    "<style>svg { color: #1d2126; background: #ffffff } "
    "@media (prefers-color-scheme: dark) { svg { color: #e4e7eb; background: #14171b } } "
    f"text {{ font-family: {_FONTS} !important }}</style>"
)
_FILE_SCALE = 1.15  # pixels a unit, so that text is as large as that of the pages around


@contextmanager
def drawn(draw: Callable[..., None], size: tuple[float, float], panels: int = 1, columns: int = 1) -> Generator[Figure]:
    """Give what ``draw(*panels)`` draws on axes in rows of ``columns``, sharing their y-axis; ``size`` in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    down = max(1, -(-panels // columns))
    with matplotlib.rc_context(cast("dict[RcKeyType, Any]", _STYLE)):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(down, columns, sharey=True, squeeze=False).ravel()
        for spare in axes[max(1, panels) :]:
            spare.set_visible(False)
        draw(*axes[:panels])
        yield figure


def draw_svg(draw: Callable[..., None], size: tuple[float, float], panels: int = 1, columns: int = 1) -> str:
    """Return an SVG element to stand inside a page: as wide as there is room, in the ink of the text around it."""
    stream = io.StringIO()
    with drawn(draw, size, panels, columns) as figure:
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' id="[a-zA-Z]+_\d+"', "", svg)  # these would stand twice in a page
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg))
    return svg.replace(INK, "currentColor")


def standalone(svg: str) -> str:
    """Return the text of a file with such an SVG, which brings its size, its ink and its paper, light and dark."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    width, height = (float(side) * _FILE_SCALE for side in box.groups()) if box else (0.0, 0.0)
    return re.sub("<svg([^>]*)>", rf'<svg\1 width="{width:.0f}" height="{height:.0f}">{_FILE_STYLE}', svg, count=1)
