"""Finite instances of learning from edits, on which every quantity of the paper is a number one can compute.

Contexts are equally likely. A policy is an array (..., X, Y), a user q(y'|x, y) an array (..., X, Y, Y) with the text
before the edit first; leading axes hold as many instances as one likes. ``consistent`` makes instances on which
Assumption 1 holds exactly, without a fixed-point search: choose π* and a kernel reversible with respect to it, compute
the cost, and *set* π_ref ∝ π* exp(c/β). ``given_user`` takes any user, for experiments that break the assumption.
Left out: given π_ref (``lab.kernels.solve`` takes that one) and continuous spaces.

The paper's constants are not public; these are the executable definitions in their place. All logarithms are natural.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from redraft.errors import ConfigError
from redraft.lab.kernels import Array, gamma_min, lazy

__all__ = [
    "Instance",
    "Row",
    "consistent",
    "cost_features",
    "edited",
    "given_user",
    "lazy_instance",
    "perturbed",
    "policy_concentrability",
    "preference_concentrability",
    "random_distance",
    "random_policy",
    "tilted",
]

Row = Mapping[str, str | float | None]
"""A flat row of an experiment; ``show`` says what it belongs to."""


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """A user, what edits cost, and the policies that follow.

    ``ref`` and ``star``: π_ref and π*_β, shape (..., X, Y). ``q``: q(y'|x, y); ``delta``: Δ(y, y') ≥ 0, 0 on the
    diagonal, both (..., X, Y, Y). ``cost``: c(x, y) = E_{y'~q}[Δ(y, y')], (..., X, Y). ``beta``: shape (...).
    """

    ref: Array
    star: Array
    q: Array
    delta: Array
    cost: Array
    beta: Array

    @property
    def gamma_min(self) -> Array:
        """min_y q(y*|x, y) with y* = argmax π*(·|x) (eq. 9); shape (..., X)."""
        return gamma_min(self.star, self.q)

    @property
    def contraction(self) -> Array:
        """η(x), Dobrushin's coefficient: the largest total variation between two rows of q; shape (..., X)."""
        rows = self.q[..., :, None, :] - self.q[..., None, :, :]
        return 0.5 * np.abs(rows).sum(axis=-1).max(axis=(-2, -1))


def consistent(star: Array, q: Array, delta: Array, beta: ArrayLike) -> Instance:
    """Build the instance on which ``star`` is π*_β of user ``q``: π_ref ∝ π* exp(c/β).

    ``q`` must be reversible with respect to ``star``; ``check_instance`` tells.

    >>> star, delta = np.array([[0.25, 0.75]]), np.array([[[0.0, 1.0], [1.0, 0.0]]])
    >>> instance = consistent(star, lazy(star, 0.5), delta, beta=1.0)
    >>> instance.cost.round(3).tolist(), instance.ref.round(3).tolist()
    ([[0.375, 0.125]], [[0.3, 0.7]])
    """
    beta = _positive(beta)
    cost = (q * delta).sum(axis=-1)
    return Instance(tilted(star, -cost, beta), star, q, delta, cost, beta)


def given_user(ref: Array, q: Array, delta: Array, beta: ArrayLike) -> Instance:
    """Build the instance of any user for a given π_ref: π*_β ∝ π_ref exp(−c/β) is optimal, eq. 8 need not hold."""
    beta = _positive(beta)
    cost = (q * delta).sum(axis=-1)
    return Instance(ref, tilted(ref, cost, beta), q, delta, cost, beta)


def tilted(policy: Array, cost: Array, beta: ArrayLike) -> Array:
    """Return the policy ∝ π exp(−c/β): the minimiser of E[c] + β KL(·‖π), shape (..., X, Y)."""
    logits = -cost / np.asarray(beta, np.float64)[..., None, None]
    weights = policy * np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def edited(policy: Array, q: Array) -> Array:
    """Return q∘π(y|x) = Σ_{y'} q(y|x, y') π(y'|x): the law of a text after its edit."""
    return (policy[..., None, :] @ q)[..., 0, :]


