"""The benchmark's figures, one panel or one line a setting; each takes a part of the summary and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from redraft.lab.bench.regret import Subset
from redraft.lab.bench.summary import Curve, Replay, SettingSummary
from redraft.lab.report.figures import colour, draw_svg, legend_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "alpha_figure",
    "costs_figure",
    "horizon_figure",
    "pulls_figure",
    "regret_figure",
    "subsets_figure",
    "training_figure",
]

_LINES = ("#3987c9", "#d5692b", "#1b9e77", "#c2528b", "#8e5fc9", "#b08a1e", "#5aa3a3", "#8a8f98")
_WIDE = 8.4  # inches: figures that take the page's whole width

T = TypeVar("T")
Replays = Mapping[str, Replay]


def costs_figure(settings: Mapping[str, SettingSummary]) -> str:
    """Mean edit cost of every policy with its interval, a panel for each setting."""

    def draw(axes: Axes, setting: SettingSummary) -> None:
        means = setting.mean_cost
        for place, (name, mean) in enumerate(means.items()):
            low, high = setting.interval[name]
            axes.plot([low, high], [place, place], color=colour(name), linewidth=5, alpha=0.35, solid_capstyle="round")
            axes.plot(mean, place, "o", color=colour(name), markersize=7)
            axes.annotate(f"{mean:.2f}", (mean, place), (0, 7), textcoords="offset points", ha="center")
        axes.set_yticks(range(len(means)), list(means))
        axes.set_ylim(len(means) - 0.5, -0.8)
        axes.set_xlim(left=-0.05 * max(1e-9, *means.values()))
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("mean edit cost (less is better)")

    most = max(len(setting.mean_cost) for setting in settings.values())
    return _panels(draw, settings, height=max(3.1, 0.36 * most))


def regret_figure(replays: Replays) -> str:
    """LateEnsemble's cumulative regret: as served, and over random orders of the same rounds."""

    def draw(axes: Axes, replay: Replay) -> None:
        assert replay.regret is not None
        lines = (replay.regret.random, replay.regret.served)
        for line, label, shade in zip(lines, _ORDERS, ("#8a8f98", colour("late")), strict=True):
            rounds = range(1, len(line.mean) + 1)
            axes.fill_between(rounds, line.low, line.high, color=shade, alpha=0.22, linewidth=0)
            axes.plot(rounds, line.mean, color=shade, linewidth=2.2, label=label)
        axes.set_xlabel("round")
        axes.set_ylabel("regret so far")
        axes.margins(x=0)

    return _panels(draw, replays, legend=True)


_ORDERS = ("random orders, 5 to 95 %", "as served, lowest to highest seed")


def pulls_figure(replays: Replays) -> str:
    """How often LateEnsemble had chosen each policy by each round, in the mean over random orders."""

    def draw(axes: Axes, replay: Replay) -> None:
        assert replay.regret is not None
        for arm, counts in replay.regret.pulls.items():
            axes.plot(range(1, len(counts) + 1), counts, color=colour(arm), linewidth=2, label=arm)
        axes.set_xlabel("round")
        axes.set_ylabel("times chosen")
        axes.margins(x=0)

    return _panels(draw, replays, legend=True)


def training_figure(training: Mapping[str, Mapping[str, Sequence[Curve]]]) -> str:
    """Held-out log-probability of the edited text (solid) and of the draft (dashed) by step: a thin line a seed."""

    def draw(axes: Axes, methods: Mapping[str, Sequence[Curve]]) -> None:
        for method, runs in methods.items():
            for run in runs:
                for key, dashes in (("chosen_logp", "-"), ("rejected_logp", "--")):
                    series = [(point["step"], point[key]) for point in run.points if key in point]
                    first = run is runs[0] and dashes == "-"
                    axes.plot(
                        *zip(*series, strict=True),
                        dashes,
                        color=colour(method),
                        linewidth=1.3,
                        label=method if first else "_",
                    )
        axes.axhline(0, color=colour("base"), linewidth=1)
        axes.set_xlabel("step")
        axes.set_ylabel("nats above reference")

    return _panels(draw, training, legend=True)


def alpha_figure(replays: Replays) -> str:
    """What LateEnsemble pays above the best fixed policy for each α, as a multiple of where the default ends."""

    def draw(axes: Axes) -> None:
        for shade, (name, replay) in _coloured(replays):
            found = replay.alpha
            scale = found.default.alpha or 1.0
            points = [(a / scale, c - found.best) for a, c in zip(found.alphas, found.cost, strict=True) if a]
            axes.plot(*zip(*points, strict=True), color=shade, label=name)
            axes.plot(1, found.default.cost - found.best, "o", color=shade, markersize=8)
        axes.axvline(1, color=colour("base"), linewidth=1)
        axes.set(xscale="log", xlabel="α / the α that the default ends at", ylabel="cost above the best policy")
        axes.set_ylim(bottom=0)
        legend_below(axes, 2)

    return draw_svg(draw, 4.0)


def horizon_figure(replays: Replays) -> str:
    """LateEnsemble's regret per round by T, with bands."""

    def draw(axes: Axes) -> None:
        for shade, (name, replay) in _coloured(replays):
            found = replay.horizon
            regret = found.regret
            axes.fill_between(found.rounds, regret.low, regret.high, color=shade, alpha=0.14, linewidth=0)
            axes.plot(found.rounds, regret.mean, "o-", color=shade, markersize=4, label=name)
        rounds = next((replay.horizon.rounds for replay in replays.values()), [])
        axes.set(xscale="log", xlabel="T", ylabel="regret per round")
        axes.set_xticks(rounds, [str(t) for t in rounds])
        axes.minorticks_off()
        legend_below(axes, 2)

    return draw_svg(draw, 4.0)


def subsets_figure(subsets: Sequence[Subset]) -> str:
    """By subset of arms: LateEnsemble (dot), the best policy of the subset (tick), and a uniform choice (ring)."""

    def draw(axes: Axes) -> None:
        for place, row in enumerate(subsets):
            axes.plot([row.best, row.uniform], [place, place], color=colour("base"), linewidth=1)
            axes.plot(row.best, place, "|", color=colour("base"), markersize=13, markeredgewidth=2.5)
            axes.plot(row.uniform, place, "o", color=colour("uniform"), markersize=6, fillstyle="none")
            axes.plot(row.late, place, "o", color=colour("late"), markersize=8)
        axes.set_yticks(range(len(subsets)), [" + ".join(row.arms) for row in subsets])
        axes.set_ylim(len(subsets) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("mean edit cost over the settings")

    return draw_svg(draw, 1.0 + 0.3 * len(subsets))


def _panels(
    draw: Callable[[Axes, T], None],
    named: Mapping[str, T],
    *,
    height: float = 2.6,
    legend: bool = False,
) -> str:
    columns = min(4, len(named)) if len(named) != 4 else 2

    def all_panels(*panels: Axes) -> None:
        for place, (axes, (name, part)) in enumerate(zip(panels, named.items(), strict=True)):
            draw(axes, part)
            axes.set_title(name, loc="left")
            if place % columns:
                axes.set_ylabel("")
        if panels and legend:
            legend_below(panels[0])

    down = -(-len(named) // max(1, columns))
    return draw_svg(all_panels, height * max(1, down), len(named), columns=max(1, columns), width=_WIDE)


def _coloured(named: Replays) -> list[tuple[str, tuple[str, Replay]]]:
    return [(_LINES[place % len(_LINES)], item) for place, item in enumerate(named.items())]
