"""Which of two policies would leave less to edit, told from held-out edits of drafts that either or others wrote.

p_j = Δ(y_j, y') prices policy j's answer y_j, made as it is served, against a held-out edit y'. It stands for c_j, what
an edit of that answer itself would cost, and errs by *anchoring*: y' was made from another draft and favours whatever
resembles it. A lazy user shows it: who accepts a draft with probability 1 − γ whatever it says, and else wants z, has
c_j = γ·Δ(y_j, z), but against the edits of k's drafts p_j = c_j + (1 − γ)·Δ(y_j, y_k). The estimates of c_j − c_k, with
mean_k over edits of k's drafts, and their errors for such users are

    symmetric   ½·[mean_k(p_j − p_k) + mean_j(p_j − p_k)]   ½·(1 − γ)·(Δ(y_j, y_k) − Δ(y_k, y_j)), often 0
    direct      mean_m(p_j − p_k), m neither j nor k        (1 − γ)·(Δ(y_j, y_m) − Δ(y_k, y_m)), of either sign
    undecided   mean_k(p_j − p_k)                           (1 − γ)·Δ(y_j, y_k) ≥ 0, in favour of the author k

The first of them that has the edits is taken, in this order: more edits do not take a direct estimate's error away. A
policy's price against an edit of its own draft is the draft's cost c, or that of its answer where it was asked anew:
drafts may have been sampled, which costs more than what is served. Edits are taken to be independent. No text, log or
model here: prices are made elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from redraft.errors import DataError
from redraft.stats import Interval, mean_interval, mean_of_means

__all__ = ["LEAST", "SLACK", "Difference", "Priced", "Standing", "Verdict", "against", "anchoring_bias"]

LEAST = 16
"""Edits that a verdict takes, in the symmetric form half of them from each side: a bootstrap of fewer is too sure."""

SLACK = 2.0
"""Pairs differ: like policies favour their own edits nearly twice as much as unlike ones on which it was measured."""

Standing = Literal["direct", "symmetric", "undecided"]
Verdict = Literal["better", "worse"]


@dataclass(frozen=True, slots=True)
class Priced:
    """One held-out edit y' and what it makes of policies' answers, in units of the task's cost.

    ``author`` is the policy that wrote the draft ("" where none of ours did) and ``cost`` = Δ(draft, y'). ``prices``
    has Δ(y_j, y') for each policy j that was asked.
    """

    id: str
    author: str
    cost: float
    prices: Mapping[str, float]

    def price(self, policy: str) -> float | None:
        """p_j, of the draft itself where its author was not asked anew; ``None`` where it is not known."""
        return self.prices.get(policy, self.cost if policy == self.author else None)


@dataclass(frozen=True, slots=True)
class Difference:
    """Cost of ``one`` minus cost of ``other`` with its 95 % interval: below 0, ``one`` leaves less to edit.

    ``told`` says whether ``one`` is better or worse, ``None`` where these edits cannot tell. ``standing`` is the form
    of the estimate and ``edits`` how many it rests on.
    """

    one: str
    other: str
    difference: Interval
    standing: Standing
    edits: int
    told: Verdict | None


def against(one: str, other: str, edits: Sequence[Priced], bias: Interval | None = None) -> Difference:
    """Compare two policies by held-out edits; those that price only one of them do not count.

    Where only drafts of one of them have edits, they favour that author: a challenger that is surely cheaper even so is
    better. That it is worse can be told only with ``bias``, the task's anchoring bias, by which the interval is then
    widened on that side, ``SLACK`` times its upper end; without it the interval is as measured.

    Raises ``DataError`` when no edit prices both.
    """
    if one > other:  # in one order, so that the draws are the same and the difference is exactly the opposite
        return _turned(against(other, one, edits, bias))
    sets = _sets(one, other, edits)
    mine, others, theirs = sets[one], sets[""], sets[other]
    if min(len(mine), len(theirs)) >= LEAST // 2:
        return _found(one, other, mean_of_means([theirs, mine]), "symmetric", len(mine) + len(theirs))
    if len(others) >= LEAST or not (mine or theirs):
        if not others:
            raise DataError(f"{one} and {other}: no held-out edit is priced for both: answer the same edits with both")
        return _found(one, other, mean_interval(others), "direct", len(others))
    if len(theirs) >= len(mine):
        return _one_sided(one, other, theirs, bias)
    return _turned(_one_sided(other, one, [-x for x in mine], bias))


def anchoring_bias(edits: Sequence[Priced]) -> Interval | None:
    """How far an edit favours its draft's author, b = ½·[mean_k(p_j − p_k) + mean_j(p_k − p_j)], over pairs j, k.

    Only pairs count of which both have half of ``LEAST`` edits that price the other; ``None`` without any. The mean is
    of the pairs, the bounds are the lowest and the highest of theirs: the next pair's bias may be like any of them.
    """
    found: list[Interval] = []
    for one, other in combinations(sorted({edit.author for edit in edits} - {""}), 2):
        sets = _sets(one, other, edits)
        if min(len(sets[one]), len(sets[other])) >= LEAST // 2:
            found.append(mean_of_means([sets[other], [-x for x in sets[one]]]))
    if not found:
        return None
    return Interval(sum(b.mean for b in found) / len(found), min(b.low for b in found), max(b.high for b in found))


def _sets(one: str, other: str, edits: Sequence[Priced]) -> dict[str, list[float]]:
    """p_one − p_other by the draft's author, "" for everybody else."""
    sets: dict[str, list[float]] = {one: [], "": [], other: []}
    for edit in edits:
        a, b = edit.price(one), edit.price(other)
        if a is not None and b is not None:
            sets[edit.author if edit.author in (one, other) else ""].append(a - b)
    return sets


def _found(one: str, other: str, difference: Interval, standing: Standing, edits: int) -> Difference:
    told: Verdict | None = "better" if difference.high < 0 else "worse" if difference.low > 0 else None
    return Difference(one, other, difference, standing, edits, told if edits >= LEAST else None)


def _one_sided(challenger: str, author: str, values: Sequence[float], bias: Interval | None) -> Difference:
    """From p − c on the author's edits, in which the anchoring bias is added to the true difference."""
    measured = mean_interval(values)
    if bias is None:
        found = _found(challenger, author, measured, "undecided", len(values))
        return found if found.told == "better" else replace(found, told=None)
    low = measured.low - SLACK * max(0.0, bias.high)
    widened = Interval(measured.mean - max(0.0, bias.mean), low, measured.high)
    return _found(challenger, author, widened, "undecided", len(values))


def _turned(found: Difference) -> Difference:
    """The same comparison, seen from the other policy."""
    d, told = found.difference, found.told
    difference = Interval(-d.mean, -d.high, -d.low)
    opposite: Verdict | None = told and ("worse" if told == "better" else "better")
    return Difference(found.other, found.one, difference, found.standing, found.edits, opposite)
