"""The benchmark's tables, each from a part of the summary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from redraft.lab.bench.failures import Collapse, Faults
from redraft.lab.bench.matrix import grouped
from redraft.lab.bench.regret import Horizon, Subset
from redraft.lab.bench.semantic import Repriced
from redraft.lab.bench.summary import BesidePaper, Replay, SettingSummary, Table
from redraft.lab.report.grid import Entry, Grid, between, entries, grid, number, numbers, signed

__all__ = [
    "alpha_grid",
    "answers_grid",
    "collapse_grid",
    "comparison_grid",
    "cost_grid",
    "horizon_grid",
    "mean_subsets",
    "orders_grid",
    "paper_grid",
    "real_grid",
    "recost_grid",
    "shape_grid",
    "subsets_grid",
]

NONE = Entry("–")


def cost_grid(table: Table, test_user: str) -> Grid:
    """The paper's layout: a line a policy, a column a setting, Max SubOpt last; mean ± std over seeds."""
    settings, subopt = table.settings, table.max_subopt
    least = min((found.mean for found in subopt.values()), default=None)

    def line(policy: str) -> list[Entry]:
        costs = [
            Entry(number(s.mean_cost.get(policy), s.std.get(policy)), policy == s.winner) for s in settings.values()
        ]
        worst = subopt.get(policy)
        return [*costs, Entry(number(worst.mean, worst.std), worst.mean == least) if worst else NONE]

    seeds = len({seed for setting in settings.values() for seed in setting.seeds})
    caption = f"Mean edit cost, test user {test_user}: mean ± standard deviation over {seeds} seed{'s' * (seeds != 1)}."
    return grid(caption, ("policy", *settings, "Max SubOpt"), _each(_policies(settings.values()), line))


def paper_grid(paper: BesidePaper) -> Grid:
    """The paper's numbers for the same settings."""
    least = min(paper.max_subopt.values())

    def line(policy: str) -> list[Entry]:
        costs = [Entry(number(s.paper_cost[policy]), policy == s.paper_winner) for s in paper.settings.values()]
        gap = paper.max_subopt[policy]
        return [*costs, Entry(number(gap), gap == least)]

    caption = f"The paper's {paper.name} (Llama-3.1-8B, users played by language models)."
    return grid(caption, ("policy", *paper.settings, "Max SubOpt"), _each(paper.max_subopt, line))


def shape_grid(paper: BesidePaper) -> Grid:
    """Who wins where, here and in the paper."""

    def line(name: str) -> list[Entry]:
        s = paper.settings[name]
        same = "yes" if s.winner == s.paper_winner else "no"
        return entries(" < ".join(s.order), " < ".join(s.paper_order), same, signed(s.kendall))

    caption = "Methods from least to most cost; τ is 1 where the two orders agree, −1 where they are opposed."
    head = ("setting", "here", f"the paper's {paper.name}", "same winner", "Kendall's τ")
    return grid(caption, head, _each(paper.settings, line))


def comparison_grid(settings: Mapping[str, SettingSummary]) -> Grid:
    """A − B in every setting, with the interval; bold where it lies below 0 as a whole."""
    rows = {(name, row.a, row.b): row for name, s in settings.items() for row in s.comparisons}

    def cell(name: str, a: str, b: str) -> Entry:
        row = rows.get((name, a, b))
        return between(row.difference, row.low, row.high) if row else NONE

    pairs = dict.fromkeys((a, b) for _, a, b in rows)
    caption = (
        "Difference of mean costs with its 95 % interval (paired bootstrap over seed and context). Bold: the whole "
        "interval is below 0, so A costs significantly less than B."
    )
    lines = ((f"{a} − {b}", [cell(name, a, b) for name in settings]) for a, b in pairs)
    return grid(caption, ("A − B", *settings), lines)


def mean_subsets(replays: Mapping[str, Replay]) -> list[Subset]:
    """Subsets of arms in the mean over settings, in the order they first come in; the best arm has no mean."""
    found = grouped((row for replay in replays.values() for row in replay.subsets), lambda row: tuple(row.arms))
    return [
        Subset(
            list(arms),
            late=fmean(row.late for row in rows),
            uniform=fmean(row.uniform for row in rows),
            best=fmean(row.best for row in rows),
            best_arm="",
            regret=fmean(row.regret for row in rows),
        )
        for arms, rows in found.items()
    ]


def subsets_grid(subsets: Sequence[Subset]) -> Grid:
    """One line a subset."""
    least = min((row.late for row in subsets), default=0)
    lines = (
        (" + ".join(s.arms), [Entry(number(s.late), s.late == least), *numbers(s.best, s.uniform, s.regret)])
        for s in subsets
    )
    head = ("arms", "LateEnsemble", "best fixed policy", "uniform", "regret per round")
    return grid("Mean edit cost over the settings, by the arms that LateEnsemble may choose from.", head, lines)


