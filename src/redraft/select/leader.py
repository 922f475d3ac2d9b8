r"""Leader: play what the edits so far would have cost least with, since one edit tells what *every* policy would cost.

When y' arrives for the answer of policy k, the answers of the others to the same request are priced against it:
p_j = Δ(y_j, y'). Then nothing has to be played to be known, and follow-the-leader on these prices pays for no trying
out. What is wrong with prices is taken out of them (results/LOG.md):

- Who accepts a draft unread says nothing about the others, who accepts a good one does. Whatever is shown is accepted
  unread in a share u of rounds, at most the least share in which any policy's drafts are accepted. So of a policy whose
  drafts are accepted in a share a, accepted ones count 1 − u/a each, changed ones fully.
- An edit favours the draft it was made from, by b_jk = ½·[mean_k(p_j − c_k) + mean_j(p_k − c_j)] between j and k. It is
  taken off, each pair's drawn towards the mean of all pairs, which is not below 0, the more the fewer edits there are.
  Where only one of a pair has played, that mean is all that is known, hence a little drawing:

a policy is drawn with probability 1 / (K·(1 + 2·N·gap / score of the leader)), the rest is the leader's ("inverse gap
weighting", Foster & Rakhlin 2020), N the edits that price each policy, at least ``EDITS``. The probabilities are exact
and logged.

When tastes change, so do prices: where the last edits differ from those before by more than chance allows, only they
count. Assumed: users accept unread whoever wrote, and what favours an author is alike both ways.
"""

from __future__ import annotations

import math
import random
from bisect import bisect, insort
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from redraft.errors import DataError
from redraft.select.base import to_units
from redraft.select.ucb import LateEnsemble
from redraft.types import COST_UNIT, Decision

__all__ = ["EDITS", "Leader", "Seen"]

EDITS = 16
"""What a first log tells well; and what a pair's n·m / (n + m) edits are weighed against where its bias is drawn."""
WINDOW = 256  # rounds that count: more would tell little more, and a slow drift is forgotten
STEP = 8  # rounds between two looks for a change, and edits between the places where it may have been
ALARM = 4.5  # standard errors: a false alarm costs what was known before it
Pair = tuple[str, str]
"""Who wrote the draft, and whose answer is priced."""


class Seen(NamedTuple):
    """An edit: its place in time, who wrote the draft, what that cost, and policies' prices, in units."""

    t: int
    id: str
    author: str
    cost: int
    prices: Mapping[str, int]


