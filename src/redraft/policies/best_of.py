"""Best of N: several answers of one policy to a context, of which the one is given that should cost its reader least.

The first answer is what the policy would have said anyway, the others are samples at temperature 1: with a greedy
policy the choice is between its favourite and N − 1 others. Who judges is a cost model, or the answers themselves.

*Consensus* is the answer that on average needs the least edits to become another: minimum Bayes risk decoding (Kumar &
Byrne, 2004) with the cost Δ as its loss. What a policy learnt from edits is what readers leave standing, so its samples
stand for y′, and no cost model is needed. A greedy answer follows single tokens, and where an answer can begin in many
ways and end in one, ending may be the likeliest of them; an answer that lacks what the others say is far from them all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from redraft.types import Decoding

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from redraft.config import Settings
    from redraft.costs import Cost
    from redraft.policies.adapter import AdapterHost, AdapterPolicy
    from redraft.policies.base import Policy
    from redraft.types import Contexts, Price

__all__ = ["APART", "BestOf", "Judge", "Sampler", "agreed", "best_of", "reranked", "risks", "task_judge"]

APART = 1_000_033
"""Between the seeds of one request's samples, so that those of two requests rarely meet."""


_NAME = re.compile(r"(?P<of>.+)\+(?:best(?P<best>[2-9]|[1-9]\d)|consensus(?P<consensus>[3-9]|[1-9]\d))")

Judge = Callable[["Contexts", Sequence[Sequence[str]]], "NDArray[np.float64]"]
"""What each answer of n lists, one answer per context in each, should cost its reader, [n × contexts]."""


@runtime_checkable
class Sampler(Protocol):
    """A policy that draws several answers to a context at less than the price of asking so often."""

    def samples(self, contexts: Contexts, decoding: Decoding, seeds: Sequence[int]) -> list[list[str]]:
        """For each seed one response per context, as ``respond`` with that seed."""
        ...


def best_of(policy: str) -> tuple[str, int, str] | None:
    """What a reranked policy's name says: whose answers, how many, and what judges them.

    >>> best_of("email/sft@3+best4"), best_of("email/sft@3+consensus8"), best_of("email/sft@3")
    (('email/sft@3', 4, 'best'), ('email/sft@3', 8, 'consensus'), None)
    """
    found = _NAME.fullmatch(policy)
    if found is None:
        return None
    by = "best" if found["best"] else "consensus"
    return found["of"], int(found[by]), by


def task_judge(by: str, task: str, settings: Settings, root: Path, host: Callable[[], AdapterHost]) -> Judge:
    """Who judges a task's answers: ``consensus``, or else its latest cost model below ``root``, over a host's base.

    Raises ``DataError`` where there is no cost model of this base model.
    """
    if by == "consensus":
        return _agreement(settings.cost_of(task))
    from redraft.train.cost_run import read_bound

    with host().as_base() as base:
        bound = read_bound(root, task, base, settings.cache)
    return _prices(host(), bound)


def reranked(host: AdapterHost, policy: AdapterPolicy, n: int, price: Price) -> BestOf:
    """Best of ``n`` answers of a host's policy by a price that reads texts with the host's own base model."""
    return BestOf(f"{policy.name}, best of {n}", policy, n, _prices(host, price))


def agreed(policy: Policy, n: int, cost: Cost) -> BestOf:
    """The consensus of ``n`` answers of a policy."""
    return BestOf(f"{policy.name}, consensus of {n}", policy, n, _agreement(cost))


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


def _prices(host: AdapterHost, price: Price) -> Judge:
    def judge(contexts: Contexts, candidates: Sequence[Sequence[str]]) -> NDArray[np.float64]:
        texts = [text for answers in candidates for text in answers]
        with host.as_base():
            return price([*contexts] * len(candidates), texts).reshape(len(candidates), -1)

    return judge


def _agreement(cost: Cost) -> Judge:
    def judge(_: Contexts, candidates: Sequence[Sequence[str]]) -> NDArray[np.float64]:
        return np.array([risks(answers, cost) for answers in zip(*candidates, strict=True)]).T

    return judge


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
