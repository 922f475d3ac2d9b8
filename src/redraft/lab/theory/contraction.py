"""Assumption 1 and what follows from it on thousands of random instances, beside the same with something broken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from redraft.lab.kernels import Array, balance_gap, lazy, metropolis, mixture
from redraft.lab.theory.bounds import bradley_terry_gap, lemma_1, objective, suboptimality, theorem_1, total_variation
from redraft.lab.theory.learners import dpo, expected_log, sft
from redraft.lab.theory.tabular import Instance, Row, consistent, edited, perturbed, random_distance, random_policy

__all__ = ["KERNELS", "contraction_rows", "cyclic", "random_instance", "two_point"]

KERNELS = ("lazy", "metropolis", "mixture")


def random_instance(rng: Generator, count: int, kernel: str, contexts: int = 4, responses: int = 5) -> Instance:
    """Draw ``count`` consistent instances: π*, a metric Δ, a kernel of this kind and β, log-uniform in [0.05, 2]."""
    star, delta = random_policy(rng, count, contexts, responses), random_distance(rng, count, contexts, responses)
    idle = lazy(star, rng.uniform(0.05, 0.95, (count, 1)))
    walk = metropolis(star, random_policy(rng, count, contexts, responses, responses))
    q = {"lazy": idle, "metropolis": walk, "mixture": mixture((0.3, idle), (0.7, walk))}[kernel]
    return consistent(star, q, delta, np.exp(rng.uniform(np.log(0.05), np.log(2), count)))


def two_point(r: Array, beta: float = 1.0) -> Instance:
    """Y = {a, b}, q(a|b) = 1, q(b|a) = r < 1, at distance 1: where Lemma 1 holds with equality; r of shape (...)."""
    q = np.stack([np.stack([1 - r, r], axis=-1), np.stack([np.ones_like(r), np.zeros_like(r)], axis=-1)], axis=-2)
    star = np.stack([np.ones_like(r), r], axis=-1) / (1 + r)[..., None]
    return consistent(star[..., None, :], q[..., None, :, :], 1 - np.eye(2)[None], np.full(r.shape, beta))


def cyclic(responses: int) -> Array:
    """A user who turns every text into the next one, without end: no policy balances that."""
    return np.roll(np.eye(responses), 1, axis=1)


def contraction_rows(rng: Generator, instances: int) -> Iterator[Row]:
    """Yield a row per claim (``show`` = claim), a sample of Lemma 1 (lemma), and repeated edits (decay)."""
    for kernel in KERNELS:
        instance = random_instance(rng, instances, kernel)
        for claim, worst, how, broken in _claims(instance, rng):
            fields = {"kernel": kernel, "claim": claim, "instances": instances}
            yield {"show": "claim", **fields, "worst": float(worst.max()), "how": how, "broken": float(broken.max())}
        yield from _lemma(kernel, instance, rng)
    yield from _lemma("two-point", two_point(rng.uniform(0.05, 0.95, 100)), rng)
    yield from _decay(rng)


def _claims(instance: Instance, rng: Generator) -> Iterator[tuple[str, Array, str, Array]]:
    """Yield claim, deviations where it should hold, what is broken next, and the deviations then."""
    policy = random_policy(rng, *instance.star.shape)
    bad = perturbed(instance.q, 0.1, cyclic(instance.star.shape[-1]))
    crooked, gap = replace(instance, q=bad), balance_gap(instance.star, bad)
    yield "eq. 8: balance", balance_gap(instance.star, instance.q), "a tenth of the edits cyclic", gap
    printed = bradley_terry_gap(instance, 1.0)
    yield "P(y′ ≻ y) = σ((c(y) − c(y′))/β)", bradley_terry_gap(instance), "without 1/β, as printed", printed
    (after, bound), (moved, allowed) = lemma_1(instance, policy), lemma_1(crooked, instance.star)
    yield "Lemma 1: excess over the bound", after - bound, "a tenth cyclic, from π*", moved - allowed
    yield "Lemma 1 + b, any user: excess", moved - allowed - gap, "without b", moved - allowed
    error, theorem = theorem_1(instance)
    yield "Theorem 1, population: excess", error - theorem, "η a tenth", error - theorem / 10
    excess, claimed = objective(instance, policy) - objective(instance, instance.star), suboptimality(instance, policy)
    yield "SubOpt = β E KL(π‖π*)", abs(excess - claimed), "β doubled", abs(excess - 2 * claimed)
    law, limit = expected_log(instance), edited(instance.ref, instance.q)
    yield "SFT → q∘π_ref", abs(sft(law, instance.ref) - limit), "π* in its place", abs(limit - instance.star)
    biased = dpo(law, instance.ref, tau=instance.beta)
    yield "DPO → π* at τ = 1", abs(dpo(law, instance.ref) - instance.star), "τ = β", abs(biased - instance.star)


def _lemma(kernel: str, instance: Instance, rng: Generator) -> Iterator[Row]:
    after, bound = lemma_1(instance, random_policy(rng, *instance.star.shape))
    before = bound / (1 - instance.gamma_min)
    for factor, guaranteed in zip((after / before)[:150, 0], (1 - instance.gamma_min)[:150, 0], strict=True):
        yield {"show": "lemma", "kernel": kernel, "bound": float(guaranteed), "factor": float(factor)}


def _decay(rng: Generator) -> Iterator[Row]:
    star = random_policy(rng, 1, 5)
    kernels = {"lazy": lazy(star, 0.3), "metropolis": metropolis(star, np.full((1, 5, 5), 0.2))}
    for name, q in {**kernels, "lazy, a tenth cyclic": perturbed(kernels["lazy"], 0.1, cyclic(5))}.items():
        policy = np.eye(5)[[np.argmin(star)]]
        for edits in range(16):
            left = total_variation(policy, star)[0]
            yield {"show": "decay", "kernel": name, "edits": edits, "distance": float(left)}
            policy = edited(policy, q)
