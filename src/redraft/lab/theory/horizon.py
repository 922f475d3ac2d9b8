"""Regret against the horizon, α, delay and drift, and what any bandit could gain over the paper's LateEnsemble."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator

from redraft.lab.kernels import Array
from redraft.lab.theory.regret import gaps, informed_bound, lai_robbins, level_pulls, minimax
from redraft.lab.theory.simulate import Rule, gamma_costs, simulate
from redraft.lab.theory.tabular import Row

__all__ = ["PAPER", "regret_rows"]

PAPER = {
    "summary strong": {"base": 0.9455, "sft": 0.5377, "dpo": 1.0790, "early": 0.2092, "late": 0.2768},
    "summary weak": {"base": 0.9445, "sft": 0.9304, "dpo": 0.8267, "early": 0.3586, "late": 0.4403},
    "email strong": {"base": 0.5108, "sft": 0.4159, "dpo": 0.3365, "early": 0.3438, "late": 0.4202},
    "email weak": {"base": 0.4923, "sft": 0.4539, "dpo": 0.3368, "early": 0.4864, "late": 0.3739},
}
"""Table 1: mean edit costs by setting. The paper's LateEnsemble chose among sft, dpo and early."""

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
