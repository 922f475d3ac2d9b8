"""The learners on tabular policies: exact limits and finite samples, many logs at once.

A log is its counts: how often y was edited to y' in context x, shape (..., X, Y, Y); eqs. 3–7 need no more. A
population is the same with expected counts, so each learner's limit is the learner on ``expected_log``. As in training,
one objective holds SFT, DPO and EarlyEnsemble. Logits r = log π/π_ref are free per context (tabular) or linear in
given features (log-linear). Ridge terms keep estimates finite on separable logs, and vanish as 1/n.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike
from scipy.special import expit

from redraft.errors import DataError
from redraft.lab.kernels import Array
from redraft.lab.theory.tabular import Instance, tilted

__all__ = ["CostFit", "dpo", "dpo_linear", "early", "expected_log", "fit_cost", "rl", "sample_log", "sft"]

_STEP = 3.0  # longest Newton step, in nats: far from the optimum the quadratic model cannot be trusted
_ROUNDS = 200
_SETTLED = 1e-9

Model = Callable[[Array], tuple[Array, Array]]


def expected_log(instance: Instance) -> Array:
    """Return the law of a logged triple, π_ref(y) q(y'|y) / X; it sums to 1."""
    return instance.ref[..., :, None] * instance.q / instance.ref.shape[-2]


def sample_log(instance: Instance, n: int, rng: Generator) -> Array:
    """Draw n triples (x, y ~ π_ref, y' ~ q) and count them."""
    law = expected_log(instance)
    flat = law.reshape(*law.shape[:-3], -1)
    flat = flat / flat.sum(axis=-1, keepdims=True)
    return rng.multinomial(n, flat).reshape(law.shape).astype(np.float64)


def sft(log: Array, ref: Array) -> Array:
    """Maximise the likelihood of y' (eq. 3): its frequencies; π_ref in a context that was never seen."""
    written = log.sum(axis=-2)
    seen = written.sum(axis=-1, keepdims=True)
    return np.divide(written, seen, out=np.broadcast_to(ref, written.shape).copy(), where=seen > 0)


def dpo(log: Array, ref: Array, *, tau: ArrayLike = 1.0, ridge: ArrayLike = 0.0) -> Array:
    """Maximise Σ log σ(τ r(y') − τ r(y)) over tables r = log π/π_ref (eq. 4).

    Parameters
    ----------
    log
        Counts; pairs with y = y' say nothing.
    ref
        π_ref, the policy that wrote the log.
    tau
        The paper's β in eq. 4. The limit is ∝ π_ref exp(−c/(βτ)): π*_β at τ = 1 only. Shape (...).
    ridge
        Of the margins τ r: the inverse variance of a normal prior. Shape (...).
    """
    weight = np.asarray(ridge, np.float64)[..., None, None]
    margins = _minimise(lambda r: _preference(r, log, weight), np.zeros(log.shape[:-1]))
    return tilted(ref, -margins, tau)


def early(log: Array, ref: Array, weight: float, *, ridge: ArrayLike = 0.0) -> Array:
    """Minimise L_DPO + λ NLL(y') over tables, λ = ``weight``, τ = 1 (eq. 7): λ = 0 is DPO, λ → ∞ is SFT."""
    prior, written = np.asarray(ridge, np.float64)[..., None, None], log.sum(axis=-2)
    seen = written.sum(axis=-1)[..., None]

    def model(r: Array) -> tuple[Array, Array]:
        slope, curve = _preference(r, log, prior)
        policy = tilted(ref, -r, 1.0)
        spread = policy[..., :, None] * (np.eye(r.shape[-1]) - policy[..., None, :])
        return slope + weight * (seen * policy - written), curve + weight * seen[..., None] * spread

    return tilted(ref, -_minimise(model, np.zeros(log.shape[:-1])), 1.0)


def dpo_linear(log: Array, ref: Array, features: Array, *, ridge: float = 0.0) -> Array:
    """DPO at τ = 1 over log-linear policies π ∝ π_ref exp(θ·φ), φ of shape (..., X, Y, d)."""
    steps = features[..., None, :, :] - features[..., :, None, :]  # φ(y') − φ(y)
    steps = steps.reshape(*features.shape[:-3], -1, features.shape[-1])
    pairs = log.reshape(*log.shape[:-3], -1)

    def model(theta: Array) -> tuple[Array, Array]:
        won = expit((steps @ theta[..., None])[..., 0])
        slope = -((pairs * (1 - won))[..., None, :] @ steps)[..., 0, :] + ridge * theta
        curve = np.swapaxes(steps, -1, -2) @ ((pairs * won * (1 - won))[..., None] * steps)
        return slope, curve + ridge * np.eye(steps.shape[-1])

    lead = np.broadcast_shapes(steps.shape[:-2], pairs.shape[:-1])
    theta = _minimise(model, np.zeros((*lead, features.shape[-1])), gauge=0.0)
    return tilted(ref, -(features @ theta[..., None, :, None])[..., 0], 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class CostFit:
    """A linear cost model: ``mean`` is f̂ and ``width`` is ‖φ‖_{Λ⁻¹}, both (..., X, Y); ``kappa`` is κ, shape (...)."""

    mean: Array
    width: Array
    kappa: Array

    @property
    def pessimistic(self) -> Array:
        """f̄ = max over F̃ of f = f̂ + κ ‖φ‖_{Λ⁻¹}, exactly."""
        return self.mean + self.kappa[..., None, None] * self.width


def fit_cost(log: Array, delta: Array, features: Array, *, ridge: float = 1.0, confidence: float = 0.9) -> CostFit:
    """Regress Δ(y, y') on φ(x, y) (eq. 5, with ridge λ) and give the radius of its confidence set.

    κ² = γ(F, δ) is the ``confidence`` bound on s² χ²_d after Laurent & Massart, s² (d + 2 √(d L) + 2 L), L = log(1/δ),
    s² the mean squared residual: the error of d fitted numbers, were the noise normal.
    """
    *_, columns = features.shape
    seen = log.sum(axis=-1)
    gram = np.einsum("...xyi,...xy,...xyj->...ij", features, seen, features, optimize=True) + ridge * np.eye(columns)
    paid = np.einsum("...xyi,...xy->...i", features, (log * delta).sum(axis=-1), optimize=True)
    mean = (features @ np.linalg.solve(gram, paid[..., None])[..., None, :, :])[..., 0]
    width = np.sqrt(np.einsum("...xyi,...ij,...xyj->...xy", features, np.linalg.inv(gram), features, optimize=True))
    missed = (log * (delta - mean[..., None]) ** 2).sum(axis=(-3, -2, -1))
    spread = missed / np.maximum(seen.sum(axis=(-2, -1)), 1e-300)
    level = -np.log(1 - confidence)
    return CostFit(mean, width, np.sqrt(spread * (columns + 2 * np.sqrt(columns * level) + 2 * level)))


def rl(ref: Array, cost: Array, beta: ArrayLike) -> Array:
    """Minimise E_π[f] + β KL(π‖π_ref) (eq. 6) in closed form: π ∝ π_ref exp(−f/β)."""
    return tilted(ref, cost, beta)


def _preference(r: Array, log: Array, ridge: Array) -> tuple[Array, Array]:
    """Gradient and Hessian of −Σ log σ(r(y') − r(y)) + ½ ridge Σ r², per context."""
    won = expit(r[..., None, :] - r[..., :, None])  # of y' over y
    push, eye = log * (1 - won), np.eye(r.shape[-1])
    flow = push * won * (1 - eye)
    flow = flow + np.swapaxes(flow, -1, -2)
    slope = push.sum(axis=-1) - push.sum(axis=-2) + ridge * r
    return slope, eye * (flow.sum(axis=-1) + ridge)[..., None] - flow


def _minimise(model: Model, start: Array, gauge: float = 1.0) -> Array:
    """Newton's method on many convex problems at once; steps no longer than ``_STEP``.

    Tables r are free up to a constant per context; ``gauge`` > 0 fixes it at the start's, where every gradient is
    orthogonal to the constant. It scales with the problem, so that populations (counts below 1) fare alike.
    """
    point, size = start, start.shape[-1]
    for _ in range(_ROUNDS):
        slope, curve = model(point)
        scale = np.diagonal(curve, axis1=-2, axis2=-1).max(axis=-1)[..., None, None]
        try:
            step = -np.linalg.solve(curve + gauge * scale * np.ones((size, size)), slope[..., None])[..., 0]
        except np.linalg.LinAlgError:
            break
        longest = np.abs(step).max(axis=-1, keepdims=True)
        if longest.max() <= _SETTLED:
            return point + step
        point = point + step * np.minimum(1, _STEP / np.maximum(longest, 1e-300))
    raise DataError("preferences in this log have no best table (separable, or not all compared): give a ridge > 0")
