"""Every policy with the same probability: for a first log, or an unbiased comparison of policies."""

from __future__ import annotations

import random
from collections.abc import Sequence

from redraft.select.base import Selector
from redraft.types import Decision

__all__ = ["Uniform"]


class Uniform(Selector):
    """Choose each of K policies with propensity 1/K, whatever the costs.

    The draw depends on the seed and the completion's id alone, never on call order, so that it can be repeated
    from the log and by another process.

    Parameters
    ----------
    arms
        Names of the policies, at least one, none twice.
    seed
        Of the draws.

    Examples
    --------
    >>> Uniform(["a", "b"], seed=1).select("x").propensities
    (0.5, 0.5)
    """

    name = "uniform"

    def __init__(self, arms: Sequence[str], seed: int = 0) -> None:
        super().__init__(arms)
        self.seed = seed

    def select(self, completion_id: str, among: Sequence[str] | None = None) -> Decision:
        """Draw the policy that answers."""
        arms = among or self.arms
        # random() on a string seed is the one stream that Python promises never to change. Where some arms cannot
        # answer, the draw must not depend on the one that chose among all.
        salt = "" if len(arms) == len(self.arms) else "/" + "/".join(arms)
        draw = random.Random(f"{self.seed}/{completion_id}{salt}").random()
        chosen, propensities = arms[int(draw * len(arms))], (1 / len(arms),) * len(arms)
        return self.decide(completion_id, chosen, {"seed": self.seed}, among=arms, propensities=propensities)
