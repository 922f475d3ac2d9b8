"""A cost model f̂(x, y) ≈ Δ on features of a response, and how wrong it may be: eq. 5 and the pessimism of eq. 6.

f is linear, f = w·φ, so that pessimism is exact: with F̃ = {w : Σ ((w − ŵ)·φ_i)² + λ‖w − ŵ‖² ≤ γ} the largest f
in F̃ at φ is ŵ·φ + κ ‖φ‖_{Λ⁻¹}, κ = √γ, Λ = λI + Σ φ_i φ_iᵀ (spec §2). Λ is factored once and never inverted.

A cost is a distance divided by the length of y, and it is the distance that errs by about as much for a short response
as for a long one. Rows are therefore weighted by their length: the sums above are over s_i φ_i and s_i c_i. Unweighted,
a few empty answers that cost ten times the rest decide everything (results/LOG.md).

κ is calibrated rather than taken from a bound: it is the smallest with which the bound holds for ``COVERAGE`` of the
responses when each is predicted by a fit that saw nothing of its context (the conformal quantile of the ratios of
residual to ‖φ‖_{Λ⁻¹}). λ and how many directions of the hidden states are read are chosen by the squared error of the
same predictions. Left out: y' as responses that cost 0. Offered to the same choice, they were refused in all 14 fits of
results/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redraft.errors import DataError

__all__ = [
    "COVERAGE",
    "CostModel",
    "Examples",
    "LinearBound",
    "Quality",
    "check_contexts",
    "fit_cost",
    "measured",
]

Array = NDArray[np.float64]

COVERAGE = 0.92
"""Share of responses whose cost the bound is to cover: the middle of 88 to 95 %."""
FOLDS = 5
RIDGES = tuple(10.0**power for power in range(-1, 5))
DIRECTIONS = (0, 8, 32)


@dataclass(frozen=True)
class Examples:
    """Responses with what they cost: named features ``text`` [n, a], mean hidden states ``hidden`` [n, h], costs [n].

    ``contexts`` [n] says which rows share a context, ``sizes`` [n] are lengths of the responses, at least 1, in any
    unit.
    """

    text: Array
    hidden: Array
    costs: Array
    contexts: NDArray[np.int64]
    sizes: Array

    def __len__(self) -> int:
        return len(self.costs)

    def take(self, rows: NDArray[Any]) -> Examples:
        """Some of the rows, by mask or by number."""
        return Examples(*(part[rows] for part in vars(self).values()))


@dataclass(frozen=True)
class LinearBound:
    """ŵ [d] and the lower Cholesky factor of Λ [d, d]: ridge regression with its confidence set."""

    weights: Array
    factor: Array

    @classmethod
    def fit(cls, features: Array, costs: Array, ridge: float) -> LinearBound:
        """Minimise Σ (w·φ_i − c_i)² + λ‖w‖², features [n, d]."""
        precision = features.T @ features + ridge * np.eye(features.shape[1])
        factor = np.linalg.cholesky(precision).astype(np.float64)
        return cls(_solve(factor.T, _solve(factor, features.T @ costs), lower=False), factor)

    def mean(self, features: Array) -> Array:
        """ŵ·φ of each row [n]."""
        return features @ self.weights

    def width(self, features: Array) -> Array:
        """‖φ‖_{Λ⁻¹} of each row [n]: since Λ = LLᵀ, the length of L⁻¹φ."""
        return np.linalg.norm(_solve(self.factor, features.T), axis=0)


@dataclass(frozen=True)
class Choice:
    """What was chosen by held-out error: λ, and how many directions of the hidden states are read."""

    ridge: float
    directions: int


@dataclass(frozen=True)
class _Scale:
    """φ(x, y): 1, standardised text features, and standardised leading directions of the hidden states."""

    mean: Array
    deviation: Array
    hidden_mean: Array
    basis: Array

    @classmethod
    def fit(cls, rows: Examples, directions: int) -> _Scale:
        hidden_mean = rows.hidden.mean(0)
        if directions:
            _, _, basis = np.linalg.svd(rows.hidden - hidden_mean, full_matrices=False)
            basis = basis[:directions].T
        else:
            basis = np.zeros((rows.hidden.shape[1], 0))
        raw = np.hstack([rows.text, (rows.hidden - hidden_mean) @ basis])
        deviation = raw.std(0)
        return cls(raw.mean(0), np.where(deviation > 1e-9, deviation, 1.0), hidden_mean, basis)

    def __call__(self, text: Array, hidden: Array) -> Array:
        raw = np.hstack([text, (hidden - self.hidden_mean) @ self.basis])
        return np.hstack([np.ones((len(raw), 1)), (raw - self.mean) / self.deviation])


@dataclass(frozen=True)
class CostModel:
    """Predicts the cost of a response and bounds it from above: f̄ = mean + bonus."""

    bound: LinearBound
    scale: _Scale
    kappa: float
    choice: Choice

    def predict(self, text: Array, hidden: Array) -> tuple[Array, Array]:
        """Return f̂ [n] and the bonus κ‖φ‖_{Λ⁻¹} [n], both in units of the cost."""
        features = self.scale(text, hidden)
        return self.bound.mean(features), self.kappa * self.bound.width(features)

    def arrays(self) -> dict[str, Array]:
        """Everything learnt, by name, for ``numpy.savez``; ``from_arrays`` reads it."""
        return {**vars(self.bound), **{f"scale_{name}": value for name, value in vars(self.scale).items()}}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array], kappa: float, choice: dict[str, Any]) -> CostModel:
        """Read what ``arrays`` gave."""
        scale = _Scale(*(arrays[f"scale_{name}"] for name in ("mean", "deviation", "hidden_mean", "basis")))
        return cls(
            LinearBound(arrays["weights"], arrays["factor"]),
            scale,
            kappa,
            Choice(choice["ridge"], choice["directions"]),
        )


@dataclass(frozen=True, slots=True)
class Quality:
    """How a cost model does on responses that it did not see: shares and correlations, and costs in their own units.

    ``r2`` is 1 − Σ(c − f̂)²/Σ(c − c̄)², ``rank_correlation`` Spearman's, ``coverage`` the share of costs within the
    bound, ``bonus`` its mean width beside ``deviation``, the costs' own; ``None`` where it is not defined.
    """

    n: int
    r2: float | None
    rank_correlation: float | None
    coverage: float
    bonus: float
    mean_cost: float
    deviation: float


def fit_cost(rows: Examples, *, choices: Sequence[Choice] | None = None) -> CostModel:
    """Fit f̂ on these responses, choosing and calibrating by contexts left out.

    Raises ``DataError`` where there are fewer contexts than folds.
    """
    folds = _folds(rows.contexts)
    directions = [k for k in DIRECTIONS if k <= min(rows.hidden.shape)]
    choices = choices or [Choice(*both) for both in product(RIDGES, directions)]
    best = min(choices, key=lambda choice: _error(rows, folds, choice))
    return replace(_fitted(rows, best), kappa=_kappa(rows, folds, best))


def check_contexts(count: int) -> None:
    """Raise ``DataError`` where there are fewer contexts to learn from than folds."""
    if count < FOLDS:
        raise DataError(
            f"a cost model learns from at least {FOLDS} contexts and is measured on others, and these edits leave "
            f"{count}: log edits of more contexts"
        )


def measured(mean: Array, bonus: Array, costs: Array) -> Quality:
    """Measure predictions f̂ and bonus against costs, [n] each."""
    spread = float(np.sum((costs - costs.mean()) ** 2))
    return Quality(
        n=len(costs),
        r2=1 - float(np.sum((costs - mean) ** 2)) / spread if spread else None,
        rank_correlation=_spearman(mean, costs),
        coverage=float(np.mean(costs <= mean + bonus)),
        bonus=float(bonus.mean()),
        mean_cost=float(costs.mean()),
        deviation=float(costs.std()),
    )


def _fitted(rows: Examples, choice: Choice) -> CostModel:
    scale = _Scale.fit(rows, choice.directions)
    weights = rows.sizes / np.sqrt(np.mean(rows.sizes**2))
    features = scale(rows.text, rows.hidden) * weights[:, None]
    return CostModel(LinearBound.fit(features, rows.costs * weights, choice.ridge), scale, 1.0, choice)


def _folds(contexts: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Masks of what each fold leaves out: whole contexts, of every fifth in the order in which they first came."""
    _, first, number = np.unique(contexts, return_index=True, return_inverse=True)
    check_contexts(len(first))
    order = np.argsort(np.argsort(first))
    return [order[number] % FOLDS == fold for fold in range(FOLDS)]


