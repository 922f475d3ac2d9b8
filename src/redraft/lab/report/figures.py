"""Figures as SVG to stand inside a page: text stays text, and lines take the page's own ink, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from redraft.types import Decision

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

__all__ = [
    "COLOURS",
    "colour",
    "cost_figure",
    "cumulative_figure",
    "draw_svg",
    "legend_below",
    "pulls_figure",
    "training_figure",
]

COLOURS = {
    "base": "#8a8f98",
    "sft": "#3987c9",
    "dpo": "#d5692b",
    "early": "#1b9e77",
    "rl": "#c2528b",
    "late": "#8e5fc9",
    "uniform": "#b08a1e",
}
"""One colour a policy, the same in every figure and table, legible on white and on near-black."""

_INK = "#010203"  # stands for the page's text colour, put in below
_OTHERS = ("#5aa3a3", "#a3705a", "#7a8f3c", "#6b7fd1")
_WIDTH = 5.2  # inches: narrow, so that labels stay legible on a phone
_STYLE: dict[str, Any] = {
    **{"svg.fonttype": "none", "svg.hashsalt": "redraft"},
    **{"font.size": 10.5, "font.family": "sans-serif", "axes.titlesize": 10.5},
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **{"grid.color": _INK, "grid.alpha": 0.12, "axes.grid": True, "axes.axisbelow": True},
}


def colour(policy: str) -> str:
    """Return the colour of a policy; ``email/sft@3`` has that of ``sft``."""
    name = policy.rpartition("/")[2].partition("@")[0]
    return COLOURS.get(name, _OTHERS[sum(name.encode()) % len(_OTHERS)])


def cost_figure(means: Mapping[str, float], intervals: Mapping[str, Sequence[float]]) -> str:
    """Mean edit cost of each policy with its interval, where there is one, from top to bottom as given."""

    def draw(axes: Axes) -> None:
        for place, (name, mean) in enumerate(means.items()):
            low, high = intervals.get(name, (mean, mean))
            axes.plot([low, high], [place, place], color=colour(name), linewidth=5, alpha=0.35, solid_capstyle="round")
            axes.plot(mean, place, "o", color=colour(name), markersize=8)
            axes.annotate(f"{mean:.2f}", (mean, place), (0, 8), textcoords="offset points", ha="center")
        axes.set_yticks(range(len(means)), list(means))
        axes.set_ylim(len(means) - 0.5, -0.7)
        axes.set_xlim(left=-0.05 * max(1e-9, *means.values()))  # a policy at 0 keeps clear of its name
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("mean edit cost (less is better)")

    return draw_svg(draw, 0.9 + 0.45 * len(means))


def cumulative_figure(costs: Mapping[str, Sequence[float]]) -> str:
    """Cost paid so far, by round, had each policy or selector answered every time; selectors stand out."""

    def draw(axes: Axes) -> None:
        for name, series in costs.items():
            total = [sum(series[:t]) for t in range(len(series) + 1)]
            selector = name in ("late", "uniform")
            axes.plot(total, color=colour(name), linewidth=2.6 if selector else 1.3, label=name)
        axes.set(xlabel="round", ylabel="cost paid so far", ylim=(0, None))
        axes.margins(x=0)
        legend_below(axes)

    return draw_svg(draw, 3.6)


def pulls_figure(decisions: Mapping[str, Sequence[tuple[Decision, float]]]) -> str:
    """How often each selector had chosen each policy by round t, one panel a selector."""

    def draw(*panels: Axes) -> None:
        for axes, (selector, made) in zip(panels, decisions.items(), strict=True):
            chosen = [decision.chosen for decision, _ in made]
            for policy in dict.fromkeys(arm for decision, _ in made for arm in decision.candidates):
                counts = [chosen[:t].count(policy) for t in range(len(chosen) + 1)]
                axes.step(range(len(counts)), counts, where="post", color=colour(policy), linewidth=2, label=policy)
            axes.set_title(selector, loc="left")
            axes.set_xlabel("round")
        if panels:
            panels[0].set_ylabel("times chosen")
            legend_below(panels[0])

    return draw_svg(draw, 3.4, len(decisions))


def training_figure(training: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Log-probability of the chosen and the rejected text by step, one panel a method; else the loss."""

    def draw(*panels: Axes) -> None:
        for axes, (method, points) in zip(panels, training.items(), strict=True):
            pair = [key for key in ("chosen_logp", "rejected_logp") if any(key in point for point in points)]
            for key in pair or ["loss"]:
                series = [(point["step"], point[key]) for point in points if key in point]
                dashes = "--" if key == "rejected_logp" else "-"
                axes.plot(*zip(*series, strict=True) if series else ([], []), dashes, color=colour(method), label=key)
            axes.set_title(method, loc="left")
            axes.set_xlabel("step")
            axes.legend([_LEGEND[key] for key in pair or ["loss"]], loc="best")

    return draw_svg(draw, 2.9, len(training))


def legend_below(axes: Axes, columns: int = 4) -> None:
    """Put one legend under all panels, where no line can cross it."""
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=1.4)


_LEGEND = {"chosen_logp": "edited text", "rejected_logp": "draft", "loss": "loss"}


def draw_svg(
    draw: Callable[..., None], height: float, panels: int = 1, *, columns: int | None = None, width: float = _WIDTH
) -> str:
    """Return what ``draw(*panels)`` draws, in rows of ``columns`` panels (one row where not given); sizes in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    across = columns or max(1, panels)
    down = max(1, -(-panels // across))
    with matplotlib.rc_context(cast("dict[RcKeyType, Any]", _STYLE)):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
        for spare in axes[max(1, panels) :]:
            spare.set_visible(False)
        draw(*axes[:panels])
        return _inline(figure)


def _inline(figure: Figure) -> str:
    """Strip what an SVG file has and a page must not: prologue, metadata, fixed size, names that would stand twice."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' id="[a-zA-Z]+_\d+"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg))
    return svg.replace(_INK, "currentColor")
