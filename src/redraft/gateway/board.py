"""One task's selector in memory: what the log has settled, and the decisions that are on their way to it.

Settled statistics come from the log after every transaction of this process and hold what other processes added by
then. Decisions not yet written are counted on top, so that requests that come together are spread as they should be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from redraft.log.statistics import Tally
from redraft.select import Count, Selector
from redraft.types import Decision

__all__ = ["Board"]

_NOTHING = Tally()


def _count(tally: Tally) -> Count:
    return Count(tally.decisions, tally.resolved, tally.total, tally.squares)


class Board:
    """``selector`` is fresh; its arms are the task's policies. For one event loop, not for threads."""

    def __init__(self, selector: Selector) -> None:
        self.selector = selector
        self._open: dict[str, Decision] = {}

    @property
    def arms(self) -> Sequence[str]:
        """Names of the policies that can be chosen."""
        return self.selector.arms

    def settle(self, found: Mapping[str, Tally]) -> None:
        """Take over what the log knows. Policies that are no arms any more are left aside."""
        self.selector.counts = {arm: _count(found.get(arm, _NOTHING)) for arm in self.arms}
        for decision in self._open.values():
            self.selector.record(decision)

    def choose(self, completion_id: str) -> Decision:
        """Let the selector choose; the decision counts as one on its way until ``close``."""
        decision = self.selector.select(completion_id)
        self._open[completion_id] = decision
        return decision

    def keep(self, completion_id: str, policy: str) -> Decision:
        """The decision of a conversation's later turn: its policy goes on, and the selector learns from it."""
        parameters = {"conversation": True}
        propensities = tuple(float(arm == policy) for arm in self.arms)
        decision = Decision(
            completion_id, tuple(self.arms), policy, self.selector.t, self.selector.name, parameters, None, propensities
        )
        self.selector.record(decision)
        self._open[completion_id] = decision
        return decision

    def close(self, completion_id: str) -> None:
        """A decision is no longer on its way: ``settle`` has brought it, or it led to nothing."""
        decision = self._open.pop(completion_id, None)
        if decision is not None:
            self.selector.withdraw(decision)

    def counts(self) -> Mapping[str, Count]:
        """What is known of each arm, decisions on their way included; a copy."""
        return {arm: replace(count) for arm, count in self.selector.counts.items()}
