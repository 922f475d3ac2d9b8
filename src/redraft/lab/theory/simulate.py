"""LateEnsemble in many runs at once, for horizons and numbers of runs at which single replays are too slow.

One engine plays ``select.ucb.LateEnsemble``, choice for choice, with its ties and its delayed updates; two variants
forget. What a run pays comes from a draw. ``simulate`` draws costs as they are played, so that 100,000 rounds cost no
memory; ``simulate_late`` looks them up in tables and keeps every choice. Totals are whole 10⁻⁹ units in float64, exact
below 9·10⁶; only the default α is summed in floating point, and it is the same for all arms, so it decides no tie.

Left out: decisions, propensities and state, for which there is ``replay``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from redraft.errors import ConfigError, DataError
from redraft.lab.kernels import Array
from redraft.select.base import MAX_COST
from redraft.types import COST_UNIT

__all__ = ["Draw", "Rule", "Simulation", "gamma_costs", "redraw", "reorder", "simulate", "simulate_late"]

Choice = NDArray[np.int64]

Draw = Callable[[int, Choice], Array]
"""``draw(t, chosen)``: round t = 1, 2, … and the arm of each run, shape (R,) → what each run pays, shape (R,)."""


def gamma_costs(means: ArrayLike, spread: float, rng: Generator, *, later: ArrayLike = (), change: int = 0) -> Draw:
    """Gamma distributed costs of arms with these ``means``, shape (K, R), and σ/mean = ``spread``.

    At spread 1 they are exponential: many small edits and a few long ones. After round ``change`` > 0 the means are
    ``later``.
    """
    before, after = np.asarray(means, np.float64), np.asarray(later, np.float64)
    shape, runs = spread**-2, before.shape[-1]
    scales, everyone = (before.ravel() / shape, after.ravel() / shape), np.arange(runs)

    def draw(t: int, chosen: Choice) -> Array:
        return scales[0 < change < t][chosen * runs + everyone] * rng.standard_gamma(shape, runs)

    return draw


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """LateEnsemble's settings, and two ways to forget.

    Parameters
    ----------
    alpha
        Width of the bound, a number or one per run; ``None``: the root mean square of resolved costs.
    delay
        Rounds that are decided before a cost is known; 0: it is known before the next round.
    window
        Only the last so many resolved costs count, t being their number plus one.
    discount
        Every resolved cost multiplies the weight of all earlier ones by this.

    Raises ``ConfigError`` on a negative or infinite alpha, a negative delay, a discount outside (0, 1], or a discount
    below 1 together with a window.
    """

    alpha: ArrayLike | None = None
    delay: int = 0
    window: int | None = None
    discount: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha is not None and not (np.isfinite(self.alpha) & (np.asarray(self.alpha) >= 0)).all():
            raise ConfigError(f"alpha = {self.alpha!r}: must be finite and ≥ 0, or None to follow the costs' scale")
        if self.delay < 0:
            raise ConfigError(f"delay = {self.delay}: must be 0 or more rounds")
        if not 0 < self.discount <= 1 or (self.window is not None and self.discount < 1):
            raise ConfigError(f"discount = {self.discount}: must be in (0, 1], and 1 together with a window")


_LATE = Rule()


def simulate(
    draw: Draw, arms: int, runs: int, checkpoints: Sequence[int], rule: Rule = _LATE
) -> Iterator[tuple[int, Array]]:
    """Play and yield (t, pulls) after round t of each checkpoint, pulls of shape (arms, runs).

    Checkpoints increase; the last one is the horizon. Costs must be ≥ 0, with a total below 9·10⁶. Raises
    ``ConfigError`` when the rule's window is shorter than the number of arms.
    """
    tally, marks = _Tally(arms, runs), set(checkpoints)
    for t, _ in enumerate(_rounds(tally, draw, checkpoints[-1], rule), 1):
        if t in marks:
            yield t, tally.pulls.copy()


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What was chosen (the arm's index) and paid, both [rounds × runs]."""

    chosen: Choice
    paid: Array