def _left_out(rows: Examples, folds: list[NDArray[np.bool_]], choice: Choice) -> tuple[Array, Array, Array]:
    """Residual and ‖φ‖_{Λ⁻¹} of each response as predicted without its context, and sizes."""
    found: list[tuple[Array, Array, Array]] = []
    for out in folds:
        model, unseen = _fitted(rows.take(~out), choice), rows.take(out)
        mean, width = model.predict(unseen.text, unseen.hidden)
        found.append((unseen.costs - mean, width, unseen.sizes))
    residuals, widths, sizes = (np.concatenate(part) for part in zip(*found, strict=True))
    return residuals, widths, sizes


def _error(rows: Examples, folds: list[NDArray[np.bool_]], choice: Choice) -> float:
    residuals, _, sizes = _left_out(rows, folds, choice)
    return float(np.mean((sizes * residuals) ** 2))


def _kappa(rows: Examples, folds: list[NDArray[np.bool_]], choice: Choice) -> float:
    residuals, widths, _ = _left_out(rows, folds, choice)
    ratios = np.sort(residuals / widths)
    rank = int(np.ceil((len(ratios) + 1) * COVERAGE)) - 1
    return max(0.0, float(ratios[min(rank, len(ratios) - 1)]))


def _solve(triangle: Array, right: Array, *, lower: bool = True) -> Array:
    from scipy.linalg import solve_triangular

    return solve_triangular(triangle, right, lower=lower)


def _spearman(one: Array, other: Array) -> float | None:
    from scipy.stats import spearmanr

    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(spearmanr(one, other)[0])  # pyright: ignore[reportArgumentType]
