"""What the laboratory's figures share: colours of policies, layouts for wide and narrow screens, common plots.

A colour means a policy. Everything else, from intervals to settings, is drawn in ink and told apart by dashes and
markers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from redraft.figures import INK, draw_svg, standalone

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = [
    "COLOURS",
    "SERIES",
    "Picture",
    "Point",
    "colour",
    "cost_figure",
    "cumulative_figure",
    "legend_below",
    "picture",
    "pictures",
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

_OTHERS = ("#5aa3a3", "#a3705a", "#7a8f3c", "#6b7fd1")

T = TypeVar("T")
Costs = tuple[Mapping[str, float], Mapping[str, Sequence[float]]]
"""By policy, its mean edit cost and the [low, high] of its interval."""
Point = Mapping[str, float]
"""A step of training and what was measured at it."""


_LOOKS = (("-", "o", INK), ("--", "s", "none"), (":", "^", INK), ("-.", "D", "none"))
SERIES: Sequence[Mapping[str, Any]] = [
    {"color": INK, "linestyle": dashes, "marker": marker, "markerfacecolor": face, "alpha": alpha}
    for alpha in (0.9, 0.55)
    for dashes, marker, face in _LOOKS
]
"""Eight looks for lines that are no policies, as keywords of ``Axes.plot``: they differ without a colour."""

_NARROW, _WIDE = 4.75, 11.8  # inches at 72 units: text of 13.5 units is 14 px on a phone and on a wide page


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as SVG for a wide page; ``narrow`` has its panels one below the other, where it has several."""

    wide: str
    narrow: str = ""

    @property
    def html(self) -> Markup:
        """Both, one of which the page's styles show."""
        from markupsafe import Markup

        if not self.narrow:
            return Markup(self.wide)
        return Markup(f'<div class="broad">{self.wide}</div><div class="slim">{self.narrow}</div>')

    @property
    def file(self) -> str:
        """The text of an SVG file."""
        return standalone(self.wide)


def colour(policy: str) -> str:
    """Return the colour of a policy; ``email/sft@3`` and the variant ``sft-second`` have that of ``sft``."""
    name = policy.rpartition("/")[2].partition("@")[0].partition("-")[0]
    return COLOURS.get(name, _OTHERS[sum(name.encode()) % len(_OTHERS)])


def picture(draw: Callable[..., None], height: float, panels: int = 1) -> Picture:
    """Draw ``panels`` axes, each ``height`` inches high, side by side in a wide picture, at most four in a row."""
    if panels <= 1:
        return Picture(draw_svg(draw, (_NARROW, height), panels))
    columns = panels if panels < 4 else 2 if panels == 4 else 4  # two rows of two rather than 3 + 1
    wide = draw_svg(draw, (_WIDE, height * -(-panels // columns)), panels, columns)
    return Picture(wide, draw_svg(draw, (_NARROW, 0.85 * height * panels), panels))


def pictures(
    draw: Callable[[Axes, T], None], named: Mapping[str, T], height: float, *, ylabel: str = "", legend: bool = True
) -> Picture:
    """Draw one panel for each item under its name, with one legend for all."""

    def all_panels(*panels: Axes) -> None:
        for axes, (name, part) in zip(panels, named.items(), strict=True):
            draw(axes, part)
            axes.set_title(name, loc="left")
            if axes.get_subplotspec().is_first_col():  # pyright: ignore[reportOptionalMemberAccess]
                axes.set_ylabel(ylabel)
        if panels and legend:
            legend_below(*panels)

    return picture(all_panels, height, len(named))


def legend_below(*panels: Axes, handles: Sequence[Artist] = ()) -> None:
    """Put one legend under all panels, where no line can cross it, in as many columns as there is room for."""
    found = {str(handle.get_label()): handle for handle in handles}
    for axes in panels:
        found = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True)) | found
    if not found:
        return
    room = 9.0 * panels[0].figure.get_figwidth()  # type: ignore[union-attr]  # characters, roughly
    columns = max(1, min(len(found), int(room / (max(map(len, found)) + 5))))
    figure = panels[0].figure
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns, handlelength=1.8)


def cost_figure(settings: Mapping[str, Costs]) -> Picture:
    """Mean edit cost of each policy with its interval, where there is one, from top to bottom; a panel a setting."""

    def draw(axes: Axes, costs: Costs) -> None:
        means, intervals = costs
        for place, (name, mean) in enumerate(means.items()):
            axes.plot(intervals.get(name, (mean, mean)), [place, place], color=INK, linewidth=1.5, alpha=0.6)
            axes.plot(mean, place, "o", color=colour(name), markersize=9)
            axes.annotate(f"{mean:.2f}", (mean, place), (0, 8), textcoords="offset points", ha="center")
        axes.set_yticks(range(len(means)), list(means))
        axes.set_ylim(len(means) - 0.5, -0.8)
        axes.set_xlim(left=-0.05 * max(1e-9, *means.values()))  # a policy at 0 keeps clear of its name
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("mean edit cost")

    most = max((len(means) for means, _ in settings.values()), default=1)
    return pictures(draw, settings, 1.1 + 0.4 * most, legend=False)


def cumulative_figure(costs: Mapping[str, Sequence[float]]) -> Picture:
    """Cost paid so far, by round, had each policy or selector answered every time; selectors stand out."""

    def draw(axes: Axes) -> None:
        for name, series in costs.items():
            total = [sum(series[:t]) for t in range(len(series) + 1)]
            axes.plot(total, color=colour(name), linewidth=3 if name in ("late", "uniform") else 1.5, label=name)
        axes.set(xlabel="round", ylabel="cost paid so far", ylim=(0, None))
        axes.margins(x=0)
        legend_below(axes)

    return picture(draw, 4.0)


def pulls_figure(counts: Mapping[str, Mapping[str, Sequence[float]]]) -> Picture:
    """How often each policy had been chosen by rounds 1, 2, …; a panel for each selector or setting."""

    def draw(axes: Axes, chosen: Mapping[str, Sequence[float]]) -> None:
        for arm, series in chosen.items():
            axes.plot(range(1, len(series) + 1), series, color=colour(arm), linewidth=2, label=arm)
        axes.set_xlabel("round")
        axes.margins(x=0)

    return pictures(draw, counts, 3.2, ylabel="times chosen")


def training_figure(training: Mapping[str, Mapping[str, Sequence[Sequence[Point]]]]) -> Picture:
    """Log-probability of the edited text (solid) and of the draft (dashed), a line for each of a method's runs."""

    def draw(axes: Axes, methods: Mapping[str, Sequence[Sequence[Point]]]) -> None:
        for method, runs in methods.items():
            axes.plot([], [], color=colour(method), label=method)
            for points in runs:
                for key, dashes in (("chosen_logp", "-"), ("rejected_logp", "--")):
                    series = [(point["step"], point[key]) for point in points if key in point]
                    axes.plot(*zip(*series, strict=True) if series else ([], []), dashes, color=colour(method))
        axes.axhline(0, color=INK, linewidth=1, alpha=0.5)
        axes.set_xlabel("step")

    return pictures(draw, training, 3.4, ylabel="nats above reference")
