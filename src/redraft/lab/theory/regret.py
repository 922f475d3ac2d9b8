"""LateEnsemble over many runs at once, to horizons that single replays do not reach, beside what no bandit can beat.

The rule and its arithmetic are those of ``select.ucb.LateEnsemble``, choice for choice, the delayed one included; two
variants forget. ``select.simulate`` takes whole tables of costs without delay and keeps every choice; here costs are
drawn as they are played, so a horizon of 100,000 costs no memory. Regret is pseudo-regret: Σ gap · pulls.

Costs are gamma distributed with a given mean and σ/mean: exponential at 1; many small edits and a few long ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from redraft.errors import ConfigError
from redraft.lab.theory.tabular import Array
from redraft.select.base import UNITS

__all__ = ["Draw", "gamma_costs", "gaps", "informed_bound", "lai_robbins", "level_pulls", "minimax", "simulate"]

Draw = Callable[[int, NDArray[np.int64]], Array]
"""``draw(t, chosen)``: round t = 1, 2, … and the arm of each run, shape (R,) → what each run pays, shape (R,)."""


def gamma_costs(means: ArrayLike, spread: float, rng: Generator, *, later: ArrayLike = (), change: int = 0) -> Draw:
    """Costs of arms with these means, shape (K, R), and σ/mean = ``spread``; from ``change`` on ``later`` ones."""
    before, after = np.asarray(means, np.float64), np.asarray(later, np.float64)
    shape, runs = spread**-2, before.shape[-1]
    scales, everyone = (before.ravel() / shape, after.ravel() / shape), np.arange(runs)

    def draw(t: int, chosen: NDArray[np.int64]) -> Array:
        return scales[0 < change < t][chosen * runs + everyone] * rng.standard_gamma(shape, runs)

    return draw


def simulate(
    draw: Draw,
    arms: int,
    runs: int,
    checkpoints: Sequence[int],
    *,
    alpha: ArrayLike | None = None,
    delay: int = 0,
    window: int | None = None,
    discount: float = 1.0,
) -> Iterator[tuple[int, Array]]:
    """Run LateEnsemble and yield (t, pulls) after round t of each checkpoint, pulls of shape (arms, runs).

    Parameters
    ----------
    draw
        Gives costs, each ≥ 0 and with a total below 9·10⁶, so that sums of 10⁻⁹ units are exact.
    arms, runs
        Sizes K and R.
    checkpoints
        Increasing round numbers; the last one is the horizon.
    alpha
        Width of the bound, a number or one per run; ``None``: the root mean square of resolved costs.
    delay
        Rounds that are decided before a cost is told; 0 tells it at once.
    window
        Only the last so many resolved costs count, t being their number plus one.
    discount
        Every resolved cost multiplies the weight of all earlier ones by this.

    Raises
    ------
    ConfigError
        On a negative delay, a window below the number of arms, a discount outside (0, 1], or both kinds of forgetting.
    """
    _check(arms, delay, window, discount)
    kept, everyone, marks = delay + 1 + (window or 0), np.arange(runs), set(checkpoints)
    tally, pulls = _Tally(arms, runs), np.zeros((arms, runs))
    cell, paid = np.zeros((kept, runs), np.int64), np.zeros((kept, runs))
    for now in range(checkpoints[-1]):
        told = now - delay - 1
        if told >= 0:
            tally.fade(discount)
            if window is not None and told >= window:
                tally.forget(cell[(told - window) % kept], paid[(told - window) % kept])
            tally.learn(cell[told % kept], paid[told % kept])
        arm = tally.choose(pulls, alpha)
        cell[now % kept] = arm * runs + everyone
        paid[now % kept] = np.rint(draw(now + 1, arm) * UNITS)
        pulls.ravel()[cell[now % kept]] += 1
        if now + 1 in marks:
            yield now + 1, pulls.copy()


class _Tally:
    """N and C of every arm and run; a cell is arm · runs + run, one flat index being half the cost of two."""

    def __init__(self, arms: int, runs: int) -> None:
        self.count, self.total, self.expired = np.zeros((3, arms, runs))
        self.squares, self.weight, self.all_tried = np.zeros(runs), 0.0, False
        """``weight`` is Σ N, the same in every run."""

    def fade(self, discount: float) -> None:
        if discount < 1:
            self.count *= discount
            self.total *= discount
            self.squares *= discount
            self.weight *= discount

    def forget(self, cell: NDArray[np.int64], paid: Array) -> None:
        self.count.ravel()[cell] -= 1
        self.expired.ravel()[cell] += 1
        self.total.ravel()[cell] -= paid
        self.squares = np.maximum(self.squares - paid**2, 0)
        self.weight, self.all_tried = self.weight - 1, False

    def learn(self, cell: NDArray[np.int64], paid: Array) -> None:
        self.count.ravel()[cell] += 1
        self.total.ravel()[cell] += paid
        self.squares += paid**2
        self.weight += 1

    def choose(self, pulls: Array, alpha: ArrayLike | None) -> NDArray[np.int64]:
        self.all_tried = self.all_tried or bool((self.count > 0).all())
        if self.all_tried:
            return self.lowest_bound(self.count, alpha)
        fewest = np.argmin(pulls - self.expired, axis=0)
        untried = (self.count == 0).any(axis=0)
        return fewest if untried.all() else np.where(untried, fewest, self.lowest_bound(self.count.clip(1e-9), alpha))

    def lowest_bound(self, count: Array, alpha: ArrayLike | None) -> NDArray[np.int64]:
        width = np.sqrt(self.squares / self.weight) / UNITS if alpha is None else np.asarray(alpha, np.float64)
        bound = self.total / (count * UNITS) - width * np.sqrt(math.log(self.weight + 1) / count)  # Algorithm 1
        return np.argmin(bound, axis=0)


def _check(arms: int, delay: int, window: int | None, discount: float) -> None:
    if delay < 0:
        raise ConfigError(f"delay = {delay}: must be 0 or more rounds")
    if window is not None and window < arms:
        raise ConfigError(f"window = {window}: must hold at least one round for each of {arms} arms")
    if not 0 < discount <= 1 or (window is not None and discount < 1):
        raise ConfigError(f"discount = {discount}: must be in (0, 1], and 1 together with a window")


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
