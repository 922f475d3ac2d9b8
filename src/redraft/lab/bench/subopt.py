"""Max SubOpt: how much worse than the best method a method is where it does worst (spec §4).

Per seed, the largest over settings of its mean cost − the best method's mean cost there; then mean ± std over seeds.
Methods are the arms and ``late``; ``uniform`` is no competitor. Only seeds that have every setting count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from redraft.lab.bench.tables import LATE, UNIFORM, Cell, Spread, spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Subopt", "late_against_median", "max_subopt", "subopt_intervals"]

Subopt = Mapping[str, Spread]
_DRAWS = 4000


def max_subopt(cells: Sequence[Cell], settings: Sequence[str]) -> dict[str, Spread]:
    """Max SubOpt of each method under one test user; empty while no seed has all of ``settings``."""
    gaps: dict[str, dict[int, float]] = {}
    for seed, found in _whole_seeds(cells, settings).items():
        means = [{name: fmean(column) for name, column in _methods(cell).items()} for cell in found]
        for method in means[0]:
            gaps.setdefault(method, {})[seed] = max(costs[method] - min(costs.values()) for costs in means)
    return {method: spread(by_seed) for method, by_seed in gaps.items()}


def late_against_median(subopt: Subopt) -> dict[str, float]:
    """Late's Max SubOpt and the median one of the single methods."""
    return {"late": subopt[LATE].mean, "median": median(s.mean for name, s in subopt.items() if name != LATE)}


def subopt_intervals(cells: Sequence[Cell], settings: Sequence[str]) -> dict[str, Any]:
    """95 % intervals of the mean over seeds, contexts drawn anew within each cell.

    ``below`` is the share of draws in which late's stays at or below the single methods' median. Resampling biases a
    maximum upwards, so an interval may sit above its own point estimate.
    """
    import numpy as np

    whole = _whole_seeds(cells, settings)
    if not whole:
        return {}
    rng = np.random.default_rng(0)
    draws = [np.max([_drawn_gaps(cell, rng) for cell in found], axis=0) for found in whole.values()]
    mean = np.mean(draws, axis=0)  # [draws × methods]
    names = list(_methods(cells[0]))
    low, high = np.quantile(mean, (0.025, 0.975), axis=0)
    single = np.median(mean[:, [i for i, name in enumerate(names) if name != LATE]], axis=1)
    return {
        "interval": {name: (float(low[i]), float(high[i])) for i, name in enumerate(names)},
        "below": float((mean[:, names.index(LATE)] <= single).mean()),
    }


def _whole_seeds(cells: Sequence[Cell], settings: Sequence[str]) -> dict[int, list[Cell]]:
    by_seed: dict[int, list[Cell]] = {}
    for cell in cells:
        by_seed.setdefault(cell.seed, []).append(cell)
    return {seed: found for seed, found in by_seed.items() if {cell.setting for cell in found} >= set(settings)}


def _methods(cell: Cell) -> dict[str, list[float]]:
    return {name: column for name, column in cell.columns.items() if name != UNIFORM}


def _drawn_gaps(cell: Cell, rng: np.random.Generator) -> NDArray[np.float64]:
    """SubOpt of each method in one cell, [draws × methods]."""
    import numpy as np

    table = np.array(list(_methods(cell).values()))
    drawn = table[:, rng.integers(table.shape[1], size=(_DRAWS, table.shape[1]))].mean(axis=2)
    return (drawn - drawn.min(axis=0)).T
