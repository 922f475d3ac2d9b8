"""Edit kernels q(y'|x, y) for which Assumption 1 of arXiv 2601.19055 holds exactly, on a list of candidate texts C(x).

``lazy``, ``metropolis`` and ``mixture`` build kernels for a known π*, for as many instances at once as one likes: a
policy is an array (..., Y), a kernel (..., Y, Y), with the text before the edit in the rows. The classes are the same
kernels as functions of log π*, for ``solve``, which finds π* ∝ π_ref exp(−c/β) where the cost c depends on q and q on
π*. It iterates this map with damping, starting at π_ref; where a small β has several fixed points, the one reached from
π_ref counts. What it returns satisfies π* ∝ π_ref exp(−c/β) to rounding and eq. 8 to 1e-9, both checked independently;
otherwise it raises. A ``KernelUser`` draws edits from such a solution.

Left out: kernels over all texts; where candidates come from and who scores them. Logarithms are natural.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from redraft.errors import ConfigError, DataError
from redraft.types import Context

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = [
    "Array",
    "Candidates",
    "Kernel",
    "KernelUser",
    "Lazy",
    "MetropolisHastings",
    "Mixture",
    "Solution",
    "balance_gap",
    "check_balance",
    "gamma_min",
    "lazy",
    "metropolis",
    "mixture",
    "solve",
]

Array = NDArray[np.float64]

Kernel = Callable[[Array, Array], Array]
"""``kernel(log_star, distance)``: from log π*, shape (n,), and Δ(y, y'), shape (n, n), the matrix q, shape (n, n)."""

BALANCE = 1e-9
_VANISHING = 1e-290  # flows below it are rounded by the float's smallest exponents
_CONVERGED = 1e-10  # of log π*; eq. 8 is off by at most twice as much
_DAMPING = (0.5, 0.1)
_ROUNDS = 5000


def lazy(star: Array, gamma: ArrayLike) -> Array:
    """Leave the text with probability 1 − γ, else write one by π*: q = (1 − γ) δ_y + γ π*.

    ``star``: π*, (..., Y). ``gamma``: γ, a number or an array that broadcasts against the leading axes.
    """
    share = np.asarray(gamma, np.float64)[..., None, None]
    return (1 - share) * np.eye(star.shape[-1]) + share * star[..., None, :]


def metropolis(star: Array, proposal: Array) -> Array:
    """Accept a proposal g(y'|y) with probability min(1, π*(y') g(y|y') / (π*(y) g(y'|y))); else the text stays.

    ``star``: π*, (..., Y). ``proposal``: g, (..., Y, Y), rows sum to 1; it need not be reversible.
    """
    forward = star[..., :, None] * proposal
    return _else_stay(np.minimum(forward, np.swapaxes(forward, -1, -2)) / np.maximum(star[..., :, None], _VANISHING))


def mixture(*parts: tuple[float, Array]) -> Array:
    """One of several kernels by chance, given as (share, q); reversible when all of them are."""
    _check_shares([share for share, _ in parts])
    return np.sum([share * q for share, q in parts], axis=0)


def _else_stay(q: Array) -> Array:
    """Overwrite the diagonal with what is left of each row."""
    places = np.arange(q.shape[-1])
    q[..., places, places] = 0
    q[..., places, places] = np.maximum(0, 1 - q.sum(axis=-1))
    return q


def gamma_min(star: Array, q: Array) -> Array:
    """min_y q(y*|x, y) with y* = argmax π*(·|x) (eq. 9), from π* or its logarithm; shape (...)."""
    best = np.argmax(star, axis=-1)[..., None, None]
    return np.take_along_axis(q, best, axis=-1)[..., 0].min(axis=-1)


def balance_gap(star: Array, q: Array) -> Array:
    """How far eq. 8 is from holding: b(x) = ½ Σ_{y, y'} |π*(y) q(y'|y) − π*(y') q(y|y')|, in [0, 1]; shape (...).

    It is what a violation costs Lemma 1: ‖q∘π − π*‖ ≤ (1 − γ_min) ‖π − π*‖ + b.
    """
    flow = star[..., :, None] * q
    return 0.5 * np.abs(flow - np.swapaxes(flow, -1, -2)).sum(axis=(-2, -1))


@dataclass(frozen=True, slots=True)
class Lazy:
    """``lazy`` for one list of candidates.

    >>> Lazy(0.5)(np.log([0.25, 0.75]), np.zeros((2, 2))).tolist()
    [[0.625, 0.375], [0.125, 0.875]]
    """

    gamma: float

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ConfigError(f"lazy kernel: gamma = {self.gamma}, give a probability in (0, 1]")

    def __call__(self, log_star: Array, distance: Array) -> Array:
        """Return q; the distance plays no part."""
        return lazy(np.exp(log_star), self.gamma)


@dataclass(frozen=True, slots=True)
class MetropolisHastings:
    """``metropolis`` for one list of candidates, where the proposal g(y'|y) ∝ exp(−Δ(y, y')/reach) prefers near texts.

    ``reach`` is how far edits go, in units of the cost; infinite proposes all candidates alike. It works on logarithms:
    beside the best candidate, a long text can have a probability that no float holds.
    """

    reach: float = math.inf

    def __post_init__(self) -> None:
        if not self.reach > 0:
            raise ConfigError(f"Metropolis-Hastings kernel: reach = {self.reach}, give a cost > 0")

    def __call__(self, log_star: Array, distance: Array) -> Array:
        """Return q; rejected proposals leave the text as it is."""
        proposal = _normalised(-distance / self.reach)
        flow = log_star[:, None] + proposal
        return _else_stay(np.exp(proposal + np.minimum(0, flow.T - flow)))


@dataclass(frozen=True, slots=True)
class Mixture:
    """``mixture`` for one list of candidates, of (share, kernel) pairs: the kernel is drawn anew for every edit."""

    parts: tuple[tuple[float, Kernel], ...]

    def __post_init__(self) -> None:
        _check_shares([share for share, _ in self.parts])

    def __call__(self, log_star: Array, distance: Array) -> Array:
        """Return Σ share · q."""
        return mixture(*((share, kernel(log_star, distance)) for share, kernel in self.parts))


def _check_shares(shares: Sequence[float]) -> None:
    if not all(share >= 0 for share in shares) or not math.isclose(sum(shares), 1):
        raise ConfigError(f"mixture of kernels: shares = {shares}, give numbers >= 0 that sum to 1")


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A user and the policy that suits them best, on one candidate set.

    ``log_ref`` and ``log_star``: log π_ref and log π*, shape (n,), normalised. ``q``: q(y'|x, y), shape (n, n).
    ``cost``: c(x, y) = E_{y'~q}[Δ(y, y')], shape (n,).
    """

    log_ref: Array
    log_star: Array
    q: Array
    cost: Array


def solve(log_ref: ArrayLike, distance: ArrayLike, kernel: Kernel, beta: float) -> Solution:
    """Find π* ∝ π_ref exp(−c/β), where c is the expected cost of the kernel's edits towards π* itself.

    Parameters
    ----------
    log_ref
        A model's scores of the candidates, in nats, shape (n,); normalised here.
    distance
        Δ(y, y') ≥ 0, shape (n, n), 0 on the diagonal; need not be symmetric.
    kernel
        Gives q, reversible with respect to the log π* it gets.
    beta
        β of eq. 1, > 0, in units of the cost. For β > 2 max Δ the iteration contracts for every kernel of this file.

    Raises ``DataError`` when the scores or distances are unusable, the iteration does not settle, or eq. 8 fails.

    Examples
    --------
    >>> solution = solve([0.0, 0.0], [[0, 1], [1, 0]], Lazy(1.0), beta=1.0)
    >>> np.exp(solution.log_star).tolist(), solution.cost.tolist()
    ([0.5, 0.5], [0.5, 0.5])
    """
    reference, delta = np.asarray(log_ref, dtype=np.float64), np.asarray(distance, dtype=np.float64)
    _check_problem(reference, delta, beta)
    reference = _normalised(reference)
    for damping in _DAMPING:
        solution = _iterate(reference, delta, kernel, beta, damping)
        if solution is not None:
            check_balance(solution.log_star, solution.q)
            return solution
    raise DataError(
        f"kernel user: pi* of {len(reference)} candidates does not settle at beta = {beta}; give a larger beta"
    )


@dataclass(frozen=True, slots=True)
class Candidates:
    """The texts of one context and what its user makes of each: ``solution`` has their order."""

    texts: tuple[str, ...]
    solution: Solution

    @classmethod
    def of(
        cls, texts: Sequence[str], log_ref: ArrayLike, cost: Callable[[str, str], float], kernel: Kernel, beta: float
    ) -> Candidates:
        """Find the user of these texts, scored by a model: ``log_ref`` in nats, one per text, normalised here.

        Raises ``DataError`` when a text is given twice or ``solve`` finds no user.
        """
        if len(set(texts)) < len(texts):
            twice = next(text for text in texts if list(texts).count(text) > 1)
            raise DataError(f"kernel user: candidate {_short(twice)} is given twice; give every text once")
        distance = [[cost(response, edited) for edited in texts] for response in texts]
        return cls(tuple(texts), solve(log_ref, distance, kernel, beta))


@dataclass(frozen=True, slots=True)
class KernelUser:
    """A user who draws y' from q(·|x, y) over the candidates of the context, which are given by ``Context.id``."""

    name: str
    candidates: Mapping[str, Candidates]

    def edit(self, context: Context, response: str, *, t: int, rng: Generator) -> str:
        """Return y', one of the candidates, by a single draw from ``rng``.

        Raises ``DataError`` when the context has no candidates or the response is not one of them.
        """
        if context.id not in self.candidates:
            raise DataError(f"user {self.name!r} has no candidates for context {context.id!r}; solve them first")
        among = self.candidates[context.id]
        if response not in among.texts:
            raise DataError(
                f"user {self.name!r}: response {_short(response)} is not among the {len(among.texts)} candidates of "
                f"context {context.id!r}; let policies choose among them"
            )
        cumulative = among.solution.q[among.texts.index(response)].cumsum()
        return among.texts[int(cumulative.searchsorted(rng.random() * cumulative[-1], side="right"))]


def _iterate(log_ref: Array, distance: Array, kernel: Kernel, beta: float, damping: float) -> Solution | None:
    log_star = log_ref
    for _ in range(_ROUNDS):
        q = kernel(log_star, distance)
        cost = (q * distance).sum(axis=1)
        image = _normalised(log_ref - cost / beta)
        if np.abs(image - log_star).max() <= _CONVERGED:
            return Solution(log_ref, image, q, cost)
        log_star = _normalised((1 - damping) * log_star + damping * image)
    return None


def _normalised(logs: Array) -> Array:
    """Shift logarithms so that their exponentials sum to 1 over the last axis."""
    shifted = logs - logs.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def check_balance(log_star: Array, q: Array) -> None:
    """Raise ``DataError`` unless each row of q is a distribution and eq. 8 holds to 1e-9, relative to its larger side.

    0 is exact and 1 the worst: some edit that is never undone.
    """
    if not (q >= 0).all() or not np.allclose(q.sum(axis=1), 1, rtol=0, atol=BALANCE):
        raise DataError("kernel user: a row of q is not a distribution; a kernel must give numbers >= 0 that sum to 1")
    flow = np.exp(log_star)[:, None] * q
    gap = (np.abs(flow - flow.T) / np.maximum(np.maximum(flow, flow.T), _VANISHING)).max()
    if gap > BALANCE:
        raise DataError(f"kernel user: eq. 8 is off by {gap:.2g}; use a kernel that is reversible with respect to pi*")


def _check_problem(log_ref: Array, distance: Array, beta: float) -> None:
    if not 0 < beta < math.inf:
        raise ConfigError(f"kernel user: beta = {beta}, give a finite number > 0")
    if log_ref.ndim != 1 or not log_ref.size or not np.isfinite(log_ref).all():
        raise DataError(f"kernel user: scores of shape {log_ref.shape}; give one finite log-probability per candidate")
    if distance.shape != (len(log_ref), len(log_ref)):
        raise DataError(f"kernel user: distances of shape {distance.shape}; give {len(log_ref)} x {len(log_ref)}")
    if not np.isfinite(distance).all() or (distance < 0).any() or distance.diagonal().any():
        raise DataError("kernel user: distances must be finite, >= 0, and 0 from a text to itself; check the cost")


def _short(text: str, room: int = 40) -> str:
    return repr(text if len(text) <= room else text[:room] + "…")
