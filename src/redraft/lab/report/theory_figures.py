"""The theory lab's figures, each from the rows of one experiment."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from redraft.lab.report.figures import COLOURS, draw_svg, legend_below

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

Rows = Sequence[Mapping[str, Any]]

WIDE = 8.4  # inches
LEARNERS = ("sft", "dpo", "rl")
SURE = 15  # of 20 seeds: below it, coming first as often is no surprise (one in fifty) even between two equals
_PALETTE = ("#3987c9", "#d5692b", "#1b9e77", "#8e5fc9")


def _shade(learner: str) -> str:
    return COLOURS[learner.partition(",")[0]]


def _dashes(learner: str) -> str:
    return "--" if "," in learner else "-"


def _series(rows: Iterable[Mapping[str, Any]], x: str, y: str) -> tuple[list[float], list[float]]:
    points = sorted((row[x], row[y]) for row in rows)
    return [point[0] for point in points], [point[1] for point in points]


def _groups(rows: Rows, key: str) -> dict[Any, list[Mapping[str, Any]]]:
    return {value: [r for r in rows if r[key] == value] for value in dict.fromkeys(row[key] for row in rows)}


def lemma_figure(rows: Rows) -> str:
    """What one edit leaves of the distance to π*, against what Lemma 1 guarantees."""

    def draw(axes: Axes) -> None:
        for shade, (kernel, own) in zip(_PALETTE, _groups(rows, "kernel").items(), strict=True):
            axes.plot(*_series(own, "bound", "factor"), "o", color=shade, markersize=3, alpha=0.6, label=kernel)
        axes.plot([0, 1], [0, 1], color="#8a8f98", linewidth=1)
        axes.set(xlabel="guaranteed: 1 − γ_min", ylabel="left of ‖π − π*‖ after one edit", xlim=(0, 1), ylim=(0, 1))
        legend_below(axes)

    return draw_svg(draw, 4.2)


def curve_figure(rows: Rows) -> str:
    """Distance to π* as a text is edited again and again."""

    def draw(axes: Axes) -> None:
        for shade, (kernel, own) in zip(_PALETTE, _groups(rows, "kernel").items(), strict=False):
            axes.plot(*_series(own, "edits", "distance"), "o-", color=shade, markersize=3, label=kernel)
        axes.set(xlabel="edits", ylabel="‖π − π*‖", yscale="log")
        legend_below(axes, 3)

    return draw_svg(draw, 4.2)


def rates_figure(rows: Rows) -> str:
    """SubOpt/β by the size of the log; dotted: the limit, where it is not 0."""

    def draw(axes: Axes) -> None:
        for learner, own in _groups([row for row in rows if row["learner"] != "base"], "learner").items():
            points = _series([row for row in own if row["n"]], "n", "subopt")
            axes.plot(*points, _dashes(learner), color=_shade(learner), linewidth=2, label=learner)
            for row in own:
                if not row["n"] and row["subopt"] > 1e-6:
                    axes.axhline(row["subopt"], color=_shade(learner), linewidth=1, linestyle=":")
        axes.set(xscale="log", yscale="log", xlabel="edits in the log, n", ylabel="SubOpt / β")
        legend_below(axes, 3)

    return draw_svg(draw, 4.6)


def gamma_figure(rows: Rows) -> str:
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
        left.legend()
        right.legend()

    return draw_svg(draw, 3.4, 2, width=WIDE)


def phase_figure(rows: Rows) -> str:
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
        patches = [Patch(color=COLOURS[name], label=name) for name in ("base", *LEARNERS)]
        panels[0].figure.legend(handles=patches, loc="outside lower center", ncols=4)

    return draw_svg(draw, 3.6, len(_groups(rows, "d")), width=WIDE)


def _cell(row: Mapping[str, Any]) -> tuple[str, float]:
    best = min(LEARNERS, key=lambda learner: row[learner])
    if row[best] >= 1:
        return COLOURS["base"], 0.9
    return COLOURS[best], 0.95 if row[f"{best}_first"] >= SURE else 0.45


def violation_figure(rows: Rows) -> str:
    """SubOpt/β by ε, one panel a kind of violation; dotted lines are limits."""

    def draw(*panels: Axes) -> None:
        for axes, (kind, own) in zip(panels, _groups(rows, "kind").items(), strict=True):
            for (learner, n), curve in {
                (row["learner"], row["n"]): [r for r in own if (r["learner"], r["n"]) == (row["learner"], row["n"])]
                for row in own
            }.items():
                label = learner if n or learner == "base" else f"{learner}, limit"
                style = "-" if n or learner == "base" else ":"
                axes.plot(*_series(curve, "epsilon", "subopt"), style, color=COLOURS[learner], label=label, linewidth=2)
            axes.set_title(kind, loc="left")
            axes.set(xlabel="ε", xlim=(0, 0.6), ylim=(0, 0.7))
        panels[0].set_ylabel("SubOpt / β")
        legend_below(panels[0], 6)

    return draw_svg(draw, 3.6, len(_groups(rows, "kind")), width=WIDE)


def minimax_figure(rows: Rows) -> str:
    """Regret by horizon, gaps set anew for each, between chance and what no bandit undercuts."""

    def draw(axes: Axes) -> None:
        for shade, (gap, own) in zip(_PALETTE, _groups(rows, "gap").items(), strict=False):
            axes.plot(*_series(own, "t", "regret"), "o-", color=shade, markersize=3, label=f"gap {gap:g} √(K/T)")
        own = [row for row in rows if row["gap"] == rows[0]["gap"]]
        axes.plot(*_series(own, "t", "uniform"), "--", color=COLOURS["uniform"], label="chance, smallest gap")
        axes.plot(*_series(own, "t", "lower"), color="#8a8f98", label="lower bound")
        axes.set(xscale="log", yscale="log", xlabel="horizon T", ylabel="regret")
        legend_below(axes, 2)

    return draw_svg(draw, 4.8)


def _per_log(row: Mapping[str, Any]) -> dict[str, float]:
    return {"t": row["t"]} | {key: row[key] / math.log(row["t"]) for key in ("regret", "level")}


def growth_figure(rows: Rows, *, longer: Rows = ()) -> str:
    """Regret / log T at the paper's gaps, ``longer`` rows as points; dashed: pulls at which all bounds are level."""

    def draw(axes: Axes) -> None:
        for shade, (setting, own) in zip(_PALETTE, _groups(rows, "setting").items(), strict=True):
            more = [row for row in longer if row["setting"] == setting]
            axes.plot(*_series(map(_per_log, own), "t", "regret"), color=shade, linewidth=2, label=setting)
            axes.plot(*_series(map(_per_log, more), "t", "regret"), "o", color=shade, markersize=4)
            axes.plot(*_series(map(_per_log, [*own, *more]), "t", "level"), "--", color=shade, linewidth=1)
        axes.set(xscale="log", xlabel="T", ylabel="regret / log T", ylim=(0, None))
        legend_below(axes, 2)

    return draw_svg(draw, 4.8)


