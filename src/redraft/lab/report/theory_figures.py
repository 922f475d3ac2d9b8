"""The theory lab's figures, each from the rows of one experiment."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from redraft.figures import INK
from redraft.lab.report.figures import COLOURS, SERIES, Picture, legend_below, picture, pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "alpha_figure",
    "curve_figure",
    "delay_figure",
    "drift_figure",
    "gamma_figure",
    "growth_figure",
    "lemma_figure",
    "minimax_figure",
    "phase_figure",
    "rates_figure",
    "violation_figure",
]

Row = Mapping[str, Any]
"""A line of an experiment: ``show`` says for which figure or table it is, and so which other keys it has."""
Rows = Sequence[Row]

LEARNERS = ("sft", "dpo", "rl")
SURE = 15  # of 20 seeds: below it, coming first as often is no surprise (one in fifty) even between two equals


def _shade(learner: str) -> str:
    return COLOURS[learner.partition(",")[0]]


def _dashes(learner: str) -> str:
    return {"dpo, log-linear": "-."}.get(learner, "--" if "," in learner else "-")


def _series(rows: Iterable[Row], x: str, y: str) -> tuple[list[float], list[float]]:
    points = sorted((row[x], row[y]) for row in rows)
    return [point[0] for point in points], [point[1] for point in points]


def _groups(rows: Rows, key: str) -> dict[Any, list[Row]]:
    return {value: [r for r in rows if r[key] == value] for value in dict.fromkeys(row[key] for row in rows)}


def _lines(axes: Axes, named: Mapping[str, Rows], x: str, y: str) -> None:
    for series, (name, own) in zip(SERIES, named.items(), strict=False):
        axes.plot(*_series(own, x, y), **series, label=name)


def lemma_figure(rows: Rows) -> Picture:
    """What one edit leaves of the distance to π*, against what Lemma 1 guarantees."""

    def draw(axes: Axes) -> None:
        for series, (kernel, own) in zip(SERIES, _groups(rows, "kernel").items(), strict=False):
            (dots,) = axes.plot(*_series(own, "bound", "factor"), **series, label=kernel)
            dots.set_linestyle("none")
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1)
        axes.set(xlabel="guaranteed: 1 − γ_min", ylabel="left of ‖π − π*‖ after one edit", xlim=(0, 1), ylim=(0, 1))
        legend_below(axes)

    return picture(draw, 4.6)


def curve_figure(rows: Rows) -> Picture:
    """Distance to π* as a text is edited again and again."""

    def draw(axes: Axes) -> None:
        _lines(axes, _groups(rows, "kernel"), "edits", "distance")
        axes.set(xlabel="edits", ylabel="‖π − π*‖", yscale="log")
        legend_below(axes)

    return picture(draw, 4.6)


def rates_figure(rows: Rows) -> Picture:
    """SubOpt/β by the size of the log; dotted: the limit, where it is not 0."""

    def draw(axes: Axes) -> None:
        for learner, own in _groups([row for row in rows if row["learner"] != "base"], "learner").items():
            points = _series([row for row in own if row["n"]], "n", "subopt")
            axes.plot(*points, _dashes(learner), color=_shade(learner), linewidth=2, label=learner)
            for row in own:
                if not row["n"] and row["subopt"] > 1e-6:
                    axes.axhline(row["subopt"], color=_shade(learner), linewidth=1, linestyle=":")
        axes.set(xscale="log", yscale="log", xlabel="edits in the log, n", ylabel="SubOpt / β")
        legend_below(axes)

    return picture(draw, 5.0)


def gamma_figure(rows: Rows) -> Picture:
    """SubOpt/β by γ (SFT's limit, DPO's finite log) and by the cost class's dimension (RL)."""

    def draw(left: Axes, right: Axes) -> None:
        for learner, own in _groups([r for r in rows if r["show"] == "gamma"], "learner").items():
            label = "sft, limit" if learner == "sft" else f"{learner}, n = {own[0]['n']:,}"
            left.plot(*_series(own, "gamma", "subopt"), "o-", color=_shade(learner), markersize=3, label=label)
        for learner, own in _groups([r for r in rows if r["show"] == "dimension"], "learner").items():
            points, style = _series(own, "d", "subopt"), "o" + _dashes(learner)
            right.plot(*points, style, color=_shade(learner), markersize=3, label=learner)
        left.set(xlabel="γ: how often a user edits", ylabel="SubOpt / β", yscale="log")
        right.set(xlabel="dimension d of the cost class", xscale="log")
        legend_below(left, right)

    return picture(draw, 4.0, 2)


def phase_figure(rows: Rows) -> Picture:
    """Who is best in each cell; pale where fewer than ``SURE`` of 20 seeds agree, grey where π_ref is best."""

    def draw(*panels: Axes) -> None:
        from matplotlib.colors import to_rgba
        from matplotlib.patches import Patch

        for axes, (d, own) in zip(panels, _groups(rows, "d").items(), strict=True):
            cells = {(row["gamma"], row["coverage"]): row for row in own}
            gammas, coverages = sorted({g for g, _ in cells}), sorted({c for _, c in cells})
            image = [[to_rgba(*_cell(cells[g, c])) for c in coverages] for g in gammas]
            low, high = math.log10(coverages[0]), math.log10(coverages[-1])
            axes.imshow(image, origin="lower", aspect="auto", extent=(low, high, 0, 1), interpolation="nearest")
            axes.set_xticks([math.log10(tick) for tick in (2, 10, 100)], ["2", "10", "100"])
            axes.set_title(f"cost class of {d} dimensions", loc="left")
            axes.set_xlabel("C*: coverage, worse →")
            axes.grid(visible=False)
        panels[0].set_ylabel("γ: how often a user edits")
        legend_below(panels[0], handles=[Patch(color=COLOURS[name], label=name) for name in ("base", *LEARNERS)])

    return picture(draw, 4.2, len(_groups(rows, "d")))


