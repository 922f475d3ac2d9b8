"""How sure we are of a mean cost, and that one policy costs less than another: the percentile bootstrap.

Contexts are what is drawn anew. A comparison draws the same contexts for both policies, since both answered them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redraft.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Comparison", "Interval", "compare", "mean_interval", "mean_of_means", "ratio_interval"]

_CHUNK = 1 << 20  # indices held in memory at once


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, or a ratio of two, and the bounds of its bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The mean of A − B, its interval, and ``below``: the share of draws in which A's mean is below B's (ties half)."""

    difference: Interval
    below: float


def mean_interval(values: Sequence[float], *, seed: int = 0, level: float = 0.95, draws: int = 10_000) -> Interval:
    """Percentile bootstrap interval of a mean.

    Raises ``DataError`` when there is no value or one is not finite.

    Examples
    --------
    >>> mean_interval([0.5, 0.5, 0.5])
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    array = _array(values)
    return _interval(array, _bootstrap_means(array, seed, draws), level)


def mean_of_means(sets: Sequence[Sequence[float]], *, level: float = 0.95, draws: int = 10_000) -> Interval:
    """Percentile bootstrap interval of the mean of several sets' means, each set drawn anew apart from the others.

    Raises ``DataError`` when there is no set, or one has no value or one that is not finite.

    Examples
    --------
    >>> mean_of_means([[0.0], [1.0, 1.0, 1.0]]).mean
    0.5
    """
    arrays = [_array(values) for values in sets or [()]]
    means = [_bootstrap_means(array, seed, draws) for seed, array in enumerate(arrays)]
    return _interval(_array([array.mean() for array in arrays]), sum(means[1:], means[0]) / len(means), level)


def ratio_interval(
    numerators: Sequence[float],
    denominators: Sequence[float],
    *,
    seed: int = 0,
    level: float = 0.95,
    draws: int = 10_000,
) -> Interval:
    """Percentile bootstrap interval of Σ a / Σ b, both drawn together; draws with Σ b = 0 are left out.

    Raises ``DataError`` when the two differ in length, hold a value that is not finite, or all b are 0.

    Examples
    --------
    >>> ratio_interval([1.0, 2.0], [2.0, 4.0])
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    if len(numerators) != len(denominators):
        raise DataError(f"ratio of {len(numerators)} and {len(denominators)} values: give as many of both")
    above, below = _array(numerators), _array(denominators)
    if not below.any():
        raise DataError("ratio to values that are all 0: there is none")
    drawn_above, drawn_below = (_bootstrap_means(array, seed, draws) for array in (above, below))  # the same draws
    found = drawn_below != 0
    return _bounds(float(above.sum() / below.sum()), drawn_above[found] / drawn_below[found], level)


def compare(
    a: Sequence[float], b: Sequence[float], *, seed: int = 0, level: float = 0.95, draws: int = 10_000
) -> Comparison:
    """Paired bootstrap for "A costs less than B": ``a[i]`` and ``b[i]`` are costs on the same context.

    Raises ``DataError`` when the two differ in length, are empty or hold a value that is not finite.

    Examples
    --------
    >>> compare([0.1, 0.2, 0.3], [0.5, 0.7, 0.9]).below
    1.0
    """
    if len(a) != len(b):
        raise DataError(f"paired bootstrap of {len(a)} and {len(b)} costs: give both policies the same contexts")
    array = _array(a) - _array(b)
    means = _bootstrap_means(array, seed, draws)
    below = float((means < 0).mean() + (means == 0).mean() / 2)
    return Comparison(_interval(array, means, level), below)


def _array(values: Sequence[float]) -> NDArray[np.float64]:
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise DataError(f"bootstrap of {array.size} values: needs at least one, and all of them finite")
    return array


def _bootstrap_means(array: NDArray[np.float64], seed: int, draws: int) -> NDArray[np.float64]:
    import numpy as np

    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // array.size)
    sizes = [min(rows, draws - start) for start in range(0, draws, rows)]
    return np.concatenate([array[rng.integers(array.size, size=(size, array.size))].mean(axis=1) for size in sizes])


def _interval(array: NDArray[np.float64], means: NDArray[np.float64], level: float) -> Interval:
    return _bounds(float(array.mean()), means, level)


def _bounds(mean: float, drawn: NDArray[np.float64], level: float) -> Interval:
    import numpy as np

    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))
