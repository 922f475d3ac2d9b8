"""LateEnsemble over thousands of cost tables at once: what single replays are too slow for.

The rule, its ties and its arithmetic are those of ``ucb.py`` without delay, with a table per run along the last axis. A
policy's total is kept in whole 10⁻⁹ units inside float64, which is exact below 9·10⁶; only the default α is summed in
floating point, and it is the same number for all policies of a round, so it decides no tie. Left out: decisions,
propensities and state, for which there is ``replay``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redraft.errors import ConfigError, DataError
from redraft.select.base import MAX_COST, UNITS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Simulation", "redraw", "reorder", "simulate_late"]


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What was chosen (the arm's index) and paid, both [rounds × runs]."""

    chosen: NDArray[np.int64]
    paid: NDArray[np.float64]


def simulate_late(costs: ArrayLike, alpha: float | None = None) -> Simulation:
    """Run LateEnsemble on every table.

    Parameters
    ----------
    costs
        [arms × rounds × runs]: what each policy would cost in each round of each run. Only what is played is looked at.
    alpha
        As ``LateEnsemble`` takes it: the width in units of the cost, or ``None`` to follow the costs' scale.

    Raises
    ------
    DataError
        When the array has another shape, no arm, or a cost that is negative, not finite or beyond ``MAX_COST``.
    ConfigError
        When alpha is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> late = simulate_late(np.array([[[0.6], [0.6], [0.6]], [[0.1], [0.1], [0.1]]]))
    >>> late.chosen.ravel().tolist(), late.paid.ravel().tolist()
    ([0, 1, 1], [0.6, 0.1, 0.1])
    """
    import numpy as np

    units = _units(costs)
    if alpha is not None and not (math.isfinite(alpha) and alpha >= 0):
        raise ConfigError(f"alpha = {alpha!r}: must be a finite number ≥ 0, or None to follow the costs' scale")
    arms, rounds, runs = units.shape
    total, pulls, squares = np.zeros((arms, runs)), np.zeros((arms, runs)), np.zeros(runs)
    chosen, paid = np.zeros((rounds, runs), np.int64), np.zeros((rounds, runs))
    everyone = np.arange(runs)
    for t in range(1, rounds + 1):
        if t <= arms:
            arm = np.full(runs, t - 1)
        else:
            width = np.sqrt(squares / (t - 1)) / UNITS if alpha is None else alpha
            arm = np.argmin(total / (pulls * UNITS) - width * np.sqrt(math.log(t) / pulls), axis=0)  # Algorithm 1
        cost = units[arm, t - 1, everyone]
        total[arm, everyone] += cost
        pulls[arm, everyone] += 1
        squares += cost**2
        chosen[t - 1], paid[t - 1] = arm, cost / UNITS
    return Simulation(chosen, paid)


def reorder(table: ArrayLike, runs: int, seed: int) -> NDArray[np.float64]:
    """Tables of the same rounds in random orders: [arms × rounds] → [arms × rounds × runs]."""
    import numpy as np

    array = np.asarray(table, np.float64)
    rng = np.random.default_rng(seed)
    return array[:, rng.permuted(np.tile(np.arange(array.shape[1])[:, None], runs), axis=0)]


def redraw(table: ArrayLike, runs: int, seed: int, rounds: int) -> NDArray[np.float64]:
    """Tables of ``rounds`` rounds drawn with replacement: [arms × any] → [arms × rounds × runs]."""
    import numpy as np

    array = np.asarray(table, np.float64)
    return array[:, np.random.default_rng(seed).integers(array.shape[1], size=(rounds, runs))]


def _units(costs: ArrayLike) -> NDArray[np.float64]:
    import numpy as np

    array = np.asarray(costs, np.float64)
    if array.ndim != 3 or not array.shape[0]:
        raise DataError(f"costs of shape {array.shape}: give [arms × rounds × runs] with at least one arm")
    wrong = array[~((array >= 0) & (array <= MAX_COST))]
    if wrong.size:
        raise DataError(f"cost {float(wrong[0])!r}: must be a number from 0 to {MAX_COST:g}; see where it came from")
    return np.rint(array * UNITS)