def simulate_late(costs: ArrayLike, alpha: float | None = None) -> Simulation:
    """Run LateEnsemble without delay on every table.

    ``costs``, [arms × rounds × runs], are what each policy would cost in each round of each run; the rule sees only
    what it plays. ``alpha`` is as in ``Rule``. Raises ``DataError`` when the array has another shape, no arm, or a cost
    that is negative, not finite or above ``MAX_COST``.

    Examples
    --------
    >>> late = simulate_late([[[0.6], [0.6], [0.6]], [[0.1], [0.1], [0.1]]])
    >>> late.chosen.ravel().tolist(), late.paid.ravel().tolist()
    ([0, 1, 1], [0.6, 0.1, 0.1])
    """
    table = np.asarray(costs, np.float64)
    if table.ndim != 3 or not table.shape[0]:
        raise DataError(f"costs of shape {table.shape}: give [arms × rounds × runs] with at least one arm")
    wrong = table[~((table >= 0) & (table <= MAX_COST))]
    if wrong.size:
        raise DataError(f"cost {float(wrong[0])!r}: must be a number from 0 to {MAX_COST:g}; see where it came from")
    arms, rounds, runs = table.shape
    everyone = np.arange(runs)
    late = Simulation(np.zeros((rounds, runs), np.int64), np.zeros((rounds, runs)))
    played = _rounds(_Tally(arms, runs), lambda t, arm: table[arm, t - 1, everyone], rounds, Rule(alpha))
    for place, (arm, paid) in enumerate(played):
        late.chosen[place], late.paid[place] = arm, paid / COST_UNIT
    return late


def reorder(table: ArrayLike, runs: int, seed: int) -> Array:
    """Tables of the same rounds in random orders: [arms × rounds] → [arms × rounds × runs]."""
    array = np.asarray(table, np.float64)
    rng = np.random.default_rng(seed)
    return array[:, rng.permuted(np.tile(np.arange(array.shape[1])[:, None], runs), axis=0)]


def redraw(table: ArrayLike, runs: int, seed: int, rounds: int) -> Array:
    """Tables of ``rounds`` rounds drawn with replacement: [arms × any] → [arms × rounds × runs]."""
    array = np.asarray(table, np.float64)
    return array[:, np.random.default_rng(seed).integers(array.shape[1], size=(rounds, runs))]


def _rounds(tally: _Tally, draw: Draw, rounds: int, rule: Rule) -> Iterator[tuple[Choice, Array]]:
    """Play, and yield each round's arms and what they cost, in units."""
    delay, window = rule.delay, rule.window
    if window is not None and window < len(tally.count):
        raise ConfigError(f"window = {window}: must hold at least one round for each of {len(tally.count)} arms")
    kept, everyone = delay + 1 + (window or 0), np.arange(tally.runs)
    cell, paid = np.zeros((kept, tally.runs), np.int64), np.zeros((kept, tally.runs))
    for now in range(rounds):
        told = now - delay - 1
        if told >= 0:
            tally.fade(rule.discount)
            if window is not None and told >= window:
                tally.forget(cell[(told - window) % kept], paid[(told - window) % kept])
            tally.learn(cell[told % kept], paid[told % kept])
        arm, place = tally.choose(rule.alpha), now % kept
        cell[place] = arm * tally.runs + everyone
        paid[place] = np.rint(draw(now + 1, arm) * COST_UNIT)
        tally.pulls.ravel()[cell[place]] += 1
        yield arm, paid[place]


class _Tally:
    """N and C of every arm and run; a cell is arm · runs + run, since one flat index takes half the time of two."""

    def __init__(self, arms: int, runs: int) -> None:
        self.runs = runs
        self.pulls, self.count, self.total, self.expired = np.zeros((4, arms, runs))
        self.squares, self.weight, self.all_tried = np.zeros(runs), 0.0, False
        """``weight`` is Σ N, the same in every run."""

    def fade(self, discount: float) -> None:
        if discount < 1:
            self.count *= discount
            self.total *= discount
            self.squares *= discount
            self.weight *= discount

    def forget(self, cell: Choice, paid: Array) -> None:
        self.count.ravel()[cell] -= 1
        self.expired.ravel()[cell] += 1
        self.total.ravel()[cell] -= paid
        self.squares = np.maximum(self.squares - paid**2, 0)
        self.weight, self.all_tried = self.weight - 1, False

    def learn(self, cell: Choice, paid: Array) -> None:
        self.count.ravel()[cell] += 1
        self.total.ravel()[cell] += paid
        self.squares += paid**2
        self.weight += 1

    def choose(self, alpha: ArrayLike | None) -> Choice:
        self.all_tried = self.all_tried or bool((self.count > 0).all())
        if self.all_tried:
            return self.lowest_bound(self.count, alpha)
        fewest = np.argmin(self.pulls - self.expired, axis=0)
        untried = (self.count == 0).any(axis=0)
        return fewest if untried.all() else np.where(untried, fewest, self.lowest_bound(self.count.clip(1e-9), alpha))

    def lowest_bound(self, count: Array, alpha: ArrayLike | None) -> Choice:
        width = np.sqrt(self.squares / self.weight) / COST_UNIT if alpha is None else np.asarray(alpha, np.float64)
        bound = self.total / (count * COST_UNIT) - width * np.sqrt(math.log(self.weight + 1) / count)  # Algorithm 1
        return np.argmin(bound, axis=0)
