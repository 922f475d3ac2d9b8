r"""Leader: play what the edits so far would have cost least with, since one edit tells what *every* policy would cost.

When y' arrives for the answer of policy k, the answers of the others to the same request are priced against it:
p_j = Δ(y_j, y'). Then nothing has to be played to be known, and follow-the-leader on these prices pays for no trying
out. Two things are wrong with the prices, and both are small once they are looked at (results/LOG.md):

- Who accepts a draft unread says nothing about the others. So only edits that changed a draft count. A user who reads
  with probability γ multiplies every policy's cost by γ, which changes no order.
- An edit favours the draft it was made from, by b_jk = ½·[mean_k(p_j − c_k) + mean_j(p_k − c_j)] between j and k, which
  is 0 where edits favour nobody. It is taken off, each pair's drawn towards that of all pairs as if that were ``EDITS``
  edits. Where only one of a pair has played, the others' is all that is known, hence a little drawing:

a policy is drawn with probability 1 / (K·(1 + 2·N·gap / score of the leader)), the rest is the leader's ("inverse gap
weighting", Foster & Rakhlin 2020), N the edits known, at least ``EDITS``. So a round's drawing costs at most the
leader's score / 2N on average. The probabilities are exact and logged.

When tastes change, so do prices: where the last edits differ from those before them by more than chance allows, only
they count.
"""

from __future__ import annotations

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
"""What a first log tells well, and so many edits all pairs' bias counts as among one pair's own."""
WINDOW = 256  # edits kept: more would tell little more, and a slow drift is forgotten
STEP = 8  # edits between two looks for a change, and between the places where it may have been
ALARM = 4.5  # standard errors: a false alarm costs what was known before it
Pair = tuple[str, str]
"""Who wrote the draft, and whose answer is priced."""


class Seen(NamedTuple):
    """A changed draft: its place in time, who wrote it, what it cost, and policies' prices, in units."""

    t: int
    id: str
    author: str
    cost: int
    prices: Mapping[str, int]


class Leader(LateEnsemble):
    """Play the policy of least price on changed drafts, others with probabilities that fall with what they cost more.

    Until every policy that can answer has a price this is ``LateEnsemble``.

    Parameters
    ----------
    arms
        Names of the policies, at least one, none twice.
    seed
        Of the draws, which depend on it and the completion's id alone.

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
        self._since, self._sums = 0, _Sums()
        self._scores: dict[str, float] | None = {}

    def price(self, edit_id: str, author: str, cost: float, prices: Mapping[str, float], t: int = 0) -> None:
        """Learn what an edit of ``author``'s draft, which cost ``cost``, makes of other policies' answers.

        ``t`` is the decision's; edits of a log from before have 0. What was known of this edit is replaced. Policies
        that are no arms are passed over, and so is a draft that was left as it was.
        """
        told = {**prices, author: cost}
        new = Seen(t, edit_id, author, to_units(cost), {arm: to_units(told[arm]) for arm in self.arms if arm in told})
        known = next((place for place, one in enumerate(self.seen) if one.id == edit_id), None)
        if known is None and new.cost and (not self.seen or self.seen[-1][:2] < new[:2]):
            self.seen.append(new)
            self._sums.add(new)
            self._scores = None
            if len(self.seen) % STEP == 0:
                self._learn()
            return
        if known is not None:
            del self.seen[known]
        if new.cost:
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
        edits = len(self.seen) - self._since
        scores = tuple(known[arm] for arm in arms)
        propensities = _propensities(scores, max(EDITS, edits))
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
        del self.seen[: max(0, len(self.seen) - WINDOW) // STEP * STEP]
        self._since, self._sums, self._scores = _change(self.seen, self.arms), _Sums(), None
        for one in self.seen[self._since :]:
            self._sums.add(one)


class _Sums:
    """Sums of prices by author, in units, and what they say each policy costs."""

    def __init__(self) -> None:
        self.count, self.more = dict[Pair, int](), dict[Pair, int]()  # edits, and Σ p_j − c_k over them
        self.drafts, self.cost = dict[str, int](), dict[str, int]()  # edits of an author's drafts, and Σ c_k

    def add(self, seen: Seen) -> None:
        author, cost, count, more = seen.author, seen.cost, self.count, self.more
        self.drafts[author] = self.drafts.get(author, 0) + 1
        self.cost[author] = self.cost.get(author, 0) + cost
        for arm, price in seen.prices.items():
            pair = author, arm
            count[pair] = count.get(pair, 0) + 1
            more[pair] = more.get(pair, 0) + price - cost

    def scores(self) -> dict[str, float]:
        """Mean price of each policy that has one, without the bias towards drafts' authors."""
        count, more = self.count, self.more
        both: dict[Pair, tuple[float, float]] = {}
        weight_sum = bias_sum = 0.0
        for (k, j), n in count.items():
            if k < j and (m := count.get((j, k))):
                weight, bias = n * m / (n + m), (more[k, j] / n + more[j, k] / m) / 2
                both[k, j] = both[j, k] = weight, weight * bias
                weight_sum, bias_sum = weight_sum + weight, bias_sum + weight * bias
        pooled = max(0.0, bias_sum / weight_sum) if weight_sum else 0.0
        sums, counts = dict[str, float](), dict[str, int]()
        for (k, j), n in count.items():
            total = n * self.cost[k] / self.drafts[k] + more[k, j]
            if k != j:
                weight, weighed = both.get((k, j), (0.0, 0.0))
                total -= n * (weighed + EDITS * pooled) / (weight + EDITS)
            sums[j] = sums.get(j, 0.0) + total
            counts[j] = counts.get(j, 0) + n
        return {arm: sums[arm] / n / COST_UNIT for arm, n in counts.items()}


def _propensities(scores: Sequence[float], edits: int) -> tuple[float, ...]:
    """1 / (K·(1 + 2·N·gap / least score)), the rest for the first of the best."""
    least, arms = min(scores), len(scores)
    unit = least if least > 0 else sum(abs(score) for score in scores) / arms or 1.0
    shares = [1 / (arms * (1 + 2 * edits * (score - least) / unit)) for score in scores]
    leader = scores.index(least)
    shares[leader] = 0.0
    shares[leader] = 1.0 - sum(shares)
    return tuple(shares)


def _change(seen: Sequence[Seen], arms: Sequence[str]) -> int:
    """The place in ``seen`` from which on tastes are today's: 0 if nothing tells that they changed.

    What each policy costs more than the mean is compared before and after every ``STEP`` edits, by Welch's t.
    """
    import numpy as np

    lacking = {arm for one in seen if len(one.prices) < len(arms) for arm in arms if arm not in one.prices}
    common = [arm for arm in arms if arm not in lacking]
    n = len(seen) // STEP * STEP
    if len(common) < 2 or n < 2 * STEP:
        return 0
    table = np.array([[one.prices[arm] for arm in common] for one in seen[:n]], np.float64)
    table -= table.mean(axis=1, keepdims=True)
    sums, squares = table.cumsum(axis=0), (table**2).cumsum(axis=0)
    before = np.arange(STEP, n - STEP + 1, STEP)
    after = n - before
    ahead, behind = sums[before - 1], sums[-1] - sums[before - 1]
    spread = squares[before - 1] - ahead**2 / before[:, None]
    spread += squares[-1] - squares[before - 1] - behind**2 / after[:, None]
    error = np.sqrt(spread / (n - 2) * (1 / before + 1 / after)[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.nan_to_num(np.abs(ahead / before[:, None] - behind / after[:, None]) / error).max(axis=1)
    best = int(off.argmax())
    return int(before[best]) if off[best] > ALARM else 0
