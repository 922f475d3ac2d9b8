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
from redraft.lab.report.theory_figures import LEARNERS, SURE, Rows
from redraft.lab.theory.bounds import fit_rate

__all__ = ["SECTIONS", "real_log"]


def _show(rows: Rows, *names: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["show"] in names]


def _grid(caption: str, head: Sequence[str], lines: Mapping[str, Sequence[Any]]) -> Grid:
    return Grid(
        caption, tuple(head), tuple(Line(name, tuple(Entry(str(c)) for c in cells)) for name, cells in lines.items())
    )


def _contraction(rows: Rows) -> tuple[dict[str, Any], Section]:
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
        "An edit says y′ is preferred to y, what to write, and what it cost. What entitles a learner to use it so is "
        "the balance equation: the user's kernel q is reversible with respect to π*. Below, each consequence on random "
        f"instances ({instances:,} for each of {kernels} kinds of user), and beside it the same with one thing broken.",
        "The preference formula is printed without 1/β; with it, it holds to rounding. Lemma 1 is exact for two "
        "texts, and loose for the lazy user, who contracts by exactly 1 − γ. For any user at all it holds with one "
        "more term, ‖q∘π − π*‖ ≤ (1 − γ_min) ‖π − π*‖ + b, where b = ½ Σ |π*(y) q(y′|y) − π*(y′) q(y|y′)| is what eq. "
        "8 is off by.",
    )
    drawings = (
        Drawing(
            "lemma",
            "Lemma 1",
            figures.lemma_figure(_show(rows, "lemma")),
            "One dot an instance; below the line is better than guaranteed, on it no better.",
            wide=False,
        ),
        Drawing(
            "decay",
            "Edits of edits",
            figures.curve_figure(_show(rows, "decay")),
            "Reversible users reach π*; a user who goes in circles one time in ten does not.",
            wide=False,
        ),
    )
    head = ("claim", "largest deviation", "broken on purpose", "deviation then, at least")
    caption = "Excess: by how much the left side tops the right one, negative where it never does."
    return {"claims": table}, Section("What edits entitle to", text, (_grid(caption, head, lines),), drawings)


def _rates(rows: Rows) -> tuple[dict[str, Any], Section]:
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
        "Realisable instances: lazy users, γ = 0.5, C* = 5. SubOpt(π) = β E KL(π‖π*), so an error of order n^−½ in "
        "the logits is one of order 1/n in SubOpt; that is what DPO at τ = 1 and RL show. SFT stops at its limit, "
        f"q∘π_ref: E‖π − π*‖ is {last['distance']:.4f} at n = {last['n']:,} and {limits['sft']['distance']:.4f} = (1 "
        "− γ) E‖π_ref − π*‖ in the limit. EarlyEnsemble's limit lies between. DPO at τ = β, as eq. 4 is printed, "
        f"tends to π_ref exp(−c/β²) and stays {fits['dpo, τ = β']['limit']:.2f} away"
        + (
            ", farther than the model it began with." if fits["dpo, τ = β"]["limit"] > limits["base"]["subopt"] else "."
        ),
        f"What each theorem names, as fitted powers: SFT's limit goes with (1 − γ)^{in_gamma:.2f} in SubOpt and with "
        f"1 − γ exactly in total variation (off by {off:.0e}). DPO's error goes with C_PREF^{in_c.slope:.2f}; for "
        f"lazy users C_PREF ≤ 2/γ, whatever the model covers. RL's error goes with d^{in_d['rl, κ = 0']:.2f} for f̂ "
        f"itself and d^{in_d['rl']:.2f} for the pessimistic f̄, whose error is {price:.1f} times as large at the "
        "largest n: on a log drawn from π_ref itself, pessimism buys a safety that was not needed.",
    )
    drawings = (
        Drawing(
            "rates",
            "Against the size of the log",
            figures.rates_figure(_show(rows, "n")),
            "Dashed: a variant. Dotted: where a biased learner ends.",
            wide=False,
        ),
        Drawing(
            "powers", "Against γ and d", figures.gamma_figure([*gammas, *dims]), "Left: π_ref and π* stay the same."
        ),
    )
    head = ("learner", "slope", "slope, last four n", "at the largest n", "limit")
    return numbers, Section(
        "How fast", text, (_grid("SubOpt/β against n: slopes on logarithms.", head, lines),), drawings
    )


