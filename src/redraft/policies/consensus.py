"""Consensus: of several answers of one policy the one that on average needs the least edits to become another of them.

Minimum Bayes risk decoding (Kumar & Byrne, 2004) with the cost Δ as its loss. What a policy learnt from edits is what
readers leave standing, so that its samples stand for y′, and an answer's mean cost to become one of them for what it
should cost its reader. No cost model is needed. A greedy answer follows single tokens, and where an answer can begin
in many ways and end in one, ending may be the likeliest of them; an answer that lacks what the others say is far from
all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from redraft.policies.best_of import BestOf

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from redraft.costs import Cost
    from redraft.policies.base import Policy
    from redraft.types import Contexts

__all__ = ["agreed", "risks"]


def risks(answers: Sequence[str], cost: Cost) -> list[float]:
    """Of each of several answers to one context, the mean of Δ(it, another): what an edit of it should cost.

    >>> from redraft.costs import get_cost
    >>> risks(["Dear Ann", "Dear Ann", "Ann"], get_cost("word"))
    [0.25, 0.25, 1.0]
    """
    known: dict[tuple[str, str], float] = {}
    for a in answers:
        for b in answers:
            if (a, b) not in known:
                known[a, b] = cost(a, b)
    others = max(1, len(answers) - 1)
    return [(sum(known[a, b] for b in answers) - known[a, a]) / others for a in answers]


def agreed(policy: Policy, n: int, cost: Cost) -> BestOf:
    """The consensus of ``n`` answers of a policy."""

    def judge(_: Contexts, candidates: Sequence[Sequence[str]]) -> NDArray[np.float64]:
        return np.array([risks(answers, cost) for answers in zip(*candidates, strict=True)]).T

    return BestOf(f"{policy.name}, consensus of {n}", policy, n, judge)