def alpha_figure(rows: Rows) -> str:
    """Regret by constant α at two horizons; dashed: the default, which follows the costs."""

    def draw(axes: Axes) -> None:
        for shade, (t, own) in zip(_PALETTE, _groups(rows, "t").items(), strict=False):
            constant = [row for row in own if row["alpha"] is not None]
            axes.plot(*_series(constant, "alpha", "regret"), "o-", color=shade, markersize=3, label=f"T = {t:,}")
            default = next(row["regret"] for row in own if row["alpha"] is None)
            axes.axhline(default, color=shade, linewidth=1.2, linestyle="--", label=f"default, T = {t:,}")
        axes.set(xscale="log", yscale="log", xlabel="α, in units of the cost", ylabel="regret")
        legend_below(axes, 2)

    return draw_svg(draw, 4.6)


def delay_figure(rows: Rows) -> str:
    """Regret by delay: one bar each, with the delay's own price beside it."""

    def draw(axes: Axes) -> None:
        for place, row in enumerate(rows):
            axes.bar(place, row["regret"], color=COLOURS["late"], width=0.6)
            axes.annotate(
                f"{row['regret']:.0f}", (place, row["regret"]), (0, 3), textcoords="offset points", ha="center"
            )
        axes.set_xticks(range(len(rows)), [f"{row['delay']:,}" for row in rows])
        axes.set(xlabel="rounds until an edit comes", ylabel=f"regret at T = {rows[0]['t']:,}")
        axes.margins(y=0.12)

    return draw_svg(draw, 4.6)


def drift_figure(rows: Rows) -> str:
    """Regret by round where best and worst change places halfway, for rules that remember and rules that forget."""

    def draw(axes: Axes) -> None:
        for shade, (rule, own) in zip((COLOURS["late"], *_PALETTE), _groups(rows, "rule").items(), strict=False):
            style = "--" if rule.startswith("discount") else "-"
            axes.plot(*_series(own, "t", "regret"), style, color=shade, linewidth=2, label=rule)
        axes.set(xlabel="round", ylabel="regret", xlim=(0, None), ylim=(0, None))
        legend_below(axes, 2)

    return draw_svg(draw, 4.8)
