"""Which feedback wins where: SFT, DPO and RL on one log each, over how much users edit, what π_ref covers, and d.

The log is short, so that bias (SFT), scarce comparisons (DPO) and a cost class too rich (RL) weigh against each other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator

from redraft.lab.kernels import Array
from redraft.lab.theory.bounds import suboptimality
from redraft.lab.theory.learners import dpo, fit_cost, rl, sample_log, sft
from redraft.lab.theory.tabular import (
    Instance,
    Row,
    cost_features,
    lazy_instance,
    preference_concentrability,
    random_distance,
    random_policy,
)

__all__ = ["phase_rows"]

DIMENSIONS = (2, 8, 48)
CONTEXTS, RESPONSES, N = 8, 6, 1600


def phase_rows(rng: Generator, cells: int, seeds: int) -> Iterator[Row]:
    """Yield a row per γ, C* and d: mean SubOpt by learner as a share of π_ref's, and how often each came first.

    Every seed has its own π*, Δ and log; ``cells`` values of γ and of C* each.
    """
    gammas, coverages = np.linspace(0.05, 1, cells), np.geomspace(1.5, 300, cells)
    star, delta = random_policy(rng, seeds, CONTEXTS, RESPONSES), random_distance(rng, seeds, CONTEXTS, RESPONSES)
    for d in DIMENSIONS:
        for gamma in gammas:  # one at a time, to stay small in memory
            instance = lazy_instance(star, delta, float(gamma), coverages[:, None])
            yield from _column(instance, float(gamma), coverages, d, rng)


def _column(instance: Instance, gamma: float, coverages: Array, d: int, rng: Generator) -> Iterator[Row]:
    log, features = sample_log(instance, N, rng), cost_features(instance.cost, d, rng)
    fit = fit_cost(log, instance.delta, features)
    policies = {
        "sft": sft(log, instance.ref),
        "dpo": dpo(log, instance.ref, ridge=(instance.beta / gamma) ** 2),
        "rl": rl(instance.ref, fit.pessimistic, instance.beta),
    }
    base, pref = suboptimality(instance, instance.ref), preference_concentrability(instance).max(axis=-1)
    shares = {learner: suboptimality(instance, policy) / base for learner, policy in policies.items()}
    first = np.argmin(list(shares.values()), axis=0)
    for place, coverage in enumerate(coverages):
        row: dict[str, str | float | None] = {"show": "phase", "gamma": gamma, "coverage": float(coverage), "d": d}
        row["c_pref"] = float(pref[place].mean())
        for rank, (learner, share) in enumerate(shares.items()):
            row[learner], row[f"{learner}_first"] = float(share[place].mean()), int((first[place] == rank).sum())
        yield row
