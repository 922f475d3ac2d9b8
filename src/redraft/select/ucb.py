"""LateEnsemble: Algorithm 1 of arXiv 2601.19055, for edits that come late and costs of any scale.

Play every policy once, then the one whose mean cost could be lowest. That is optimism in the face of uncertainty: a
*lower* confidence bound, since costs are minimised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from redraft.errors import ConfigError
from redraft.select.base import Selector
from redraft.types import COST_UNIT, Decision

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
        The width of the bound in units of the cost, as in the paper. It depends on the scale of the costs: the
        paper's 150 fits raw token distances and is round-robin on costs of order 1; UCB1 (Auer, Cesa-Bianchi &
        Fischer 2002) takes √2 for costs in [0, 1]. ``None``: the root mean square of the costs so far (see the notes).

    Raises
    ------
    ConfigError
        On arms that cannot be used, or an alpha that is negative or not finite.

    Notes
    -----
    *Why a root mean square.* For σ-sub-Gaussian costs, P(mean of N misses by w) ≤ exp(−N w² / 2σ²), and the width
    that makes this 1/t is w = √2 σ √(log t / N): α = √2 σ, which for Gaussian costs has the smallest possible leading
    constant (Lattimore & Szepesvári 2020, ch. 8). σ is unknown, and edit costs have no known range. So take
    α_t² = Σ c² / n, which is σ² + mean²:

    - It equals √2 σ where the spread equals the mean, as with exponential costs and roughly with edits: many are 0
      and a few are long (σ/mean is 1.2 in DeFacto, 0.7 in MLQE-PE's Romanian post-edits). Steadier costs are
      explored more than necessary, by a factor (1 + mean²/σ²)/2 in regret. Costs with a heavier tail, for which no
      sub-Gaussian bound holds, are explored less, but α_t ≥ σ.
    - A standard deviation would not do: while a policy of constant cost is played, the spread shrinks faster than
      log t grows, and a better policy whose first edit happened to be costly is never tried again. The mean square
      falls to 0 only if the costs do, and then there is nothing to gain.
    - One outlier raises α_t by no more than its size over √n, and is forgotten at that rate.
    - Integer sums make it exact in any order of arrival. Multiplying all costs by k > 0 multiplies C/N and α_t too,
      so that no choice changes. While all costs are 0 the first arm is kept: no policy can do better.

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

    def select(self, completion_id: str, among: Sequence[str] | None = None) -> Decision:
        """Choose the policy that answers; the decision keeps the bounds and the α they were computed with."""
        arms, counts, alpha, scores = among or self.arms, self.counts, None, None
        if any(counts[arm].resolved == 0 for arm in arms):
            chosen = min(arms, key=lambda arm: counts[arm].decisions)
        else:
            alpha = self._scale() if self.alpha is None else self.alpha
            scores = tuple(self._bound(arm, alpha) for arm in arms)
            chosen = arms[scores.index(min(scores))]
        parameters = {"alpha": self.alpha, "alpha_t": alpha}
        return self.decide(completion_id, chosen, parameters, among=arms, scores=scores)

    def _bound(self, arm: str, alpha: float) -> float:
        count = self.counts[arm]
        return count.mean - alpha * math.sqrt(math.log(self.t) / count.resolved)  # Algorithm 1

    def _scale(self) -> float:
        counts = self.counts.values()
        return math.sqrt(sum(count.squares for count in counts) / (self.t - 1)) / COST_UNIT
