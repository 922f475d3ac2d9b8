"""One task's selector in memory: the statistics of the log, plus the decisions that are not yet written to it.

Statistics come from the log after every transaction of this process and include what other processes wrote by then.
Decisions not yet written are counted on top, so that concurrent requests are spread over the policies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from redraft.select import Selector
from redraft.types import COST_UNIT, Count, Decision

__all__ = ["Board"]

_NOTHING = Count()


class Board:
    """``selector`` is new; its arms are the task's policies. For one event loop, not for threads."""

    def __init__(self, selector: Selector) -> None:
        self.selector = selector
        self._open: dict[str, Decision] = {}

    def settle(self, found: Mapping[str, Count]) -> None:
        """Take over the log's statistics; retired policies are ignored."""
        # Sums are copies: selectors count in place.
        self.selector.counts = {arm: found.get(arm, _NOTHING) + _NOTHING for arm in self.selector.arms}
        for decision in self._open.values():
            self.selector.record(decision)

    def choose(self, completion_id: str, among: Sequence[str] | None = None) -> Decision:
        """Let the selector choose, ``among`` the arms that can answer; until ``close`` it counts as not yet written."""
        self.close(completion_id)
        decision = self.selector.select(completion_id, among)
        self._open[completion_id] = decision
        return decision

    def keep(self, completion_id: str, policy: str) -> Decision:
        """The decision for a later turn of a conversation, which keeps its policy; the selector learns from it."""
        self.close(completion_id)
        decision = self.selector.decide(completion_id, policy, {"conversation": True})
        self._open[completion_id] = decision
        return decision

    def close(self, completion_id: str) -> None:
        """Stop counting a decision on top: ``settle`` has brought it, or it led to no answer."""
        decision = self._open.pop(completion_id, None)
        if decision is not None:
            self.selector.withdraw(decision)

    def counts(self) -> Mapping[str, Count]:
        """What is known about each arm, with decisions not yet written; a copy."""
        return {arm: count + _NOTHING for arm, count in self.selector.counts.items()}

    def numbers(self, policy: str) -> dict[str, Any]:
        """What is known about a policy, as JSON; the interval is its mean ± 1.96 standard errors, from 2 edits on."""
        count = self.selector.counts.get(policy, _NOTHING)
        mean = count.mean if count.resolved else None
        interval = None
        if mean is not None and count.resolved > 1:
            biased = max(count.squares / COST_UNIT**2 / count.resolved - mean**2, 0)
            variance = biased * count.resolved / (count.resolved - 1)
            half = 1.96 * math.sqrt(variance / count.resolved)
            interval = [mean - half, mean + half]
        return {"decisions": count.decisions, "edits": count.resolved, "mean_cost": mean, "interval": interval}
