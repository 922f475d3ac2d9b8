"""The lab's experiments by name: each is a stream of flat rows, drawn from a generator of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from redraft.errors import ConfigError
from redraft.lab.theory.contraction import contraction_rows
from redraft.lab.theory.phase import phase_rows
from redraft.lab.theory.rates import rates_rows
from redraft.lab.theory.regret import regret_rows
from redraft.lab.theory.tabular import Row
from redraft.lab.theory.violation import violation_rows

__all__ = ["EXPERIMENTS", "Sizes", "experiment_rows"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is computed: ``cells`` a side of the phase diagram, ``seeds`` a cell and a point of a curve,
    ``instances`` a kernel, ``runs`` a regret curve, up to ``horizon`` rounds.
    """  # noqa: D205

    cells: int = 20
    seeds: int = 20
    instances: int = 2000
    runs: int = 200
    horizon: int = 100_000


EXPERIMENTS: Mapping[str, Callable[[Generator, Sizes], Iterator[Row]]] = {
    "contraction": lambda rng, sizes: contraction_rows(rng, sizes.instances),
    "rates": lambda rng, sizes: rates_rows(rng, 2 * sizes.seeds),
    "phase": lambda rng, sizes: phase_rows(rng, sizes.cells, sizes.seeds),
    "violation": lambda rng, sizes: violation_rows(rng, 2 * sizes.seeds),
    "regret": lambda rng, sizes: regret_rows(rng, sizes.runs, sizes.horizon),
}
"""Every experiment by the name the command line uses, in the order of the page."""


def experiment_rows(name: str, seed: int, sizes: Sizes) -> Iterator[Row]:
    """Yield the rows of one experiment; same name, seed and sizes, same rows. ``ConfigError`` on an unknown name."""
    if name not in EXPERIMENTS:
        raise ConfigError(f"theory experiment {name!r} does not exist: use one of {', '.join(EXPERIMENTS)}")
    rng = np.random.default_rng([seed, list(EXPERIMENTS).index(name)])
    return EXPERIMENTS[name](rng, sizes)
