"""Max SubOpt: how much worse than the best method a method is where it does worst (spec §4).

Per seed, the largest over settings of its mean cost − the best method's mean cost there; then mean ± std over seeds.
Methods are the arms and ``late``; ``uniform`` is no competitor. Only seeds that have every setting count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from redraft.lab.bench.matrix import grouped
from redraft.lab.bench.tables import LATE, UNIFORM, Cell, Spread, spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LateAgainstMedian", "Subopt", "max_subopt", "subopt"]

_DRAWS = 4000


@dataclass(frozen=True, slots=True)
class Subopt:
    """A method's Max SubOpt: mean and standard deviation over seeds, and the interval of the mean."""

    mean: float
    std: float | None
    by_seed: Mapping[int, float]
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class LateAgainstMedian:
    """LateEnsemble's Max SubOpt and the median of the single methods'.

    ``below`` is the share of draws in which LateEnsemble's is at or below that median.
    """

    late: float
    median: float
    below: float


def max_subopt(cells: Sequence[Cell], settings: Sequence[str]) -> dict[str, Spread]:
    """Max SubOpt of each method under one test user; empty while no seed has all of ``settings``."""
    gaps: dict[str, dict[int, float]] = {}
    for seed, found in _whole_seeds(cells, settings).items():
        means = [{name: fmean(column) for name, column in _methods(cell).items()} for cell in found]
        for method in means[0]:
            gaps.setdefault(method, {})[seed] = max(costs[method] - min(costs.values()) for costs in means)
    return {method: spread(by_seed) for method, by_seed in gaps.items()}


def subopt(cells: Sequence[Cell], settings: Sequence[str]) -> tuple[dict[str, Subopt], LateAgainstMedian | None]:
    """Max SubOpt with 95 % intervals of the mean over seeds, contexts drawn anew within each cell.

    Empty and ``None`` while no seed has all of ``settings``. Resampling biases a maximum upwards, so an interval may
    lie above its own point estimate.
    """
    import numpy as np

    spreads, whole = max_subopt(cells, settings), _whole_seeds(cells, settings)
    if not spreads:
        return {}, None
    rng = np.random.default_rng(0)
    draws = [np.max([_drawn_gaps(cell, rng) for cell in found], axis=0) for found in whole.values()]
    mean = np.mean(draws, axis=0)  # [draws × methods]
    names = list(spreads)
    low, high = np.quantile(mean, (0.025, 0.975), axis=0)
    found = {
        name: Subopt(spread.mean, spread.std, spread.by_seed, (float(low[i]), float(high[i])))
        for i, (name, spread) in enumerate(spreads.items())
    }
    single = np.median(mean[:, [i for i, name in enumerate(names) if name != LATE]], axis=1)
    middle = median(spread.mean for name, spread in spreads.items() if name != LATE)
    below = float((mean[:, names.index(LATE)] <= single).mean())
    return found, LateAgainstMedian(spreads[LATE].mean, middle, below)


def _whole_seeds(cells: Sequence[Cell], settings: Sequence[str]) -> dict[int, list[Cell]]:
    by_seed = grouped(cells, lambda cell: cell.seed)
    return {seed: found for seed, found in by_seed.items() if {cell.setting for cell in found} >= set(settings)}


def _methods(cell: Cell) -> dict[str, list[float]]:
    return {name: column for name, column in cell.columns.items() if name != UNIFORM}


def _drawn_gaps(cell: Cell, rng: np.random.Generator) -> NDArray[np.float64]:
    """SubOpt of each method in one cell, [draws × methods]."""
    import numpy as np

    table = np.array(list(_methods(cell).values()))
    drawn = table[:, rng.integers(table.shape[1], size=(_DRAWS, table.shape[1]))].mean(axis=2)
    return (drawn - drawn.min(axis=0)).T
