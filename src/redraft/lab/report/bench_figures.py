"""The benchmark's figures, one panel or one line a setting; each takes a part of the summary and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from redraft.figures import INK
from redraft.lab.bench.regret import Subset
from redraft.lab.bench.summary import Curve, Replay, SettingSummary
from redraft.lab.report import figures
from redraft.lab.report.figures import SERIES, Picture, colour, legend_below, picture, pictures

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

Replays = Mapping[str, Replay]


def costs_figure(settings: Mapping[str, SettingSummary]) -> Picture:
    """Mean edit cost of every policy with its interval, a panel for each setting."""
    return figures.cost_figure({name: (part.mean_cost, part.interval) for name, part in settings.items()})


def pulls_figure(replays: Replays) -> Picture:
    """How often LateEnsemble had chosen each policy by each round, in the mean over random orders."""
    return figures.pulls_figure({name: replay.regret.pulls for name, replay in replays.items() if replay.regret})


def training_figure(training: Mapping[str, Mapping[str, Sequence[Curve]]]) -> Picture:
    """Held-out log-probability of the edited text (solid) and of the draft (dashed) by step: a thin line a seed."""
    return figures.training_figure(
        {
            name: {method: [run.points for run in runs] for method, runs in methods.items()}
            for name, methods in training.items()
        }
    )


def regret_figure(replays: Replays) -> Picture:
    """LateEnsemble's cumulative regret: as served, and over random orders of the same rounds."""

    def draw(axes: Axes, replay: Replay) -> None:
        assert replay.regret is not None
        for line, (label, shade, dashes) in zip((replay.regret.random, replay.regret.served), _ORDERS, strict=True):
            rounds = range(1, len(line.mean) + 1)
            axes.fill_between(rounds, line.low, line.high, color=shade, alpha=0.18, linewidth=0)
            axes.plot(rounds, line.mean, dashes, color=shade, linewidth=2, label=label)
        axes.set_xlabel("round")
        axes.margins(x=0)

    return pictures(draw, replays, 3.0, ylabel="regret so far")


_ORDERS = (
    ("random orders, 5 to 95 %", INK, "--"),
    ("as served, lowest to highest seed", colour("late"), "-"),
)


def alpha_figure(replays: Replays) -> Picture:
    """What LateEnsemble pays above the best fixed policy for each α, as a multiple of where the default ends."""

    def draw(axes: Axes) -> None:
        for series, (name, replay) in zip(SERIES, replays.items(), strict=False):
            found = replay.alpha
            scale = found.default.alpha or 1.0
            points = [(a / scale, c - found.best) for a, c in zip(found.alphas, found.cost, strict=True) if a]
            axes.plot(*zip(*points, strict=True), **series, label=name)
            axes.plot(1, found.default.cost - found.best, "o", color=colour("late"), markersize=9)
        axes.axvline(1, color=INK, linewidth=1, alpha=0.5)
        axes.set(xscale="log", xlabel="α / the α that the default ends at", ylabel="cost above the best policy")
        axes.set_ylim(bottom=0)
        legend_below(axes)

    return picture(draw, 4.4)


def horizon_figure(replays: Replays) -> Picture:
    """LateEnsemble's regret per round by T, with bands."""

    def draw(axes: Axes) -> None:
        for series, (name, replay) in zip(SERIES, replays.items(), strict=False):
            found = replay.horizon
            regret = found.regret
            axes.fill_between(found.rounds, regret.low, regret.high, color=INK, alpha=0.07, linewidth=0)
            axes.plot(found.rounds, regret.mean, **series, label=name)
        rounds = next((replay.horizon.rounds for replay in replays.values()), [])
        axes.set(xscale="log", xlabel="T", ylabel="regret per round")
        axes.set_xticks(rounds, [str(t) for t in rounds])
        axes.minorticks_off()
        legend_below(axes)

    return picture(draw, 4.4)


def subsets_figure(subsets: Sequence[Subset]) -> Picture:
    """By subset of arms: LateEnsemble (dot), the best policy of the subset (tick), and a uniform choice (ring)."""

    def draw(axes: Axes) -> None:
        for place, row in enumerate(subsets):
            axes.plot([row.best, row.uniform], [place, place], color=INK, linewidth=1, alpha=0.4)
            axes.plot(row.best, place, "|", color=INK, markersize=13, markeredgewidth=2.5)
            axes.plot(row.uniform, place, "o", color=colour("uniform"), markersize=6, fillstyle="none")
            axes.plot(row.late, place, "o", color=colour("late"), markersize=8)
        axes.set_yticks(range(len(subsets)), [" + ".join(row.arms) for row in subsets])
        axes.set_ylim(max(1, len(subsets)) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("mean edit cost over the settings")

    return picture(draw, 1.4 + 0.34 * len(subsets))
