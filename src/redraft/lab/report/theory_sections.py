"""The theory lab's page in sections, one an experiment: what its rows say, as numbers, words, tables and figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from redraft.lab.report import theory_figures as figures
from redraft.lab.report.grid import Entry, Grid, Line
from redraft.lab.report.sections import Drawing, Section
from redraft.lab.report.theory_figures import LEARNERS, SURE, Row, Rows
from redraft.lab.theory.bounds import fit_rate

__all__ = ["SECTIONS", "Numbers", "real_log"]

Numbers = dict[str, Any]
"""What ``summary.json`` has of one experiment: numbers by name, some of them by learner, setting or size."""


def _show(rows: Rows, *names: str) -> list[Row]:
    return [row for row in rows if row["show"] in names]


def _grid(caption: str, head: Sequence[str], lines: Mapping[str, Sequence[object]]) -> Grid:
    return Grid(
        caption, tuple(head), tuple(Line(name, tuple(Entry(str(c)) for c in cells)) for name, cells in lines.items())
    )


def _contraction(rows: Rows) -> tuple[Numbers, Section]:
    claims = _show(rows, "claim")
    names = dict.fromkeys((row["claim"], row["how"]) for row in claims)
    table = [
        {
            "claim": claim,
            "worst": max(row["worst"] for row in claims if row["claim"] == claim),
            "how": how,
            "broken": min(row["broken"] for row in claims if row["claim"] == claim),
        }
        for claim, how in names
    ]
    kernels, instances = len({row["kernel"] for row in claims}), claims[0]["instances"]
    lines = {r["claim"]: (f"{r['worst']:.1e}".replace("-", "−"), r["how"], f"{r['broken']:.2g}") for r in table}
    text = (
        "An edit says that y′ is preferred to y, what to write instead, and what it cost. A learner may use all three "
        "because of Assumption 1: the user's kernel q is reversible with respect to π*. The table checks each "
        f"consequence on random instances ({instances:,} for each of {kernels} kinds of user), and then again with one "
        "thing broken on purpose.",
        "The paper prints the preference formula without 1/β; with it, the formula holds to rounding. Lemma 1 is exact "
        "for two texts and loose for the lazy user, who contracts by exactly 1 − γ. It holds for every user with one "
        "more term, ‖q∘π − π*‖ ≤ (1 − γ_min) ‖π − π*‖ + b, where b = ½ Σ |π*(y) q(y′|y) − π*(y′) q(y|y′)| is how far "
        "eq. 8 is off.",
    )
    drawings = (
        Drawing(
            "lemma",
            "Lemma 1",
            figures.lemma_figure(_show(rows, "lemma")),
            "Each point is an instance. Below the line is better than the guarantee.",
        ),
        Drawing(
            "decay",
            "Edits of edits",
            figures.curve_figure(_show(rows, "decay")),
            "Reversible users reach π*; a user who goes in circles one time in ten does not.",
        ),
    )
    head = ("claim", "largest error", "broken on purpose", "error then, at least")
    caption = "Excess: by how much the left side exceeds the right one; negative where it never does."
    return {"claims": table}, Section("What Assumption 1 implies", text, (_grid(caption, head, lines),), drawings)


def _rates(rows: Rows) -> tuple[Numbers, Section]:
    curves = [row for row in _show(rows, "n") if row["n"]]
    limits = {row["learner"]: row for row in _show(rows, "n") if not row["n"]}
    fits = {}
    for learner in dict.fromkeys(row["learner"] for row in curves):
        own = [row for row in curves if row["learner"] == learner]
        all_n, late_n = fit_rate(*_columns(own, "n", "subopt")), fit_rate(*_columns(own[-4:], "n", "subopt"))
        limit = limits.get(learner, {"subopt": 0.0})["subopt"]
        fits[learner] = {"slope": all_n.slope, "error": all_n.error, "late": late_n.slope, "last": own[-1]["subopt"]}
        fits[learner]["limit"] = max(0.0, limit)
    gammas, dims = _show(rows, "gamma"), _show(rows, "dimension")
    sft = [row for row in gammas if row["learner"] == "sft"]
    base, last = limits["base"]["distance"], next(r for r in reversed(curves) if r["learner"] == "sft")
    off = max(abs(row["distance"] - (1 - row["gamma"]) * base) for row in sft)
    numbers = {"n": fits, "sft_distance": {"last": last["distance"], "limit": limits["sft"]["distance"], "off": off}}
    in_c = fit_rate(*_columns([row for row in gammas if row["learner"] == "dpo"], "c_pref", "subopt"))
    in_d = {
        k: fit_rate(*_columns([r for r in dims if r["learner"] == k], "d", "subopt")).slope for k in ("rl", "rl, κ = 0")
    }
    price = fits["rl"]["last"] / fits["rl, κ = 0"]["last"]
    in_gamma = fit_rate([1 - row["gamma"] for row in sft], [row["subopt"] for row in sft]).slope
    numbers |= {"c_pref_slope": in_c.slope, "d_slope": in_d, "one_minus_gamma_slope": in_gamma}
    lines = {
        k: [f"{f[x]:.2f}".replace("-", "−") for x in ("slope", "late")] + [f"{f[x]:.4f}" for x in ("last", "limit")]
        for k, f in fits.items()
    }
    text = (
        "Realisable instances: lazy users, γ = 0.5, C* = 5. SubOpt(π) = β E KL(π‖π*), so an error of n^−½ in the "
        "logits is one of 1/n in SubOpt, as the curves of DPO at τ = 1 and of RL show. SFT stops at its limit, "
        f"q∘π_ref: E‖π − π*‖ is {last['distance']:.4f} at n = {last['n']:,} and {limits['sft']['distance']:.4f} = (1 "
        "− γ) E‖π_ref − π*‖ in the limit. EarlyEnsemble's limit lies between. DPO at τ = β, as the paper prints eq. 4, "
        f"tends to π_ref exp(−c/β²) and stays {fits['dpo, τ = β']['limit']:.2f} away"
        + (
            ", farther than the model it began with." if fits["dpo, τ = β"]["limit"] > limits["base"]["subopt"] else "."
        ),
        f"The quantities in the theorems, as fitted powers: SFT's limit grows as (1 − γ)^{in_gamma:.2f} in SubOpt and "
        f"exactly as 1 − γ in total variation (off by {off:.0e}). DPO's error grows as C_PREF^{in_c.slope:.2f}; for "
        f"lazy users C_PREF ≤ 2/γ, whatever the model covers. RL's error grows as d^{in_d['rl, κ = 0']:.2f} for f̂ "
        f"itself and as d^{in_d['rl']:.2f} for the pessimistic f̄, whose error is {price:.1f} times as large at the "
        "largest n: on a log drawn from π_ref itself, pessimism pays for safety that is not needed.",
    )
    drawings = (
        Drawing(
            "rates",
            "Against the size of the log",
            figures.rates_figure(_show(rows, "n")),
            "Dashes: variants. Dotted: the limit of a biased learner.",
        ),
        Drawing(
            "powers", "Against γ and d", figures.gamma_figure([*gammas, *dims]), "By γ, π_ref and π* stay the same."
        ),
    )
    head = ("learner", "slope", "slope, last four n", "at the largest n", "limit")
    return numbers, Section("How fast", text, (_grid("Slopes of log SubOpt against log n.", head, lines),), drawings)


def _columns(rows: Rows, x: str, y: str) -> tuple[list[float], list[float]]:
    return [row[x] for row in rows], [row[y] for row in rows]


def _phase(rows: Rows) -> tuple[Numbers, Section]:
    cells = _show(rows, "phase")
    best = [min(("base", *LEARNERS), key=lambda k: 1.0 if k == "base" else row[k]) for row in cells]
    sure = [who != "base" and row[f"{who}_first"] >= SURE for who, row in zip(best, cells, strict=True)]
    by_d: dict[int, dict[str, float]] = {}
    for d in dict.fromkeys(row["d"] for row in cells):
        own = [who for who, row in zip(best, cells, strict=True) if row["d"] == d]
        by_d[d] = {who: own.count(who) / len(own) for who in ("base", *LEARNERS)}
    share = {who: best.count(who) / len(best) for who in ("base", *LEARNERS)}
    lines = {f"d = {d}": [f"{value:.0%}" for value in own.values()] for d, own in by_d.items()}
    text = (
        "One short log, three learners, 20 seeds a cell. From left to right, π_ref covers less of what users want: "
        "C* = max π*/π_ref. From bottom to top, a lazy user edits more often; β grows with γ, so that a column has one "
        "π_ref and one π*. From panel to panel, the cost may depend on more features. DPO may always learn any policy.",
        "This is the paper's trade-off. SFT imitates y′ and misses what users leave undone: it is best where they "
        "converge. DPO needs comparisons only, which a model of poor coverage provides too: it is best where users "
        "edit rarely. RL must learn the cost of texts that π_ref seldom writes: it is best while the cost is simple. "
        "In the wrong corner a learner is not just second: its SubOpt can exceed the untrained model's.",
    )
    drawing = Drawing(
        "phase",
        "Which feedback wins where",
        figures.phase_figure(cells),
        f"Full colour: best in at least {SURE} of 20 seeds. Faint: best on average. Grey (base): nothing beats π_ref.",
    )
    numbers = {"cells": len(cells), "share": share, "share_by_d": by_d, "decided": fmean(sure)}
    grid = _grid("Share of the cells in which each is best.", ("cost class", "base", *LEARNERS), lines)
    return numbers, Section("Which feedback wins where", text, (grid,), (drawing,))


def _violation(rows: Rows) -> tuple[Numbers, Section]:
    own = _show(rows, "violation")
    numbers: Numbers = {}
    for kind in dict.fromkeys(row["kind"] for row in own):
        curves: dict[str, list[tuple[float, float]]] = {}
        for row in (row for row in own if row["kind"] == kind):
            name = row["learner"] if row["n"] or row["learner"] == "base" else f"{row['learner']} limit"
            curves.setdefault(name, []).append((row["epsilon"], row["subopt"]))
        gap = next(row["gap"] / row["epsilon"] for row in own if row["kind"] == kind and row["epsilon"] > 0)
        pairs = (("dpo", "rl"), ("dpo", "sft"), ("dpo", "base"), ("dpo limit", "sft limit"), ("sft", "base"))
        numbers[kind] = {f"{a} loses to {b}": _crossing(curves[a], curves[b]) for a, b in pairs}
        numbers[kind] |= {"gap per ε": gap, "rl, worst": max(value for _, value in curves["rl"])}
    names = [name for name in next(iter(numbers.values())) if " loses to " in name]
    lines = {
        kind: ["never" if found[k] is None else f"{found[k]:.2f}" for k in names] for kind, found in numbers.items()
    }
    n = next(row["n"] for row in own if row["n"])
    text = (
        "The same lazy user (γ = 0.5), who with probability ε makes another kind of edit: to a random text, to what a "
        "person of another taste would write, or to the next text of a circle, which no policy balances. The cost is "
        f"what this user really charges, so the best policy moves too. Logs have {n:,} edits; RL's cost class has 16 "
        "dimensions and contains the cost.",
        "RL assumes nothing about q, and its curve is level. SFT and DPO degrade, DPO faster, because it reads each "
        "pair as a statement about π*. Its lead over SFT, large at ε = 0, is lost at ε = "
        f"{_range(numbers, 'dpo loses to sft')}, and over RL at {_range(numbers, 'dpo loses to rl')}; with unlimited "
        f"edits it would lead SFT up to {_range(numbers, 'dpo limit loses to sft limit')}.",
    )
    drawing = Drawing(
        "violation",
        "How guarantees degrade",
        figures.violation_figure(own),
        "Dotted: with unlimited edits. Lower is better.",
    )
    caption = "The ε at which one learner starts to lose to another."
    grid = _grid(caption, ("kind of edit", *names), lines)
    return numbers, Section("When the assumption fails", text, (grid,), (drawing,))


def _range(numbers: Mapping[str, Mapping[str, float | None]], key: str) -> str:
    known = [value for found in numbers.values() if (value := found[key]) is not None]
    return f"{min(known):.2f} to {max(known):.2f}" if known else "no ε"


def _crossing(curve: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> float | None:
    """The first ε where one curve exceeds another, linear between points; ``None`` where it never does."""
    before: tuple[float, float] | None = None
    for (epsilon, mine), (_, theirs) in zip(sorted(curve), sorted(other), strict=True):
        lead = mine - theirs
        if lead > 1e-9:
            return epsilon if before is None else before[0] + (epsilon - before[0]) * before[1] / (before[1] - lead)
        before = (epsilon, lead)
    return None


def _regret(rows: Rows) -> tuple[Numbers, Section]:
    small, fixed, long = _show(rows, "minimax"), _show(rows, "fixed"), _show(rows, "long")
    exponents = {
        gap: fit_rate(*_columns([row for row in small if row["gap"] == gap], "t", "regret")).slope
        for gap in dict.fromkeys(row["gap"] for row in small)
    }
    horizons = sorted({row["t"] for row in small})
    worst = [max(row["regret"] for row in small if row["t"] == t) for t in horizons]
    exponents["worst"] = fit_rate(horizons, worst).slope
    growth = {
        setting: {
            "largest": max(_ratio(row) for row in fixed if row["setting"] == setting),
            "last": _ratio([row for row in fixed if row["setting"] == setting][-1]),
            "ucb": next(row["ucb"] for row in fixed if row["setting"] == setting),
            "lai_robbins": next(row["constant"] for row in fixed if row["setting"] == setting),
        }
        for setting in dict.fromkeys(row["setting"] for row in fixed)
    }
    paper = [{**row, "gain": row["late"] - row["bound"]} for row in _show(rows, "paper")]
    numbers = {"exponent": exponents, "log_growth": growth, "paper": paper, "delay": _show(rows, "delay")}
    numbers["long"] = [
        {"t": row["t"], "ratio": _ratio(row), "error": row["error"] / math.log(row["t"])}
        | {"level": row["level"] / math.log(row["t"]), "ucb": row["ucb"]}
        for row in long
    ]
    numbers["drift"] = {row["rule"]: row["regret"] for row in _show(rows, "drift")}  # the last row of each holds
    return numbers, Section(
        "Choosing while serving", _regret_text(numbers), _regret_grids(numbers), _regret_drawings(rows)
    )


def _ratio(row: Row) -> float:
    return row["regret"] / math.log(row["t"])


def _regret_text(numbers: Numbers) -> tuple[str, ...]:
    exponents, drift, delays, end = numbers["exponent"], numbers["drift"], numbers["delay"], numbers["long"][-1]
    wide = ", ".join(f"{value:.2f} at {gap:g} times" for gap, value in exponents.items() if gap not in (1.0, "worst"))
    forgetful = min((rule for rule in drift if rule != "late"), key=drift.__getitem__)
    return (
        "LateEnsemble with its default α, on arms with gamma-distributed costs; unless stated otherwise σ = mean "
        f"(exponential costs). With gaps √(K/T), set anew for each T, regret grows as T^{exponents[1.0]:.2f}. At that "
        f"gap a uniform choice has exponent ½ too, so wider gaps matter: {wide}, and {exponents['worst']:.2f} for the "
        "worst of them at each T.",
        "With fixed gaps, those of the paper's Table 1, regret / log T falls or levels off, except in email/strong, "
        "where the two best arms differ by 0.007. The rule plays the lowest bound and so keeps all bounds level. If "
        f"they were exactly level, regret / log T would be {end['level']:.1f} after {end['t']:,.0f} rounds, where the "
        f"simulation has {end['ratio']:.1f}, and never above α² Σ 1/gap = {end['ucb']:.1f}, with the α that follows "
        "from the best arm's costs: the constant of a UCB rule. It is below Lai and Robbins' constant, which is no "
        "contradiction: theirs binds rules that are good on all exponential arms, and a width of √2 σ suits lighter "
        "tails. So the default explores less than the worst case requires.",
        "What could a better bandit gain? One that knows all three cost distributions, but not which arm has which, "
        "and sees every arm's cost in every round, still pays the bound in the table; averaged over the arms' names, "
        "every bandit pays at least that. The distance from there to the paper's LateEnsemble (its mean over three "
        "seeds, as printed) is all there is to gain. In email/strong it paid more than a uniform choice would have.",
        "Choices are blind until the first edits arrive: a delay of D rounds costs about D times the mean gap, "
        f"{delays[0]['regret']:.0f} at D = 0 and {delays[-1]['regret']:.0f} at D = {delays[-1]['delay']:,}. Where the "
        f"best and the worst arm swap halfway, remembering everything costs {drift['late']:.0f} and {forgetful} "
        f"{drift[forgetful]:.0f}; a rule that forgets pays for it while nothing changes.",
    )


def _regret_grids(numbers: Numbers) -> tuple[Grid, ...]:
    head = (
        "setting, σ/mean",
        "best arm",
        "no bandit below",
        "ours, simulated",
        "paper's Late",
        "chance",
        "still to gain",
    )
    keys = ("best", "bound", "ours", "late", "uniform", "gain")
    lines = {f"{r['setting']}, {r['spread']:g}": [f"{r[key]:.3f}" for key in keys] for r in numbers["paper"]}
    growth = {
        name: [f"{found[key]:.2f}" for key in ("largest", "last", "ucb", "lai_robbins")]
        for name, found in numbers["log_growth"].items()
    }
    return (
        _grid("Mean cost over T = 200 rounds; the arms are sft, dpo and early with the means of Table 1.", head, lines),
        _grid(
            "Regret / log T, all four arms.",
            ("setting", "largest", "at the end", "α² Σ 1/gap", "Lai and Robbins"),
            growth,
        ),
        _grid(
            "Regret / log T in email/strong on a longer horizon: simulated, its standard error, and with level bounds.",
            ("T", "simulated", "±", "level"),
            {f"{r['t']:,}": [f"{r[key]:.2f}" for key in ("ratio", "error", "level")] for r in numbers["long"]},
        ),
    )


def _regret_drawings(rows: Rows) -> tuple[Drawing, ...]:
    growth = partial(figures.growth_figure, longer=_show(rows, "long"))
    drawn = (
        (
            "minimax",
            "Gaps that shrink",
            figures.minimax_figure,
            "Each point has its own gaps and runs. Lower bound: σ√((K−1)T)/27.",
        ),
        ("fixed", "Gaps that stay", growth, "Without markers: if all bounds were exactly level."),
        (
            "alpha",
            "Which α",
            figures.alpha_figure,
            "Arms of summary/strong. In LateEnsemble's colour: its default, which needs no number.",
        ),
        ("delay", "Edits that arrive late", figures.delay_figure, "Arms of summary/strong."),
        ("drift", "Tastes that change", figures.drift_figure, "The best and the worst arm swap halfway."),
    )
    return tuple(Drawing(name, title, draw(_show(rows, name)), caption) for name, title, draw, caption in drawn)


def real_log() -> Section:
    """What carries over to a log of real edits, where γ, C* and d are unknown."""
    text = (
        "A log states none of γ, C* and d, but redraft diagnose shows their traces. A lazy user's γ is at least the "
        "share of edits that changed something: where most did, imitation (SFT) gets far. DPO learns from changed "
        "pairs, so few of them are little to learn from. Costs that scatter (std/mean above 1) are harder for a cost "
        "model. Where users disagree, eq. 8 fails in proportion to the minority's share, and with it what SFT and DPO "
        "promise: trust the held-out score, serve several policies, and let LateEnsemble find out.",
    )
    return Section("What this says about a real log", text)


SECTIONS: Mapping[str, Callable[[Rows], tuple[Numbers, Section]]] = {
    "contraction": _contraction,
    "rates": _rates,
    "phase": _phase,
    "violation": _violation,
    "regret": _regret,
}
"""By experiment, in the order of the page: rows → the numbers it shows, and the section that shows them."""