def _cell(row: Row) -> tuple[str, float]:
    best = min(LEARNERS, key=lambda learner: row[learner])
    if row[best] >= 1:
        return COLOURS["base"], 0.9
    return COLOURS[best], 0.95 if row[f"{best}_first"] >= SURE else 0.45


def violation_figure(rows: Rows) -> Picture:
    """SubOpt/β by ε, one panel a kind of violation; dotted lines are limits."""

    def draw(axes: Axes, own: Rows) -> None:
        for learner, n in dict.fromkeys((row["learner"], row["n"]) for row in own):
            limit = not n and learner != "base"
            curve = [row for row in own if (row["learner"], row["n"]) == (learner, n)]
            label, dashes = (f"{learner}, limit", ":") if limit else (learner, "-")
            axes.plot(*_series(curve, "epsilon", "subopt"), dashes, color=COLOURS[learner], label=label, linewidth=2)
        axes.set(xlabel="ε", xlim=(0, 0.6), xticks=(0, 0.2, 0.4), ylim=(0, 0.7))

    return pictures(draw, _groups(rows, "kind"), 3.8, ylabel="SubOpt / β")


def minimax_figure(rows: Rows) -> Picture:
    """Regret by horizon, gaps set anew for each, between chance and what no bandit undercuts."""

    def draw(axes: Axes) -> None:
        gaps = {f"gap {gap:g} √(K/T)": own for gap, own in _groups(rows, "gap").items()}
        _lines(axes, gaps, "t", "regret")
        own = next(iter(gaps.values()))
        axes.plot(*_series(own, "t", "uniform"), "--", color=COLOURS["uniform"], label="chance, smallest gap")
        axes.plot(*_series(own, "t", "lower"), color=INK, linewidth=1, alpha=0.5, label="lower bound")
        axes.set(xscale="log", yscale="log", xlabel="horizon T", ylabel="regret")
        legend_below(axes)

    return picture(draw, 5.0)


def _per_log(row: Row) -> dict[str, float]:
    return {"t": row["t"]} | {key: row[key] / math.log(row["t"]) for key in ("regret", "level")}


def growth_figure(rows: Rows, *, longer: Rows = ()) -> Picture:
    """Regret / log T at the paper's gaps, with ``longer`` rows too; without markers: were all bounds level."""

    def draw(axes: Axes) -> None:
        more = [row for row in longer if row["t"] > max(row["t"] for row in rows)]
        settings = {name: [*map(_per_log, own)] for name, own in _groups([*rows, *more], "setting").items()}
        _lines(axes, settings, "t", "regret")
        for own in settings.values():
            axes.plot(*_series(own, "t", "level"), color=INK, linewidth=1, alpha=0.4)
        axes.set(xscale="log", xlabel="T", ylabel="regret / log T", ylim=(0, None))
        legend_below(axes)

    return picture(draw, 5.0)


def alpha_figure(rows: Rows) -> Picture:
    """Regret by constant α at two horizons, and of the default, which follows the costs."""

    def draw(axes: Axes) -> None:
        for series, (t, own) in zip(SERIES, _groups(rows, "t").items(), strict=False):
            constant = [row for row in own if row["alpha"] is not None]
            axes.plot(*_series(constant, "alpha", "regret"), **series, label=f"T = {t:,}")
            default = next(row["regret"] for row in own if row["alpha"] is None)
            axes.axhline(default, color=COLOURS["late"], linestyle=series["linestyle"], label=f"default, T = {t:,}")
        axes.set(xscale="log", yscale="log", xlabel="α, in units of the cost", ylabel="regret")
        legend_below(axes)

    return picture(draw, 5.0)


def delay_figure(rows: Rows) -> Picture:
    """Regret by delay, one bar each."""

    def draw(axes: Axes) -> None:
        bars = axes.bar(range(len(rows)), [row["regret"] for row in rows], color=COLOURS["late"], width=0.6)
        axes.bar_label(bars, fmt="%.0f")
        axes.set_xticks(range(len(rows)), [f"{row['delay']:,}" for row in rows])
        axes.set(xlabel="rounds until an edit arrives", ylabel=f"regret at T = {rows[0]['t']:,}")
        axes.margins(y=0.12)

    return picture(draw, 5.0)


def drift_figure(rows: Rows) -> Picture:
    """Regret by round where the best and the worst arm swap halfway, for rules that remember and rules that forget."""

    def draw(axes: Axes) -> None:
        for series, (rule, own) in zip(SERIES, _groups(rows, "rule").items(), strict=False):
            (line,) = axes.plot(*_series(own, "t", "regret"), **series, markevery=0.1, label=rule)
            if rule == "late":
                line.set(color=COLOURS["late"], linewidth=2.5, marker="")
        axes.set(xlabel="round", ylabel="regret", xlim=(0, None), ylim=(0, None))
        legend_below(axes)

    return picture(draw, 5.0)
