"""The benchmark's tables, each from a part of the summary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from redraft.lab.report.grid import Entry, Grid, Line, number, signed

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

Named = Mapping[str, Mapping[str, Any]]


def cost_grid(table: Mapping[str, Any], test_user: str) -> Grid:
    """The paper's layout: a line a policy, a column a setting, Max SubOpt last; mean ± std over seeds."""
    settings: Named = table["settings"]
    policies = list(dict.fromkeys(name for setting in settings.values() for name in setting["mean_cost"]))
    subopt: Named = table["max_subopt"]
    least = min((found["mean"] for found in subopt.values()), default=None)
    lines = [
        Line(
            policy,
            (
                *(
                    Entry(
                        number(setting["mean_cost"].get(policy), setting["std"].get(policy)),
                        policy == setting["winner"],
                    )
                    for setting in settings.values()
                ),
                _subopt(subopt.get(policy), least),
            ),
        )
        for policy in policies
    ]
    seeds = sorted({seed for setting in settings.values() for seed in setting["seeds"]})
    caption = f"Mean edit cost, test user {test_user}: mean ± standard deviation over {_count(len(seeds), 'seed')}."
    return Grid(caption, ("policy", *settings, "Max SubOpt"), tuple(lines))


def paper_grid(paper: Mapping[str, Any]) -> Grid:
    """The paper's numbers for the same settings."""
    settings: Named = paper["settings"]
    subopt: Mapping[str, float] = paper["max_subopt"]
    lines = [
        Line(
            policy,
            (
                *(Entry(number(s["paper_cost"][policy]), policy == s["paper_winner"]) for s in settings.values()),
                Entry(number(gap), gap == min(subopt.values())),
            ),
        )
        for policy, gap in subopt.items()
    ]
    caption = f"The paper's {paper['name']} (Llama-3.1-8B, users played by language models)."
    return Grid(caption, ("policy", *settings, "Max SubOpt"), tuple(lines))


def shape_grid(paper: Mapping[str, Any]) -> Grid:
    """Who wins where, here and there."""
    lines = [
        Line(
            name,
            (
                Entry(" < ".join(found["order"])),
                Entry(" < ".join(found["paper_order"])),
                Entry("yes" if found["winner"] == found["paper_winner"] else "no"),
                Entry(signed(found["kendall"])),
            ),
        )
        for name, found in paper["settings"].items()
    ]
    caption = "Methods from least to most cost; τ is 1 where the two orders agree, −1 where they are opposed."
    return Grid(
        caption, ("setting", "here", f"the paper's {paper['name']}", "same winner", "Kendall's τ"), tuple(lines)
    )


def comparison_grid(settings: Named) -> Grid:
    """A − B in every setting, with the interval; bold where it lies below 0 as a whole."""
    pairs = list(dict.fromkeys((row["a"], row["b"]) for s in settings.values() for row in s["comparisons"]))
    cells = {(name, row["a"], row["b"]): row for name, s in settings.items() for row in s["comparisons"]}
    lines = [Line(f"{a} − {b}", tuple(_difference(cells.get((name, a, b))) for name in settings)) for a, b in pairs]
    return Grid(
        "Difference of mean costs with its 95 % interval (paired bootstrap over seed and context). Bold: A is below B "
        "in the whole interval.",
        ("A − B", *settings),
        tuple(lines),
    )


def mean_subsets(replays: Named) -> list[dict[str, Any]]:
    """Subsets of arms in the mean over settings, in the order they first come in."""
    found: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for replay in replays.values():
        for row in replay["subsets"]:
            found.setdefault(tuple(row["arms"]), []).append(row)
    keys = ("late", "best", "uniform", "regret")
    return [{"arms": arms, **{key: fmean(row[key] for row in rows) for key in keys}} for arms, rows in found.items()]


def subsets_grid(subsets: Sequence[Mapping[str, Any]]) -> Grid:
    """One line a subset."""
    least = min((row["late"] for row in subsets), default=0)
    lines = [
        Line(
            " + ".join(row["arms"]),
            (
                Entry(number(row["late"]), row["late"] == least),
                *(Entry(number(row[key])) for key in ("best", "uniform", "regret")),
            ),
        )
        for row in subsets
    ]
    head = ("arms", "LateEnsemble", "best fixed policy", "uniform", "regret per round")
    return Grid("Mean edit cost over the settings, by what LateEnsemble may choose from.", head, tuple(lines))


def alpha_grid(replays: Named) -> Grid:
    """LateEnsemble's mean cost by α, and under the default."""
    alphas = list(dict.fromkeys(alpha for replay in replays.values() for alpha in replay["alpha"]["alphas"]))
    lines = [
        Line(
            f"{alpha:g}",
            tuple(_at(replay["alpha"]["alphas"], alpha, replay["alpha"]["cost"]) for replay in replays.values()),
        )
        for alpha in alphas
    ]
    default = Line("the default", tuple(Entry(number(r["alpha"]["default"]["cost"]), True) for r in replays.values()))
    return Grid("LateEnsemble's mean cost by α, over random orders.", ("α", *replays), (*lines, default))


