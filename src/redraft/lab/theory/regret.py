"""What regret a bandit must expect: bounds from below, and where LateEnsemble's own bounds are level.

Regret is pseudo-regret, Σ gap · pulls. Costs are gamma distributed with a given mean and σ/mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from redraft.lab.kernels import Array

__all__ = ["gaps", "informed_bound", "lai_robbins", "level_pulls", "minimax"]


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
