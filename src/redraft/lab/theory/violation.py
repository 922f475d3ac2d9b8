"""The balance equation violated by degrees: with probability ε an edit is not what Assumption 1 expects.

π_ref stays that of ε = 0. The cost is the true user's, so that SubOpt is against the best policy for that user:
RL keeps its guarantee at any ε, SFT and DPO have a bias that grows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator

from redraft.lab.kernels import Array, balance_gap, lazy
from redraft.lab.theory.bounds import suboptimality
from redraft.lab.theory.contraction import cyclic
from redraft.lab.theory.learners import dpo, expected_log, fit_cost, rl, sample_log, sft
from redraft.lab.theory.tabular import (
    Instance,
    Row,
    cost_features,
    edited,
    given_user,
    lazy_instance,
    perturbed,
    random_distance,
    random_policy,
)

__all__ = ["violation_rows"]

EPSILONS = np.linspace(0, 1, 21)
CONTEXTS, RESPONSES, COVERAGE, GAMMA, DIMENSION, N = 8, 6, 5.0, 0.5, 16, 6400


def violation_rows(rng: Generator, seeds: int) -> Iterator[Row]:
    """Yield mean SubOpt/β by ``kind`` of violation, ε, learner and ``n`` (null: the limit), with b, the balance gap."""
    star, delta = random_policy(rng, seeds, CONTEXTS, RESPONSES), random_distance(rng, seeds, CONTEXTS, RESPONSES)
    sound = lazy_instance(star, delta, GAMMA, COVERAGE)
    others = {
        "random texts": np.full(delta.shape, 1 / RESPONSES),
        "another taste": lazy(random_policy(rng, *star.shape), GAMMA),
        "going in circles": np.broadcast_to(cyclic(RESPONSES), delta.shape),
    }
    for kind, other in others.items():
        q = perturbed(sound.q, EPSILONS[:, None], other)
        user = given_user(sound.ref, q, delta, sound.beta)
        gap = balance_gap(star, q).mean(axis=(1, 2))
        for (learner, n), policy in _policies(user, sound.beta / GAMMA, rng).items():
            values = (suboptimality(user, policy) / user.beta).mean(axis=1)
            for place, epsilon in enumerate(EPSILONS):
                fields = {"show": "violation", "kind": kind, "epsilon": round(float(epsilon), 3), "learner": learner}
                yield {**fields, "n": n, "gap": float(gap[place]), "subopt": float(values[place])}


def _policies(user: Instance, scale: Array, rng: Generator) -> dict[tuple[str, int | None], Array]:
    ref, law, log = user.ref, expected_log(user), sample_log(user, N, rng)
    fit = fit_cost(log, user.delta, cost_features(user.cost, DIMENSION, rng))
    limits = {("base", None): ref, ("sft", None): edited(ref, user.q), ("dpo", None): dpo(law, ref)}
    fitted = {("sft", N): sft(log, ref), ("dpo", N): dpo(log, ref, ridge=scale**2)}
    return {**limits, **fitted, ("rl", N): rl(ref, fit.pessimistic, user.beta)}