def horizon_grid(replays: Named) -> Grid:
    """Regret per round by T, with bands."""
    rounds = list(dict.fromkeys(t for replay in replays.values() for t in replay["horizon"]["rounds"]))
    lines = [Line(str(t), tuple(_banded(replay["horizon"], t) for replay in replays.values())) for t in rounds]
    caption = "LateEnsemble's regret per round after T rounds drawn with replacement: mean, and 5 to 95 % of the runs."
    return Grid(caption, ("T", *replays), tuple(lines))


def answers_grid(answers: Mapping[str, Named]) -> Grid:
    """What answers look like, by setting and policy."""
    shares = ("empty", "repeating", "unchanged")
    lines = [
        Line(
            f"{setting}, {policy}",
            (
                Entry(str(found["answers"])),
                *(Entry(f"{found[key]:.0%}") for key in shares),
                Entry(f"{found['words']:.0f}"),
            ),
        )
        for setting, policies in answers.items()
        for policy, found in policies.items()
    ]
    return Grid("", ("setting, policy", "answers", "empty", "repeating", "kept as it was", "words"), tuple(lines))


def collapse_grid(runs: Iterable[Mapping[str, Any]]) -> Grid:
    """What training did to held-out texts, in the mean over seeds."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        if run["chosen"] is not None:
            found.setdefault(f"{run['task']} {run['train_user']}, {run['method']}", []).append(run)
    lines = [
        Line(
            name,
            (
                Entry(f"{fmean(run['chosen'] for run in some):+.1f}"),
                Entry(f"{fmean(run['rejected'] for run in some):+.1f}"),
                Entry(f"{sum(run['collapsed'] for run in some)} of {len(some)}"),
            ),
        )
        for name, some in found.items()
    ]
    head = ("setting, method", "edited text", "draft", "collapsed")
    return Grid(
        "Held-out log-probability above the reference, in nats a text, at the epoch that was kept.", head, tuple(lines)
    )


def recost_grid(settings: Named, cost: str) -> Grid:
    """Mean cost under one cost, a column a setting."""
    policies = list(dict.fromkeys(name for s in settings.values() for name in s["mean_cost"].get(cost, {})))
    lines = [
        Line(
            policy,
            tuple(
                Entry(number(s["mean_cost"].get(cost, {}).get(policy)), policy == s["winner"].get(cost))
                for s in settings.values()
            ),
        )
        for policy in policies
    ]
    return Grid(f"Mean cost of the same edits: {cost}.", ("policy", *settings), tuple(lines))


def orders_grid(settings: Named) -> Grid:
    """Kendall's τ between the orders that each two costs give."""
    pairs = list(dict.fromkeys(pair for s in settings.values() for pair in s["kendall"]))
    lines = [Line(pair, tuple(Entry(signed(s["kendall"].get(pair))) for s in settings.values())) for pair in pairs]
    caption = "Kendall's τ of the policies' orders (arms and LateEnsemble): 1 where two costs rank alike."
    return Grid(caption, ("costs", *settings), tuple(lines))


def real_grid(evaluation: Mapping[str, Any]) -> Grid:
    """One evaluation on people's own edits, a line a policy."""
    keys = ("log_likelihood", "prefers_edit", "prefers_edit_over_reference", "distance")
    lines = [
        Line(str(found["policy"]), tuple(Entry(_interval(found.get(key))) for key in keys))
        for found in evaluation.get("policies", ())
    ]
    caption = (
        f"{evaluation.get('task', '')}: {evaluation.get('edits', '?')} held-out edits by people, "
        f"{evaluation.get('changed', '?')} of which changed something; {evaluation.get('model', '')}."
    )
    head = (
        "policy",
        "log π(edited text) per token",
        "prefers the edit",
        "more than the reference does",
        "own answer's distance",
    )
    return Grid(caption, head, tuple(lines))


def _subopt(found: Mapping[str, Any] | None, least: float | None) -> Entry:
    if found is None:
        return Entry("–")
    return Entry(number(found["mean"], found["std"]), found["mean"] == least)


def _difference(row: Mapping[str, Any] | None) -> Entry:
    if row is None:
        return Entry("–")
    text = f"{signed(row['difference'])} [{signed(row['low'])}, {signed(row['high'])}]"
    return Entry(text, row["high"] < 0)


def _at(alphas: Sequence[float], alpha: float, costs: Sequence[float]) -> Entry:
    return Entry(number(costs[alphas.index(alpha)] if alpha in alphas else None))


def _banded(horizon: Mapping[str, Any], t: int) -> Entry:
    if t not in horizon["rounds"]:
        return Entry("–")
    place, regret = horizon["rounds"].index(t), horizon["regret"]
    return Entry(f"{signed(regret['mean'][place])} [{signed(regret['low'][place])}, {signed(regret['high'][place])}]")


def _interval(found: Mapping[str, float] | None) -> str:
    if not found:
        return "–"
    return f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]".replace("-", "\N{MINUS SIGN}")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