def _columns(rows: Rows, x: str, y: str) -> tuple[list[float], list[float]]:
    return [row[x] for row in rows], [row[y] for row in rows]


def _phase(rows: Rows) -> tuple[dict[str, Any], Section]:
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
        "One short log, three learners, 20 seeds a cell. Across: how badly π_ref covers what users want, C* = max "
        "π*/π_ref. Upwards: how often a lazy user edits at all; β goes with γ, so that π_ref and π* are the same in a "
        "whole column. From panel to panel: how many features the cost may depend on. DPO's class is all policies, "
        "always.",
        "It is the paper's trade-off. SFT imitates y′ and is off by what users leave undone: best where they "
        "converge. DPO asks for comparisons only, which even a model of poor coverage provides: best where users edit "
        "rarely. RL must learn the cost where π_ref seldom goes: best while the cost is simple. A learner of the "
        "wrong corner is not just second: its SubOpt can exceed the untrained model's.",
    )
    drawing = Drawing(
        "phase",
        "Which feedback wins where",
        figures.phase_figure(cells),
        f"Full colour: first in at least {SURE} of 20 seeds. Pale: first on average. Grey: nothing beats π_ref.",
    )
    numbers = {"cells": len(cells), "share": share, "share_by_d": by_d, "decided": fmean(sure)}
    grid = _grid("Share of the cells in which each is best.", ("cost class", "base", *LEARNERS), lines)
    return numbers, Section("Which feedback wins where", text, (grid,), (drawing,))


def _violation(rows: Rows) -> tuple[dict[str, Any], Section]:
    own = _show(rows, "violation")
    numbers: dict[str, Any] = {}
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
        "The user of before (lazy, γ = 0.5), and another kind of edit with probability ε: a text by chance, the edit "
        "of a person of another taste, or the next text of a circle, which no policy balances. The cost is what this "
        f"user really charges, so the best policy moves as well. Logs of {n:,} edits; RL's cost class has 16 "
        "dimensions and holds the cost.",
        "RL asks nothing of q, and its curve is level. SFT and DPO drift away, DPO faster: it takes each pair for a "
        "statement about π*. Its advantage over SFT, large at ε = 0, is lost at ε = "
        f"{_range(numbers, 'dpo loses to sft')}, over RL at {_range(numbers, 'dpo loses to rl')}; with unlimited "
        f"edits it would lead SFT to {_range(numbers, 'dpo limit loses to sft limit')}.",
    )
    drawing = Drawing(
        "violation",
        "How guarantees degrade",
        figures.violation_figure(own),
        "Dotted: with unlimited edits. Less is better.",
    )
    caption = "ε from which on one learner loses to another."
    grid = _grid(caption, ("kind of edit", *(name.replace(" loses to ", " < ") for name in names)), lines)
    return numbers, Section("When the assumption fails", text, (grid,), (drawing,))


def _range(numbers: Mapping[str, Mapping[str, float | None]], key: str) -> str:
    known = [value for found in numbers.values() if (value := found[key]) is not None]
    return f"{min(known):.2f} to {max(known):.2f}" if known else "no ε"


