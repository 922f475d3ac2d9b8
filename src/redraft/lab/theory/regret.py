"""Regret of LateEnsemble against the horizon, α, delay and drift, and what no bandit can beat.

Regret is pseudo-regret, Σ gap · pulls. Costs are gamma distributed with a given mean and σ/mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from redraft.lab.kernels import Array
from redraft.lab.paper import TABLE_1
from redraft.lab.theory.simulate import Rule, gamma_costs, simulate
from redraft.lab.theory.tabular import Row

__all__ = ["PAPER", "gaps", "informed_bound", "lai_robbins", "level_pulls", "minimax", "regret_rows"]

PAPER = TABLE_1.mean_cost
"""Mean edit costs by setting. The paper's LateEnsemble chose among sft, dpo and early."""

ARMS = ("sft", "dpo", "early")
ROUNDS, SPREADS = 200, (0.7, 1.0, 1.2)  # σ/mean of MLQE-PE's Romanian post-edits, of exponentials, of DeFacto
CLOSE, LONG = "email strong", 30  # the setting whose two best arms differ by 0.007: a horizon 30 times as long
GAPS, DELAYS, MODERATE = (1.0, 2.0, 4.0, 8.0), (0, 10, 100, 1000), 10_000


def regret_rows(rng: Generator, runs: int, horizon: int) -> Iterator[Row]:
    """Yield mean pseudo-regret with its standard error over runs; ``show`` names the experiment."""
    marks = [round(10 ** (k / 4)) for k in range(8, 40) if 10 ** (k / 4) <= horizon * 1.001]
    yield from _minimax(rng, runs, marks[::2])
    yield from _fixed(rng, runs, marks)
    moderate = min(MODERATE, horizon)
    yield from _alpha(rng, runs, (ROUNDS, moderate))
    yield from _delay(rng, runs, moderate)
    yield from _drift(rng, runs, moderate)
    yield from _paper(rng, runs)
    yield from _long(rng, max(1, runs // 4), horizon)


def _minimax(rng: Generator, runs: int, horizons: list[int]) -> Iterator[Row]:
    """Gaps g √(K/T), set anew for each T; best mean 1, exponential costs, so that σ of the best arm is 1."""
    arms = 4
    for rounds in horizons:
        gap = np.repeat(GAPS, runs) * np.sqrt(arms / rounds)
        means = np.vstack([1 + gap, np.ones_like(gap), 1 + gap, 1 + gap])
        ((_, pulls),) = simulate(gamma_costs(means, 1.0, rng), arms, gap.size, [rounds])
        for g, regret in zip(GAPS, _split(means, pulls, len(GAPS)), strict=True):
            bound = {"lower": float(minimax(arms, rounds, 1.0)), "uniform": g * (arms - 1) * np.sqrt(rounds / arms)}
            yield {"show": "minimax", "gap": g, "t": rounds, **regret, **bound}


def _fixed(rng: Generator, runs: int, marks: list[int]) -> Iterator[Row]:
    """Gaps of Table 1 with all four trained or untrained arms, exponential costs."""
    settings = {name: [v for arm, v in costs.items() if arm != "late"] for name, costs in PAPER.items()}
    means = np.repeat(np.array(list(settings.values())).T, runs, axis=1)
    for t, pulls in simulate(gamma_costs(means, 1.0, rng), len(means), means.shape[1], marks):
        for (name, costs), regret in zip(settings.items(), _split(means, pulls, len(settings)), strict=True):
            yield {"show": "fixed", "setting": name, "t": t, **regret, **_expected(costs, t)}


def _long(rng: Generator, runs: int, horizon: int) -> Iterator[Row]:
    """The setting that a horizon does not settle, on a longer one."""
    costs = [cost for arm, cost in PAPER[CLOSE].items() if arm != "late"]
    means, marks = np.repeat(np.array(costs)[:, None], runs, axis=1), [horizon * k for k in (1, 3, 10, LONG)]
    for t, pulls in simulate(gamma_costs(means, 1.0, rng), len(costs), runs, marks):
        yield {"show": "long", "setting": CLOSE, "t": t, **_split(means, pulls, 1)[0], **_expected(costs, t)}


def _expected(costs: list[float], t: int) -> dict[str, float]:
    """Regret where all bounds are level, and the constants of regret / log T: this rule's and Lai and Robbins'."""
    ucb = 2 * min(costs) ** 2 * sum(1 / gap for gap in gaps(costs) if gap > 0)
    level = float(gaps(costs) @ level_pulls(costs, 1.0, t))
    return {"level": level, "ucb": float(ucb), "constant": lai_robbins(costs, 1.0)}


def _alpha(rng: Generator, runs: int, marks: tuple[int, int]) -> Iterator[Row]:
    """Constant α from 0.01 to 10 on the arms of summary/strong; ``alpha`` null is the default."""
    column = np.array([[PAPER["summary strong"][arm]] for arm in ARMS])
    alphas = np.geomspace(0.01, 10, 13)
    means = np.repeat(column, runs * len(alphas), axis=1)
    rule = Rule(np.repeat(alphas, runs))
    for t, pulls in simulate(gamma_costs(means, 1.0, rng), len(ARMS), means.shape[1], marks, rule):
        for alpha, regret in zip(alphas, _split(means, pulls, len(alphas)), strict=True):
            yield {"show": "alpha", "alpha": float(alpha), "t": t, **regret}
    means = means[:, :runs]
    for t, pulls in simulate(gamma_costs(means, 1.0, rng), len(ARMS), runs, marks):
        yield {"show": "alpha", "alpha": None, "t": t, **_split(means, pulls, 1)[0]}


def _delay(rng: Generator, runs: int, rounds: int) -> Iterator[Row]:
    means = np.repeat([[PAPER["summary strong"][arm]] for arm in ARMS], runs, axis=1)
    for delay in DELAYS:
        ((_, pulls),) = simulate(gamma_costs(means, 1.0, rng), len(ARMS), runs, [rounds], Rule(delay=delay))
        yield {"show": "delay", "delay": delay, "t": rounds, **_split(means, pulls, 1)[0]}


def _drift(rng: Generator, runs: int, rounds: int) -> Iterator[Row]:
    """The best and the worst arm change places after half of the rounds."""
    column = np.array([[PAPER["summary strong"][arm]] for arm in ARMS])
    means, later = np.repeat(column, runs, axis=1), np.repeat(column[[0, 2, 1]], runs, axis=1)
    half, marks = rounds // 2, [rounds * k // 40 for k in range(1, 41)]
    rules = {"late": Rule(), "window 1000": Rule(window=1000), "window 200": Rule(window=200)}
    rules |= {f"discount {share}": Rule(discount=share) for share in (0.999, 0.995)}
    for name, rule in rules.items():
        draw, middle = gamma_costs(means, 1.0, rng, later=later, change=half), np.zeros_like(means)
        for t, pulls in simulate(draw, len(ARMS), runs, marks, rule):
            middle = pulls if t == half else middle
            after = pulls - middle if t > half else 0 * pulls
            regret = (gaps(means) * (pulls - after) + gaps(later) * after).sum(axis=0)
            yield {"show": "drift", "rule": name, "t": t, **_mean(regret)}


def _paper(rng: Generator, runs: int) -> Iterator[Row]:
    """T = 200 on the paper's three arms: its LateEnsemble, ours simulated, and the informed bound, as mean costs."""
    for spread in SPREADS:
        for name, table in PAPER.items():
            costs = [table[arm] for arm in ARMS]
            means, best = np.repeat(np.array(costs)[:, None], 10 * runs, axis=1), min(costs)
            ((_, pulls),) = simulate(gamma_costs(means, spread, rng), len(ARMS), 10 * runs, [ROUNDS])
            ours = _split(means, pulls, 1)[0]
            least = float(informed_bound(costs, spread, ROUNDS, 20 * runs, rng)[-1])
            fields = {"show": "paper", "setting": name, "spread": spread, "best": best, "late": table["late"]}
            ours_cost, bound = best + ours["regret"] / ROUNDS, best + least / ROUNDS
            yield {**fields, "uniform": float(np.mean(costs)), "ours": ours_cost, "bound": bound}


def _split(means: Array, pulls: Array, parts: int) -> list[dict[str, float]]:
    return [_mean(part) for part in np.split((gaps(means) * pulls).sum(axis=0), parts)]


def _mean(regret: Array) -> dict[str, float]:
    return {"regret": float(regret.mean()), "error": float(regret.std() / np.sqrt(regret.size))}


def gaps(means: ArrayLike) -> Array:
    """How much each arm costs above the best, over the first axis."""
    array = np.asarray(means, np.float64)
    return array - array.min(axis=0)


def lai_robbins(means: Sequence[float], spread: float) -> float:
    """Least lim inf of regret / log T of a bandit that is good on all gamma arms of this σ/mean: Σ gap/KL(arm, best).

    KL between gammas of one shape k = spread⁻² is k (m/m* − 1 − log(m/m*)). Lai & Robbins (1985).
    """
    best = min(means)
    ratios = [mean / best for mean in means if mean > best]
    return sum(best * (r - 1) / (r - 1 - math.log(r)) for r in ratios) * spread**2


def level_pulls(means: Sequence[float], spread: float, rounds: float) -> Array:
    """Pulls N of each arm, Σ N = T, at which all of LateEnsemble's bounds m − α √(log T / N) are equal; shape (K,).

    The rule plays the lowest bound and so raises it: but for noise it is here after T rounds. α² = (1 + spread²)
    Σ N m² / T, the mean square of what was paid. As T → ∞ a worse arm's gap · N / log T *rises* to α²/gap, slowly
    where 1/gap² is no small part of T: a horizon at which log-growth is seen can be told before it is simulated.
    """
    costs, gap = np.asarray(means, np.float64), gaps(means)

    def share(log_depth: float) -> tuple[Array, float]:
        """Shares of T where bounds lie at this depth below the best mean, and Σ 1/(gap + depth)²."""
        weight = (gap + math.exp(log_depth)) ** -2.0
        return weight / weight.sum(), float(weight.sum())

    def excess(log_depth: float) -> float:
        parts, weights = share(log_depth)
        return float((1 + spread**2) * (parts @ costs**2)) * math.log(rounds) * weights - rounds

    low, high = 1e-12 * costs.max(), 1e3 * costs.max() * math.sqrt(math.log(rounds) + 1)
    root = float(brentq(excess, math.log(low), math.log(high)))  # pyright: ignore[reportArgumentType]
    return rounds * share(root)[0]


def minimax(arms: int, rounds: ArrayLike, deviation: float) -> Array:
    """σ √((K − 1) T) / 27: what no bandit undercuts on all Gaussian arms (Lattimore & Szepesvári 2020, thm. 15.2)."""
    return deviation / 27 * np.sqrt((arms - 1) * np.asarray(rounds, np.float64))


def informed_bound(means: Sequence[float], spread: float, rounds: int, draws: int, rng: Generator) -> Array:
    """Least regret after 1, …, T rounds of one who knows all cost distributions, but not which arm has which.

    It sees *every* arm's cost after each round and then plays the arm of least expected gap under the posterior over
    the K! assignments: with more knowledge than any bandit has, it bounds the regret of all of them, averaged over
    assignments, from below. Monte Carlo over ``draws`` runs; shape (T,).
    """
    orders = np.array(list(permutations(means)))  # (K!, K)
    shape = spread**-2
    costs = rng.standard_gamma(shape, (draws, rounds - 1, len(means))) / shape * np.asarray(means)
    seen = np.concatenate([np.zeros((draws, 1, len(means))), costs.cumsum(axis=1)], axis=1)
    logits = -shape * seen @ (1 / orders).T  # Σ log m is the same for every order
    posterior = np.exp(logits - logits.max(axis=-1, keepdims=True))
    posterior /= posterior.sum(axis=-1, keepdims=True)
    return (posterior @ gaps(orders.T).T).min(axis=-1).mean(axis=0).cumsum()
