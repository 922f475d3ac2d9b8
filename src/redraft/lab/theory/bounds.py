"""What the paper claims, as pairs of numbers to be compared: identities, Lemma 1, and the rates of Theorems 1–3.

Each function returns what its docstring says for every instance on the leading axes; nothing here decides whether a
claim holds. Theorem 1's constants are not public: we take η_max = max_x η(x) and η̄ = (E_x η(x)²)^½, for which
E_x ‖q∘π − π*‖ ≤ min{η_max D, η̄ D^½} by Hölder and Cauchy–Schwarz.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, rel_entr
from scipy.stats import linregress

from redraft.errors import DataError
from redraft.lab.kernels import Array
from redraft.lab.theory.tabular import Instance, edited

__all__ = [
    "Rate",
    "bradley_terry_gap",
    "divergence",
    "fit_rate",
    "lemma_1",
    "objective",
    "suboptimality",
    "theorem_1",
    "total_variation",
]


def total_variation(policy: Array, other: Array) -> Array:
    """½ Σ_y |π − π'|, per context; shape (..., X)."""
    return 0.5 * np.abs(policy - other).sum(axis=-1)


def divergence(policy: Array, other: Array) -> Array:
    """KL(π‖π') in nats, per context; infinite where π' lacks support; shape (..., X)."""
    return rel_entr(policy, other).sum(axis=-1)


def objective(instance: Instance, policy: Array) -> Array:
    """J_β(π) = E_{x, y~π}[c + β log(π/π_ref)] (eq. 1); shape (...)."""
    expected = (policy * instance.cost).sum(axis=-1).mean(axis=-1)
    return expected + instance.beta * divergence(policy, instance.ref).mean(axis=-1)


def suboptimality(instance: Instance, policy: Array) -> Array:
    """SubOpt(π) = J_β(π) − J_β(π*_β), which is β E_x KL(π‖π*_β) exactly; shape (...)."""
    return instance.beta * divergence(policy, instance.star).mean(axis=-1)


def bradley_terry_gap(instance: Instance, beta: ArrayLike | None = None) -> Array:
    """Largest |P(y' ≻ y) − σ((c(y) − c(y'))/β)| over pairs that are ever logged; shape (...).

    P is the chance that, of the unordered pair {y ≠ y'} with y ~ π_ref, it was y that was logged and y' that was left.
    The printed formula drops 1/β; give ``beta`` = 1 to see what that costs.
    """
    beta = np.asarray(instance.beta if beta is None else beta)[..., None, None, None]
    logged = instance.ref[..., :, None] * instance.q
    pair = logged + np.swapaxes(logged, -1, -2)
    seen = (pair > 1e-290) & ~np.eye(pair.shape[-1], dtype=bool)
    preferred = np.divide(logged, pair, out=np.zeros_like(pair), where=seen)
    claimed = expit((instance.cost[..., :, None] - instance.cost[..., None, :]) / beta)
    return np.where(seen, np.abs(preferred - claimed), 0).max(axis=(-3, -2, -1))


def lemma_1(instance: Instance, policy: Array) -> tuple[Array, Array]:
    """Both sides of Lemma 1: ‖q∘π − π*‖ and (1 − γ_min) ‖π − π*‖; shapes (..., X)."""
    after = total_variation(edited(policy, instance.q), instance.star)
    return after, (1 - instance.gamma_min) * total_variation(policy, instance.star)


def theorem_1(instance: Instance) -> tuple[Array, Array]:
    """SFT's population error E_x ‖q∘π_ref − π*‖ and min{η_max D, η̄ D^½}, D = E_x ‖π_ref − π*‖; shapes (...)."""
    error = total_variation(edited(instance.ref, instance.q), instance.star).mean(axis=-1)
    distance, eta = total_variation(instance.ref, instance.star).mean(axis=-1), instance.contraction
    return error, np.minimum(eta.max(axis=-1) * distance, np.sqrt((eta**2).mean(axis=-1) * distance))


@dataclass(frozen=True, slots=True)
class Rate:
    """A power law fitted on logarithms: ``y ≈ constant · x^slope``, with the slope's standard error."""

    slope: float
    error: float
    constant: float


def fit_rate(x: ArrayLike, y: ArrayLike) -> Rate:
    """Fit a power law by least squares on logarithms; raises ``DataError`` unless all numbers are > 0.

    >>> rate = fit_rate([1, 10, 100], [5, 0.5, 0.05])
    >>> round(rate.slope, 9), round(rate.constant, 9)
    (-1.0, 5.0)
    """
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if xs.size < 3 or (xs <= 0).any() or (ys <= 0).any():
        raise DataError(f"rate of {xs.size} points: give at least 3, all > 0, so that they have logarithms")
    fit: Any = linregress(np.log(xs), np.log(ys))
    return Rate(float(fit.slope), float(fit.stderr), float(np.exp(fit.intercept)))
