"""What LateEnsemble pays to find out, from rows alone: regret, pulls, α, subsets of arms, and T.

Each setting's cells are one small population of rounds, one per seed. A *random order* is a seed's rounds in another
order, so that nothing hangs on the one that was served; for T beyond the rounds there are, rounds are drawn with
replacement. Regret is against the best fixed policy of the same rounds in hindsight. All bands are 5 % to 95 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from redraft.lab.bench.tables import Cell
from redraft.lab.theory.simulate import Simulation, redraw, reorder, simulate_late

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "ROUNDS",
    "RUNS",
    "AlphaCurve",
    "Band",
    "Default",
    "Horizon",
    "Regret",
    "Subset",
    "alpha_curve",
    "default_alphas",
    "horizon",
    "regret_curves",
    "subsets",
]

RUNS = 200
"""Resampled runs per seed."""
FEW = 6
"""Arms at most for all their subsets to be looked at: 57."""
ROUNDS = (25, 50, 100, 200, 500, 1000)
"""Values of T."""


@dataclass(frozen=True, slots=True)
class Band:
    """A line with its lower and upper edge, of one length."""

    mean: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True, slots=True)
class Regret:
    """Cumulative regret by round 1 … T, ``served`` (in the order of t; band: lowest and highest seed) and ``random``.

    ``pulls`` has, by arm, how often it had been chosen by each round, in the mean over random orders.
    """

    served: Band
    random: Band
    runs: int
    pulls: Mapping[str, list[float]]


@dataclass(frozen=True, slots=True)
class Default:
    """The α that the default rule ends at in the mean, and its mean cost."""

    alpha: float
    cost: float


@dataclass(frozen=True, slots=True)
class AlphaCurve:
    """Mean cost for each α, under the default, of a uniform choice and of the best fixed policy."""

    alphas: list[float]
    cost: list[float]
    default: Default
    uniform: float
    best: float
    best_arm: str
    runs: int


@dataclass(frozen=True, slots=True)
class Subset:
    """Some arms: mean cost of LateEnsemble, of a uniform choice and of the best arm, and what finding that one cost."""

    arms: list[str]
    late: float
    uniform: float
    best: float
    best_arm: str
    regret: float


@dataclass(frozen=True, slots=True)
class Horizon:
    """Mean cost and regret per round through each T in ``rounds``."""

    rounds: list[int]
    cost: Band
    regret: Band
    uniform: float
    best: float
    runs: int


def regret_curves(cells: Sequence[Cell], runs: int = RUNS) -> Regret:
    """LateEnsemble's regret as it was served, and over ``runs`` random orders a seed."""
    import numpy as np

    served = np.array([[row.regret for row in cell.late] for cell in cells])
    tables, late = _late(cells, lambda table, seed: reorder(table, runs, seed))
    pulls = [np.cumsum(late.chosen == arm, axis=0).mean(axis=1) for arm in range(len(tables))]
    return Regret(
        Band(_list(served.mean(0)), _list(served.min(0)), _list(served.max(0))),
        _band(_regret(tables, late)),
        runs * len(cells),
        {arm: _list(count) for arm, count in zip(cells[0].costs, pulls, strict=True)},
    )


def default_alphas(cells: Sequence[Cell], count: int = 13) -> list[float]:
    """α over three orders of magnitude around where the default ends."""
    import numpy as np

    _, late = _late(cells, lambda table, seed: reorder(table, RUNS, seed))
    return _list(_scale(late) * np.geomspace(10**-1.5, 10**1.5, count))


def alpha_curve(cells: Sequence[Cell], alphas: Sequence[float], runs: int = RUNS) -> AlphaCurve:
    """Mean cost of LateEnsemble over random orders: for each α, and with the default, which follows the costs."""
    tables, late = _late(cells, lambda table, seed: reorder(table, runs, seed))
    costs = [float(simulate_late(tables, alpha).paid.mean()) for alpha in alphas]
    default = Default(_scale(late), float(late.paid.mean()))
    fixed = tables.mean(axis=(1, 2))
    best_arm = list(cells[0].costs)[int(fixed.argmin())]
    return AlphaCurve(
        list(alphas), costs, default, float(fixed.mean()), float(fixed.min()), best_arm, runs * len(cells)
    )


def subsets(cells: Sequence[Cell], chosen: Sequence[Sequence[str]] = (), runs: int = RUNS) -> list[Subset]:
    """LateEnsemble over subsets of the arms, over random orders: all of two or more, unless some are ``chosen``.

    More than ``FEW`` arms have too many subsets: then only chosen ones are replayed.
    """
    arms = list(cells[0].costs)
    sizes = range(2, len(arms) + 1) if len(arms) <= FEW and not chosen else ()
    every = [part for size in sizes for part in combinations(arms, size)]
    tables = _tables(cells, lambda table, seed: reorder(table, runs, seed))
    made: list[Subset] = []
    for part in chosen or every:
        if not set(part) <= set(arms):
            continue
        some = tables[[arms.index(arm) for arm in part]]
        late, fixed = float(simulate_late(some).paid.mean()), some.mean(axis=(1, 2))
        best, place = float(fixed.min()), int(fixed.argmin())
        made.append(Subset(list(part), late, float(fixed.mean()), best, part[place], late - best))
    return made


def horizon(cells: Sequence[Cell], rounds: Sequence[int] = ROUNDS, runs: int = RUNS) -> Horizon:
    """LateEnsemble's mean cost through round T, for each T, on rounds drawn with replacement.

    It does not know T, so one long run has them all.
    """
    import numpy as np

    tables, late = _late(cells, lambda table, seed: redraw(table, runs, seed, max(rounds)))
    ends = [t - 1 for t in rounds]
    count = np.arange(1.0, max(rounds) + 1)[:, None]
    means = late.paid.cumsum(axis=0) / count
    fixed = tables.mean(axis=(1, 2))
    regret = _band((_regret(tables, late) / count)[ends])
    return Horizon(list(rounds), _band(means[ends]), regret, float(fixed.mean()), float(fixed.min()), runs * len(cells))


def _late(cells: Sequence[Cell], draw: Callable[[Array, int], Array]) -> tuple[Array, Simulation]:
    tables = _tables(cells, draw)
    return tables, simulate_late(tables)


def _tables(cells: Sequence[Cell], draw: Callable[[Array, int], Array]) -> Array:
    """[arms × rounds × runs of all seeds]; a seed's draws are its own, so adding a seed changes no other's."""
    import numpy as np

    return np.concatenate([draw(np.array(list(cell.costs.values())), cell.seed) for cell in cells], axis=2)


def _regret(tables: Array, late: Simulation) -> Array:
    """Regret so far, [rounds × runs]: each run against its own best fixed policy over all of its rounds."""
    import numpy as np

    best = tables.sum(axis=1).argmin(axis=0)
    fixed = np.take_along_axis(tables, best[None, None, :], axis=0)[0]
    return (late.paid - fixed).cumsum(axis=0)


def _scale(late: Simulation) -> float:
    """The default α after the last round: the root mean square of what a run paid, in the mean over runs."""
    import numpy as np

    return float(np.sqrt(np.square(late.paid).mean(axis=0)).mean())


def _band(values: Array) -> Band:
    import numpy as np

    low, high = np.quantile(values, (0.05, 0.95), axis=-1)
    return Band(_list(values.mean(axis=-1)), _list(low), _list(high))


def _list(values: Array) -> list[float]:
    return [round(float(value), 6) for value in values]