def _crossing(curve: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> float | None:
    """The first ε where one curve tops another, linear between points; ``None`` where it never does."""
    before: tuple[float, float] | None = None
    for (epsilon, mine), (_, theirs) in zip(sorted(curve), sorted(other), strict=True):
        lead = mine - theirs
        if lead > 1e-9:
            return epsilon if before is None else before[0] + (epsilon - before[0]) * before[1] / (before[1] - lead)
        before = (epsilon, lead)
    return None


def _regret(rows: Rows) -> tuple[dict[str, Any], Section]:
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


def _ratio(row: Mapping[str, Any]) -> float:
    return row["regret"] / math.log(row["t"])


def _regret_text(numbers: Mapping[str, Any]) -> tuple[str, ...]:
    exponents, drift, delays, end = numbers["exponent"], numbers["drift"], numbers["delay"], numbers["long"][-1]
    wide = ", ".join(f"{value:.2f} at {gap:g} times" for gap, value in exponents.items() if gap not in (1.0, "worst"))
    forgetful = min((rule for rule in drift if rule != "late"), key=drift.__getitem__)
    return (
        "LateEnsemble with its default α, on arms with gamma-distributed costs; σ = mean (exponential) where nothing "
        f"else is said. With gaps √(K/T), set anew for each T, regret grows as T^{exponents[1.0]:.2f}. There chance "
        f"itself has exponent ½, so look at wider gaps too: {wide}, and {exponents['worst']:.2f} for the worst of "
        "them at each T.",
        "With fixed gaps, those of the paper's Table 1, regret / log T falls or levels off, but for email/strong, "
        "whose two best arms differ by 0.007. The rule plays the lowest bound and so keeps all bounds level; pulls at "
        f"which they are level put regret / log T at {end['level']:.1f} after {end['t']:,.0f} rounds, where it was "
        f"{end['ratio']:.1f}, and never above α² Σ 1/gap = {end['ucb']:.1f}, with the α that the best arm's costs "
        "lead to. That is a UCB rule's constant. It lies below Lai and Robbins' constant, "
        "which is no contradiction: that one binds rules that are good on all exponential arms, and a width of √2 σ "
        "is made for lighter tails. So the default explores less than the worst case asks for.",
        "What could a better bandit gain? One who knows all three cost distributions, but not which arm has which, "
        "and sees every arm's cost in every round, still pays the bound in the table; every bandit pays at least "
        "that, on average over the arms' names. The rest of the way to the paper's LateEnsemble (its mean of three "
        "seeds, taken at its word) is all there is to gain. In email/strong that one paid more than chance would have.",
        "Until the first edits are in, choices are blind: a delay of D rounds costs about D times the mean gap, "
        f"{delays[0]['regret']:.0f} at D = 0 and {delays[-1]['regret']:.0f} at D = {delays[-1]['delay']:,}. Where "
        f"tastes change places halfway, remembering everything costs {drift['late']:.0f}, {forgetful} "
        f"{drift[forgetful]:.0f}; who forgets pays for it in quiet times.",
    )


def _regret_grids(numbers: Mapping[str, Any]) -> tuple[Grid, ...]:
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
        _grid("Mean cost over T = 200 rounds, sft, dpo and early as arms with the means of Table 1.", head, lines),
        _grid(
            "Regret / log T, all four arms.",
            ("setting", "largest", "at the end", "α² Σ 1/gap", "Lai and Robbins"),
            growth,
        ),
        _grid(
            "Regret / log T of email/strong on a longer horizon: with its standard error, and with level bounds.",
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
            "Each point has its own gaps and runs. Grey: σ√((K−1)T)/27.",
        ),
        ("fixed", "Gaps that stay", growth, "Dashed: pulls at which all bounds are level."),
        (
            "alpha",
            "Which α",
            figures.alpha_figure,
            "Arms of summary/strong. Dashed: the default, which needs no number.",
        ),
        ("delay", "Edits that come late", figures.delay_figure, "Arms of summary/strong."),
        ("drift", "Tastes that change", figures.drift_figure, "Best and worst arm change places halfway."),
    )
    return tuple(
        Drawing(name, title, draw(_show(rows, name)), caption, wide=False) for name, title, draw, caption in drawn
    )


def real_log() -> Section:
    """What carries over to a log of real edits, where γ, C* and d are not known."""
    text = (
        "None of γ, C* and d is written in a log, but redraft diagnose shows their traces. A lazy user's γ is at "
        "least the share of edits that changed something: where most did, imitation (SFT) gets far. Few changed pairs "
        "are few comparisons, which is what DPO lives on. Costs that scatter (std/mean above 1) ask more of a cost "
        "model. Where users disagree with each other, eq. 8 fails in proportion to the minority's share, and what SFT "
        "and DPO promise goes with it: trust the held-out score, serve several policies, and let LateEnsemble find "
        "out.",
    )
    return Section("What this says about a real log", text)


SECTIONS: Mapping[str, Callable[[Rows], tuple[dict[str, Any], Section]]] = {
    "contraction": _contraction,
    "rates": _rates,
    "phase": _phase,
    "violation": _violation,
    "regret": _regret,
}
"""By experiment, in the order of the page: rows → the numbers it shows, and the section that shows them."""
