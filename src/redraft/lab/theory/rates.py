"""How fast each learner nears π*: against the size of the log, the user's γ, C_PREF, and the cost class's dimension.

Instances are realisable: lazy users, the tabular policy class, a linear cost class that holds c. As γ varies, β ∝ γ, so
that π_ref and π* stay and SubOpt/β compares.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator

from redraft.lab.kernels import Array
from redraft.lab.theory.bounds import suboptimality, total_variation
from redraft.lab.theory.learners import dpo, dpo_linear, early, expected_log, fit_cost, rl, sample_log, sft
from redraft.lab.theory.tabular import (
    Instance,
    Row,
    cost_features,
    edited,
    lazy_instance,
    preference_concentrability,
    random_distance,
    random_policy,
)

__all__ = ["rates_rows"]

SIZES = tuple(200 * 2**k for k in range(10))
GAMMAS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
DIMENSIONS = (1, 2, 4, 8, 16, 32, 48)
CONTEXTS, RESPONSES, COVERAGE, GAMMA, N = 8, 6, 5.0, 0.5, 6400


def rates_rows(rng: Generator, seeds: int) -> Iterator[Row]:
    """Yield SubOpt/β and E‖π − π*‖, means over instances: ``show`` = n, gamma or dimension; ``n`` null for a limit."""
    star, delta = random_policy(rng, seeds, CONTEXTS, RESPONSES), random_distance(rng, seeds, CONTEXTS, RESPONSES)
    instance = lazy_instance(star, delta, GAMMA, COVERAGE)
    prior = (instance.beta / GAMMA) ** 2  # the margins c/β are at most GAMMA/β
    yield from _against_n(instance, prior, rng)
    for gamma in GAMMAS:
        other = lazy_instance(star, delta, gamma, COVERAGE)
        seen = {"gamma": gamma, "c_pref": float(preference_concentrability(other).max(axis=-1).mean())}
        yield {"show": "gamma", "learner": "sft", "n": None, **seen, **_measured(other, edited(other.ref, other.q))}
        policy = dpo(sample_log(other, N, rng), other.ref, ridge=prior)
        yield {"show": "gamma", "learner": "dpo", "n": N, **seen, **_measured(other, policy)}
    log = sample_log(instance, N, rng)
    for columns in DIMENSIONS:
        features = cost_features(instance.cost, columns, rng)
        fit = fit_cost(log, delta, features)
        for learner, cost in (("rl", fit.pessimistic), ("rl, κ = 0", fit.mean)):
            policy = rl(instance.ref, cost, instance.beta)
            yield {"show": "dimension", "learner": learner, "n": N, "d": columns, **_measured(instance, policy)}


def _against_n(instance: Instance, prior: Array, rng: Generator) -> Iterator[Row]:
    law, ref, beta = expected_log(instance), instance.ref, instance.beta
    limits = {"base": ref, "sft": edited(ref, instance.q), "early": early(law, ref, 1.0), "dpo": dpo(law, ref)}
    limits |= {"dpo, τ = β": dpo(law, ref, tau=beta), "rl": rl(ref, instance.cost, beta)}
    for learner, policy in limits.items():
        yield {"show": "n", "learner": learner, "n": None, **_measured(instance, policy)}
    features = cost_features(instance.cost, 4, rng)
    for n in SIZES:
        log = sample_log(instance, n, rng)
        fit = fit_cost(log, instance.delta, features)
        fitted = {"sft": sft(log, ref), "early": early(log, ref, 1.0, ridge=prior), "dpo": dpo(log, ref, ridge=prior)}
        fitted |= {"dpo, τ = β": dpo(log, ref, tau=beta, ridge=prior), "rl": rl(ref, fit.pessimistic, beta)}
        fitted["dpo, log-linear"] = dpo_linear(log, ref, features, ridge=1.0)
        for learner, policy in {**fitted, "rl, κ = 0": rl(ref, fit.mean, beta)}.items():
            yield {"show": "n", "learner": learner, "n": n, **_measured(instance, policy)}


def _measured(instance: Instance, policy: Array) -> dict[str, float]:
    values = suboptimality(instance, policy) / instance.beta
    error = float(values.std() / np.sqrt(values.size))
    distance = float(total_variation(policy, instance.star).mean())
    return {"subopt": float(values.mean()), "error": error, "distance": distance}