def alpha_grid(replays: Mapping[str, Replay]) -> Grid:
    """LateEnsemble's mean cost by α, and with the default."""
    curves = [replay.alpha for replay in replays.values()]
    costs = [dict(zip(curve.alphas, curve.cost, strict=True)) for curve in curves]
    alphas = dict.fromkeys(alpha for curve in curves for alpha in curve.alphas)
    lines = [(f"{alpha:g}", numbers(*(cost.get(alpha) for cost in costs))) for alpha in alphas]
    default = ("the default", [Entry(number(curve.default.cost), True) for curve in curves])
    return grid("LateEnsemble's mean cost by α, over random orders.", ("α", *replays), [*lines, default])


def horizon_grid(replays: Mapping[str, Replay]) -> Grid:
    """Regret per round by T, with bands."""
    horizons = [replay.horizon for replay in replays.values()]

    def cell(found: Horizon, t: int) -> Entry:
        if t not in found.rounds:
            return NONE
        regret, at = found.regret, found.rounds.index(t)
        return Entry(between(regret.mean[at], regret.low[at], regret.high[at]).text)

    rounds = dict.fromkeys(t for found in horizons for t in found.rounds)
    caption = "LateEnsemble's regret per round after T rounds drawn with replacement: mean, and 5 to 95 % of the runs."
    return grid(caption, ("T", *replays), ((str(t), [cell(found, t) for found in horizons]) for t in rounds))


def answers_grid(answers: Mapping[str, Mapping[str, Faults]]) -> Grid:
    """What answers look like, by setting and policy."""

    def line(f: Faults) -> list[Entry]:
        shares = (f"{share:.0%}" for share in (f.empty, f.repeating, f.unchanged))
        return entries(str(f.answers), *shares, f"{f.words:.0f}")

    lines = ((f"{setting}, {name}", line(f)) for setting, policies in answers.items() for name, f in policies.items())
    return grid("", ("setting, policy", "answers", "empty", "repeating", "kept unchanged", "words"), lines)


def collapse_grid(runs: Iterable[Collapse]) -> Grid:
    """What training did to held-out texts, in the mean over seeds."""

    def line(some: Sequence[Collapse]) -> list[Entry]:
        edited, drafts = fmean(run.chosen or 0 for run in some), fmean(run.rejected or 0 for run in some)
        collapsed = sum(bool(run.collapsed) for run in some)
        return entries(f"{edited:+.1f}", f"{drafts:+.1f}", f"{collapsed} of {len(some)}")

    known = (run for run in runs if run.chosen is not None and run.rejected is not None)
    by_method = grouped(known, lambda run: f"{run.task} {run.train_user}, {run.method}")
    lines = ((name, line(some)) for name, some in by_method.items())
    head = ("setting, method", "edited text", "draft", "collapsed")
    caption = "Held-out log-probability above the reference, in nats per text, at the epoch that was kept."
    return grid(caption, head, lines)


def recost_grid(settings: Mapping[str, Repriced], cost: str) -> Grid:
    """Mean cost under one cost, a column a setting."""
    found = [(s.mean_cost.get(cost, {}), s.winner.get(cost)) for s in settings.values()]
    policies = dict.fromkeys(name for means, _ in found for name in means)
    lines = ((name, [Entry(number(means.get(name)), name == best) for means, best in found]) for name in policies)
    return grid(f"Mean cost of the same edits: {cost}.", ("policy", *settings), lines)


def orders_grid(settings: Mapping[str, Repriced]) -> Grid:
    """Kendall's τ between the orders that each two costs give."""
    pairs = dict.fromkeys(pair for s in settings.values() for pair in s.kendall)
    lines = ((pair, entries(*(signed(s.kendall.get(pair)) for s in settings.values()))) for pair in pairs)
    caption = "Kendall's τ of the policies' orders (arms and LateEnsemble): 1 where two costs rank alike."
    return grid(caption, ("costs", *settings), lines)


def real_grid(evaluation: Mapping[str, Any]) -> Grid:
    """One evaluation on people's own edits, as ``redraft evaluate`` wrote it: a line a policy."""
    columns = {
        "log π(edited text) per token": "log_likelihood",
        "prefers the edit": "prefers_edit",
        "more than the reference does": "prefers_edit_over_reference",
        "own answer's distance": "distance",
    }
    lines = (
        (str(found["policy"]), entries(*(_interval(found.get(key)) for key in columns.values())))
        for found in evaluation.get("policies", ())
    )
    caption = (
        f"{evaluation.get('task', '')}: {evaluation.get('edits', '?')} held-out edits by people, "
        f"{evaluation.get('changed', '?')} of which changed something; {evaluation.get('model', '')}."
    )
    return grid(caption, ("policy", *columns), lines)


def _each(names: Iterable[str], line: Callable[[str], Iterable[Entry]]) -> Iterable[tuple[str, Iterable[Entry]]]:
    return ((name, line(name)) for name in names)


def _policies(settings: Iterable[SettingSummary]) -> dict[str, None]:
    return dict.fromkeys(name for setting in settings for name in setting.mean_cost)


def _interval(found: Mapping[str, float] | None) -> str:
    if not found:
        return "–"
    return f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]".replace("-", "\N{MINUS SIGN}")