class Leader(LateEnsemble):
    """Play the policy of least price, others with probabilities that fall with what they cost more.

    Until every policy that can answer has a price this is ``LateEnsemble``.

    Parameters
    ----------
    arms
        Names of the policies, at least one, none twice.
    seed
        Of the draws, which depend on it, the completion's id and the arms that can answer.

    Examples
    --------
    >>> leader = Leader(["base", "email/sft@1"])
    >>> for i in range(16):  # edits of a first log, all of base's drafts
    ...     leader.price(f"old{i}", "base", 0.9, {"email/sft@1": 0.3})
    >>> leader.select("a").chosen
    'email/sft@1'
    """

    name = "leader"

    def __init__(self, arms: Sequence[str], seed: int = 0) -> None:
        super().__init__(arms)
        self.seed = seed
        self.seen: list[Seen] = []
        self._ids, self._sums = set[str](), _Sums()
        self._scores: dict[str, float] | None = None

    def price(self, edit_id: str, author: str, cost: float, prices: Mapping[str, float], t: int = 0) -> None:
        """Learn what an edit of ``author``'s draft, which cost ``cost``, makes of other policies' answers.

        ``t`` is the round, a number that never falls; edits of a log from before have 0. What was known of this edit is
        replaced. Policies that are no arms are passed over.
        """
        told = {**prices, author: cost}
        new = Seen(t, edit_id, author, to_units(cost), {arm: to_units(told[arm]) for arm in self.arms if arm in told})
        last, known = self.seen[-1] if self.seen else None, edit_id in self._ids
        if last is not None and not known and last[:2] < new[:2] and last.t // STEP == t // STEP:
            self.seen.append(new)
            self._ids.add(edit_id)
            self._sums.add(new)
            self._scores = None
            return
        if known:
            self.seen = [one for one in self.seen if one.id != edit_id]
        insort(self.seen, new, key=lambda one: one[:2])
        self._learn()

    def select(self, completion_id: str, among: Sequence[str] | None = None) -> Decision:
        """Draw the policy that answers; ``scores`` are prices without bias, lower is better."""
        arms = among or self.arms
        if self._scores is None:
            self._scores = self._sums.scores()
        known = self._scores
        if not all(arm in known for arm in arms):
            return super().select(completion_id, among)
        scores = tuple(known[arm] for arm in arms)
        edits = min(self._sums.told[arm] for arm in arms)
        propensities = _propensities(scores, max(EDITS, edits), self._sums.mean)
        draw = random.Random(f"{self.seed}/{completion_id}/{'/'.join(arms)}").random()
        place = bisect(list(accumulate(propensities)), draw)
        chosen = arms[place] if place < len(arms) else arms[scores.index(min(scores))]  # a sum may end just below 1
        parameters = {"seed": self.seed, "edits": edits}
        return self.decide(completion_id, chosen, parameters, among=arms, scores=scores, propensities=propensities)

    def state(self) -> dict[str, Any]:
        """All that was learnt, as JSON."""
        return {**super().state(), "seen": [[*one[:-1], dict(one.prices)] for one in self.seen]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a ``state``, also that of a rule that knows no prices."""
        super().restore(state)
        try:
            self.seen = [Seen(t, name, who, cost, dict(prices)) for t, name, who, cost, prices in state.get("seen", ())]
        except (TypeError, ValueError) as error:
            raise DataError(f"selector state {state!r}: not what state() returns ({error})") from error
        self._learn()

    def _learn(self) -> None:
        """Count anew. What counts depends on the edits alone, not on the order in which they came."""
        now = self.seen[-1].t // STEP * STEP if self.seen else 0
        self.seen = [one for one in self.seen if one.t > now - WINDOW]
        since = _change([one for one in self.seen if one.t < now], self.arms)
        self._ids, self._sums, self._scores = {one.id for one in self.seen}, _Sums(), None
        for one in self.seen:
            if one[:2] >= since:
                self._sums.add(one)


class _Sums:
    """Sums of prices in units, apart for drafts that were changed and that were not, and what they say policies cost.

    ``told`` is how many edits price each policy.
    """

    def __init__(self) -> None:
        self.told, self.cost = dict[str, int](), dict[str, int]()  # the latter Σ c_k by author
        self.drafts = dict[str, int](), dict[str, int]()  # by author, accepted and changed
        self.count = dict[Pair, int](), dict[Pair, int]()
        self.more = dict[Pair, int](), dict[Pair, int]()  # Σ p_j − c_k

    def add(self, seen: Seen) -> None:
        author, cost, changed = seen.author, seen.cost, seen.cost > 0
        drafts, count, more = self.drafts[changed], self.count[changed], self.more[changed]
        drafts[author] = drafts.get(author, 0) + 1
        self.cost[author] = self.cost.get(author, 0) + cost
        for arm, price in seen.prices.items():
            pair = author, arm
            count[pair] = count.get(pair, 0) + 1
            more[pair] = more.get(pair, 0) + price - cost
            self.told[arm] = self.told.get(arm, 0) + 1

    @property
    def mean(self) -> float:
        """Mean cost of the drafts that were changed, 0 without any."""
        changed = sum(self.drafts[True].values())
        return sum(self.cost.values()) / changed / COST_UNIT if changed else 0.0

    def scores(self) -> dict[str, float]:
        """Mean price of each policy that has one, without the bias towards drafts' authors."""
        accepted, changed = self.drafts
        read = self._read()
        n: dict[Pair, float] = dict(self.count[True])
        more: dict[Pair, float] = dict(self.more[True])
        for pair, found in self.count[False].items():
            if weight := read[pair[0]]:
                n[pair] = n.get(pair, 0) + weight * found
                more[pair] = more.get(pair, 0) + weight * self.more[False][pair]
        both: dict[Pair, tuple[float, float]] = {}
        weight_sum = bias_sum = 0.0
        for (k, j), edits in n.items():
            if k < j and (others := n.get((j, k))):
                weight, bias = edits * others / (edits + others), (more[k, j] / edits + more[j, k] / others) / 2
                both[k, j] = both[j, k] = weight, weight * bias
                weight_sum, bias_sum = weight_sum + weight, bias_sum + weight * bias
        pooled = max(0.0, bias_sum / weight_sum) if weight_sum else 0.0
        own = {k: cost / (changed.get(k, 0) + read[k] * accepted.get(k, 0) or 1) for k, cost in self.cost.items()}
        sums, counts = dict[str, float](), dict[str, float]()
        for (k, j), edits in n.items():
            total = edits * own[k] + more[k, j]
            if k != j:
                weight, weighed = both.get((k, j), (0.0, 0.0))
                total -= edits * (weighed + EDITS * pooled) / (weight + EDITS)
            sums[j] = sums.get(j, 0.0) + total
            counts[j] = counts.get(j, 0.0) + edits
        return {arm: sums[arm] / edits / COST_UNIT for arm, edits in counts.items()}

    def _read(self) -> dict[str, float]:
        """The share of each author's accepted drafts that was read: 1 − u/a, u a standard error above what is seen."""
        accepted, changed = self.drafts
        shares = {k: (accepted.get(k, 0), accepted.get(k, 0) + changed.get(k, 0)) for k in self.cost}
        unread = min(((a + 1 + math.sqrt(a + 1)) / (n + 2) for a, n in shares.values()), default=1.0)
        return {k: max(0.0, 1 - unread * n / a) if a else 0.0 for k, (a, n) in shares.items()}


def _propensities(scores: Sequence[float], edits: int, mean: float) -> tuple[float, ...]:
    """1 / (K·(1 + 2·N·gap / least score)), the rest for the first of the best.

    A score that is hardly above 0, or below by too much bias taken off, counts as a part of the ``mean`` cost.
    """
    least, arms = min(scores), len(scores)
    unit = max(least, mean / EDITS) or 1.0
    shares = [1 / (arms * (1 + 2 * edits * (score - least) / unit)) for score in scores]
    leader = scores.index(least)
    shares[leader] = 0.0
    shares[leader] = 1.0 - sum(shares)
    return tuple(shares)


def _change(seen: Sequence[Seen], arms: Sequence[str]) -> tuple[int, str]:
    """Time and id of the edit from which on tastes are today's; before all of them where nothing tells of a change.

    What each policy costs more than the mean, apart from what edits of the same author's drafts have in common, is
    compared before and after every ``STEP`` changed drafts, by Student's t. Policies that lack a price are left out.
    """
    import numpy as np

    changed = [one for one in seen if one.cost]
    lacking = {arm for one in changed if len(one.prices) < len(arms) for arm in arms if arm not in one.prices}
    common = [arm for arm in arms if arm not in lacking]
    n = len(changed)
    before = np.arange(STEP, n - STEP + 1, STEP)
    if len(common) < 2 or not len(before):
        return 0, ""
    table = np.array([[one.prices[arm] for arm in common] for one in changed], np.float64)
    table -= table.mean(axis=1, keepdims=True)
    authors = np.array([one.author for one in changed])
    for author in set(authors.tolist()):
        table[authors == author] -= table[authors == author].mean(axis=0)
    sums, squares = table.cumsum(axis=0), (table**2).cumsum(axis=0)
    after, ahead = n - before, sums[before - 1]
    behind = sums[-1] - ahead
    spread = squares[-1] - ahead**2 / before[:, None] - behind**2 / after[:, None]
    error = np.sqrt(spread.clip(min=0.0) / (n - 2) * (1 / before + 1 / after)[:, None])
    off = (np.abs(ahead / before[:, None] - behind / after[:, None]) - ALARM * error).max(axis=1)
    best = int(off.argmax())
    return changed[before[best]][:2] if off[best] > 1 else (0, "")  # a unit of rounding tells nothing
