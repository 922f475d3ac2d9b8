"""LateEnsemble: Algorithm 1 of arXiv 2601.19055, made fit for edits that come late and costs of any scale.

Play every policy once, then the one whose mean cost could be lowest, optimism in the face of uncertainty:
a *lower* confidence bound, since costs are minimised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from redraft.errors import ConfigError
from redraft.select.base import UNITS, Selector, one_hot
from redraft.types import Decision

__all__ = ["LateEnsemble"]


class LateEnsemble(Selector):
    r"""Play argmin over π of C(π)/N(π) − α √(log t / N(π)).

    N(π) counts resolved decisions, C(π) sums their costs and t is the number of resolved decisions plus one. While
    some policy has N = 0, the one with the fewest decisions is played, resolved or not: before the first edits are
    in, that is round-robin, and a policy whose edits never come is tried again. Ties go to the earlier arm. Without
    delay this is Algorithm 1 as printed.

    Parameters
    ----------
    arms
        Names of the policies, at least one, none twice.
    alpha
        The width of the bound in units of the cost: the paper's form. It is only meaningful against the costs'
        scale: the paper's 150 was meant for raw token distances, and on costs of order 1 it is round-robin. UCB1
        (Auer, Cesa-Bianchi & Fischer 2002) is √2, for costs in [0, 1].
        ``None`` takes the root mean square of all costs resolved so far (see the notes).

    Raises
    ------
    ConfigError
        On arms that cannot be used, or an alpha that is negative or not finite.

    Notes
    -----
    *Why a root mean square.* For σ-sub-Gaussian costs, P(mean of N misses by w) ≤ exp(−N w² / 2σ²), and the width
    that makes this 1/t is w = √2 σ √(log t / N): α = √2 σ, for Gaussian costs with the least leading constant there is
    (Lattimore & Szepesvári 2020, ch. 8). σ is unknown, and of edit costs one cannot know a range. So take
    α_t² = Σ c² / n, that is σ² + mean²:

    - It equals √2 σ where the spread equals the mean, as for exponential costs and about so for edits, of which
      many are 0 and a few long (σ/mean is 1.2 in DeFacto, 0.7 in MLQE-PE's Romanian post-edits). Steadier costs
      are explored more than need be, by a factor (1 + mean²/σ²)/2 in regret; costs with a heavier tail, for which
      no sub-Gaussian bound holds, less, but α_t ≥ σ.
    - A standard deviation would not do: while a policy of constant cost is played, the spread shrinks faster than
      log t grows, and a better policy whose first edit happened to be costly is never tried again. The mean square
      falls to 0 only if the costs do, and then there is nothing to gain.
    - One cost far out raises α_t by no more than its size over √n, and is forgotten at that rate.
    - It is exact from integer sums, in any order of arrival; if all costs are multiplied by k > 0, so are C/N and
      α_t, and no choice changes. While all costs are 0 the first arm is kept: no policy can do better.

    Examples
    --------
    >>> ensemble = LateEnsemble(["email/sft@1", "email/dpo@1"])
    >>> first, second = ensemble.select("a"), ensemble.select("b")
    >>> ensemble.update(second, 0.1)  # in any order
    >>> ensemble.update(first, 0.6)
    >>> ensemble.select("c").chosen
    'email/dpo@1'
    """

    name = "late"

    def __init__(self, arms: Sequence[str], alpha: float | None = None) -> None:
        super().__init__(arms)
        if alpha is not None and not (math.isfinite(alpha) and alpha >= 0):
            raise ConfigError(f"alpha = {alpha!r}: must be a finite number ≥ 0, or None to follow the costs' scale")
        self.alpha = alpha

    def select(self, completion_id: str) -> Decision:
        """Choose the policy that answers; the decision keeps the bounds and the α they were computed with."""
        counts, alpha, scores = self.counts, None, None
        if any(count.resolved == 0 for count in counts.values()):
            chosen = min(self.arms, key=lambda arm: counts[arm].decisions)
        else:
            alpha = self._scale() if self.alpha is None else self.alpha
            scores = tuple(self._bound(arm, alpha) for arm in self.arms)
            chosen = self.arms[scores.index(min(scores))]
        decision = Decision(
            completion_id=completion_id,
            candidates=self.arms,
            chosen=chosen,
            t=self.t,
            selector=self.name,
            parameters={"alpha": self.alpha, "alpha_t": alpha},
            scores=scores,
            propensities=one_hot(self.arms, chosen),
        )
        self.record(decision)
        return decision

    def _bound(self, arm: str, alpha: float) -> float:
        count = self.counts[arm]
        return count.mean - alpha * math.sqrt(math.log(self.t) / count.resolved)  # Algorithm 1

    def _scale(self) -> float:
        counts = self.counts.values()
        return math.sqrt(sum(count.squares for count in counts) / (self.t - 1)) / UNITS
