"""Best of N: several answers of one policy to a context, of which the one is given that should cost its reader least.

Who judges that is a cost model (``reranked``), or the answers themselves (``consensus.py``).
The first answer is what the policy would have said anyway, the others are samples at temperature 1: with a greedy
policy the choice is between its favourite and N − 1 others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from redraft.types import Decoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from redraft.policies.adapter import AdapterHost, AdapterPolicy
    from redraft.policies.base import Policy
    from redraft.types import Contexts, Price

__all__ = ["APART", "BestOf", "Judge", "Sampler", "reranked"]

APART = 1_000_033
"""Between the seeds of one request's samples, so that those of two requests rarely meet."""


Judge = Callable[["Contexts", Sequence[Sequence[str]]], "NDArray[np.float64]"]
"""What each answer of n lists, one answer per context in each, should cost its reader, [n × contexts]."""


@runtime_checkable
class Sampler(Protocol):
    """A policy that draws several answers to a context at less than the price of asking so often."""

    def samples(self, contexts: Contexts, decoding: Decoding, seeds: Sequence[int]) -> list[list[str]]:
        """For each seed one response per context, as ``respond`` with that seed."""
        ...


def reranked(host: AdapterHost, policy: AdapterPolicy, n: int, price: Price) -> BestOf:
    """Best of ``n`` answers of a host's policy by a price that reads texts with the host's own base model."""

    def judge(contexts: Contexts, candidates: Sequence[Sequence[str]]) -> NDArray[np.float64]:
        with host.as_base():
            return np.stack([price(contexts, answers) for answers in candidates])

    return BestOf(f"{policy.name}, best of {n}", policy, n, judge)


@dataclass(frozen=True)
class BestOf:
    """Answers as ``policy`` does, but chooses among ``n`` answers as ``judge`` says; ties go to the first."""

    name: str
    policy: Policy
    n: int
    judge: Judge

    def respond(self, contexts: Contexts, decoding: Decoding) -> list[str]:
        """One response per context, as ``redraft.policies.base.Policy`` says."""
        return self.choose(contexts, self.candidates(contexts, decoding))

    def candidates(self, contexts: Contexts, decoding: Decoding) -> list[list[str]]:
        """The ``n`` answers to choose from: n lists of one response per context."""
        seeds = [decoding.seed + APART * number for number in range(self.n)]
        if decoding.temperature:
            return self._sampled(contexts, decoding, seeds)
        first = self.policy.respond(contexts, decoding)
        return [first, *self._sampled(contexts, replace(decoding, temperature=1.0), seeds[1:])]

    def choose(self, contexts: Contexts, candidates: Sequence[Sequence[str]]) -> list[str]:
        """Of such lists the cheapest answer to each context."""
        best = self.judge(contexts, candidates).argmin(axis=0)
        return [candidates[int(number)][place] for place, number in enumerate(best)]

    def _sampled(self, contexts: Contexts, decoding: Decoding, seeds: Sequence[int]) -> list[list[str]]:
        if isinstance(self.policy, Sampler):
            return self.policy.samples(contexts, decoding, seeds)
        return [self.policy.respond(contexts, replace(decoding, seed=seed)) for seed in seeds]