def perturbed(q: Array, epsilon: ArrayLike, other: Array) -> Array:
    """With probability ε another user edits, who need not know π*: (1 − ε) q + ε q'; ε of shape (...)."""
    share = np.asarray(epsilon, np.float64)[..., None, None, None]
    return (1 - share) * q + share * other


def _pair_law(instance: Instance) -> Array:
    """μ(y, y') = ½ [π_ref(y) q(y'|y) + π_ref(y') q(y|y')], the law of logged unordered pairs; shape (..., X, Y, Y)."""
    logged = instance.ref[..., :, None] * instance.q
    return 0.5 * (logged + np.swapaxes(logged, -1, -2))


def preference_concentrability(instance: Instance) -> Array:
    """C_PREF = max_{y ≠ y'} π*(y) π_ref(y') / μ(y, y'): what theorem 2 (DPO) asks for; shape (..., X).

    At most 2/γ for the lazy user, whatever π_ref covers.
    """
    wanted = instance.star[..., :, None] * instance.ref[..., None, :]
    with np.errstate(divide="ignore"):
        ratio = wanted / _pair_law(instance)
    ratio[..., np.arange(ratio.shape[-1]), np.arange(ratio.shape[-1])] = 0
    return ratio.max(axis=(-2, -1))


def policy_concentrability(star: Array, ref: Array) -> Array:
    """C* = max_y π*(y)/π_ref(y): the coverage that theorem 3 (RL) asks for; shape (..., X)."""
    return (star / ref).max(axis=-1)


def cost_features(cost: Array, dimensions: int, rng: Generator) -> Array:
    """Features φ (..., X, Y, d) whose span holds ``cost`` (..., X, Y) and d − 1 random directions besides.

    The columns are orthogonal with mean square 1 over the table, so d from 1 to X·Y runs from a class that knows the
    cost but for its size to the class of all tables. d is the rank of the table, which is the eluder dimension of the
    class w·φ up to a logarithm.
    """
    *lead, contexts, responses = cost.shape
    if not 1 <= dimensions <= contexts * responses:
        raise ConfigError(f"cost class: {dimensions} dimensions, give 1 to {contexts * responses} for this table")
    columns = rng.standard_normal((*lead, contexts * responses, dimensions))
    columns[..., 0] = cost.reshape(*lead, -1)
    basis = np.linalg.qr(columns)[0] * np.sqrt(contexts * responses)
    return basis.reshape(*cost.shape, dimensions)


def lazy_instance(star: Array, delta: Array, gamma: ArrayLike, concentrability: ArrayLike) -> Instance:
    """Build the instance of lazy users with max_x C*(x) as given (> 1); leading axes of all four broadcast.

    β = γ β_0, so that π_ref does not depend on γ. C* falls as β_0 grows: bisection finds it, to 1e-9 in log β_0.
    """
    unit = (star[..., None, :] * delta).sum(axis=-1)  # the cost of a user with γ = 1
    target, gamma = np.asarray(concentrability, np.float64), np.asarray(gamma, np.float64)
    lead = np.broadcast_shapes(star.shape[:-2], target.shape)
    low, high = np.full(lead, -12.0), np.full(lead, 12.0)
    for _ in range(40):
        middle = (low + high) / 2
        reached = policy_concentrability(star, tilted(star, -unit, np.exp(middle))).max(axis=-1)
        low, high = np.where(reached > target, middle, low), np.where(reached > target, high, middle)
    return consistent(star, lazy(star, gamma[..., None]), delta, gamma * np.exp((low + high) / 2))


def random_policy(rng: Generator, *shape: int) -> Array:
    """Draw distributions over the last axis, flat Dirichlet."""
    return rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])


def random_distance(rng: Generator, *shape: int) -> Array:
    """Draw metrics of c_max = 1 over the last axis of (..., Y): distances of points in the plane; (..., Y, Y)."""
    points = rng.random((*shape, 2))
    distance = np.linalg.norm(points[..., :, None, :] - points[..., None, :, :], axis=-1)
    return distance / distance.max(axis=(-2, -1), keepdims=True)


def _positive(beta: ArrayLike) -> Array:
    array = np.asarray(beta, np.float64)
    if not ((array > 0) & (array < np.inf)).all():
        raise ConfigError(f"beta = {beta}: give finite numbers > 0, in units of the cost")
    return array
