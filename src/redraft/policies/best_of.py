"""Best of N: several answers of one policy to a context, of which the one that a cost model thinks cheapest is given.

The first answer is what the policy would have said anyway, the others are samples at temperature 1: with a greedy
policy the choice is between its favourite and N − 1 others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from redraft.types import Decoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from redraft.policies.adapter import AdapterHost, AdapterPolicy
    from redraft.policies.base import Policy
    from redraft.train.fit import Contexts, Price

__all__ = ["APART", "BestOf", "reranked"]

APART = 1_000_033
"""Between the seeds of one request's samples, so that those of two requests rarely meet."""


def reranked(host: AdapterHost, policy: AdapterPolicy, n: int, price: Price) -> BestOf:
    """Best of ``n`` answers of a host's policy by a price that reads texts with the host's own base model."""

    def plainly(contexts: Contexts, responses: Sequence[str]) -> NDArray[np.float64]:
        with host.as_base():
            return price(contexts, responses)

    return BestOf(f"{policy.name}, best of {n}", policy, n, plainly)


@dataclass(frozen=True)
class BestOf:
    """Answers as ``policy`` does, but chooses among ``n`` answers by ``price``; ties go to the first."""

    name: str
    policy: Policy
    n: int
    price: Price

    def respond(self, contexts: Contexts, decoding: Decoding) -> list[str]:
        """One response per context, as ``redraft.policies.base.Policy`` says."""
        return self.choose(contexts, self.candidates(contexts, decoding))

    def candidates(self, contexts: Contexts, decoding: Decoding) -> list[list[str]]:
        """The ``n`` answers to choose from: n lists of one response per context."""
        first = self.policy.respond(contexts, decoding)
        sampled = replace(decoding, temperature=decoding.temperature or 1.0)
        return [
            first,
            *(
                self.policy.respond(contexts, replace(sampled, seed=decoding.seed + APART * number))
                for number in range(1, self.n)
            ),
        ]

    def choose(self, contexts: Contexts, candidates: Sequence[Sequence[str]]) -> list[str]:
        """Of such lists the cheapest answer to each context."""
        prices = np.stack([self.price(contexts, answers) for answers in candidates])  # [n × contexts]
        return [candidates[int(best)][place] for place, best in enumerate(prices.argmin(axis=0))]
