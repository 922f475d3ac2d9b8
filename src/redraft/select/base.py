"""What a selector is, and what every one of them counts.

A selector is constructed, asked (``select``) and told (``update``). Edits arrive late, in any order, revised or never,
so ``update`` names the decision that a cost belongs to. The state is four integers per policy, and with ``Leader`` the
prices of its last edits, so that order cannot change it and replaying a log gives the live state exactly. Costs are
minimised. Nothing here knows HTTP, storage or models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, TypeVar

from redraft.errors import ConfigError, DataError
from redraft.types import COST_UNIT, Count, Decision

__all__ = ["MAX_COST", "Selector", "rebuild", "to_units"]

MAX_COST = 1e12
"""Far above any edit distance, and low enough that sums of squares stay within a float's range."""

S = TypeVar("S", bound="Selector")


class Selector(ABC):
    """A rule that chooses policies. A subclass adds ``name`` and ``select``; the bookkeeping is the same for all.

    Parameters
    ----------
    arms
        Names of the policies, at least one, none twice.

    Raises
    ------
    ConfigError
        On arms that cannot be used, and by every method on a decision for a policy that is not among them.
    DataError
        By ``update`` and ``correct`` on a cost that is negative, not finite or beyond ``MAX_COST``.
    """

    name: ClassVar[str]
    """The rule's key in ``SELECTORS`` and in logged decisions."""

    def __init__(self, arms: Sequence[str]) -> None:
        self.arms = tuple(arms)
        if isinstance(arms, str) or not self.arms or "" in self.arms or len(set(self.arms)) < len(self.arms):
            raise ConfigError(f"arms = {arms!r}: give a list of at least one policy name, none empty and none twice")
        self.counts = {arm: Count() for arm in self.arms}

    @abstractmethod
    def select(self, completion_id: str, among: Sequence[str] | None = None) -> Decision:
        """Choose the policy that answers, record the decision and return it with what made it.

        ``among`` are the arms that can answer now, in the order of ``arms``; by default all can.
        """

    @property
    def t(self) -> int:
        """Resolved decisions plus one: Algorithm 1's round number, with delayed edits."""
        return 1 + sum(count.resolved for count in self.counts.values())

    def decide(
        self,
        completion_id: str,
        chosen: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        among: Sequence[str] | None = None,
        scores: tuple[float, ...] | None = None,
        propensities: tuple[float, ...] | None = None,
    ) -> Decision:
        """Record a choice and return it as a decision. Without ``propensities`` nothing was left to chance."""
        candidates = self.arms if among is None else tuple(among)
        decision = Decision(
            completion_id=completion_id,
            candidates=candidates,
            chosen=chosen,
            t=self.t,
            selector=self.name,
            parameters=parameters or {},
            scores=scores,
            propensities=propensities or tuple(float(arm == chosen) for arm in candidates),
        )
        self.record(decision)
        return decision

    def record(self, decision: Decision) -> None:
        """Count a decision that was made elsewhere or before: another process, a log."""
        self._count(decision).decisions += 1

    def withdraw(self, decision: Decision) -> None:
        """Take back a decision that led to no completion, e.g. because the policy failed."""
        count = self._count(decision)
        if count.decisions <= count.resolved:
            raise DataError(f"withdraw {decision.completion_id!r}: every decision for {decision.chosen!r} is resolved")
        count.decisions -= 1

    def update(self, decision: Decision, cost: float) -> None:
        """Resolve a decision with the cost of its edit."""
        count, units = self._count(decision), to_units(cost)
        count.resolved += 1
        count.total += units
        count.squares += units**2

    def correct(self, decision: Decision, old_cost: float, new_cost: float) -> None:
        """Replace the cost of a resolved decision, after a revised edit: the sums change, N does not."""
        count, old, new = self._count(decision), to_units(old_cost), to_units(new_cost)
        if count.resolved == 0 or old > count.total:
            raise DataError(
                f"correct {decision.completion_id!r}: cost {old_cost} was never counted for {decision.chosen!r}; "
                "call update first"
            )
        count.total += new - old
        count.squares += new**2 - old**2

    def state(self) -> dict[str, Any]:
        """All that was learnt, as JSON; ``arms`` is the same for every rule: one can go on where another stopped."""
        return {"arms": {arm: asdict(count) for arm, count in self.counts.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a ``state``; raises ``ConfigError`` where its policies are not this selector's."""
        try:
            counts = {str(arm): Count(**numbers) for arm, numbers in state["arms"].items()}
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"selector state {state!r}: not what state() returns ({error})") from error
        if set(counts) != set(self.arms):
            raise ConfigError(f"selector state has policies {sorted(counts)}, not {sorted(self.arms)}: rebuild it")
        self.counts = counts

    def _count(self, decision: Decision) -> Count:
        try:
            return self.counts[decision.chosen]
        except KeyError:
            raise ConfigError(
                f"decision {decision.completion_id!r} chose {decision.chosen!r}: not among {', '.join(self.arms)}"
            ) from None


def to_units(cost: float) -> int:
    """Round a cost to integer 10⁻⁹ units; raises ``DataError`` unless it is finite, ≥ 0 and ≤ ``MAX_COST``.

    >>> to_units(0.25)
    250000000
    """
    if not 0 <= cost <= MAX_COST:  # false for NaN too
        raise DataError(f"cost {cost!r}: must be a number from 0 to {MAX_COST:g}; see the cost function that gave it")
    return round(cost * COST_UNIT)


def rebuild(selector: S, log: Iterable[tuple[Decision, float | None]]) -> S:
    """Fill a fresh selector from logged decisions and the cost of each, ``None`` where no edit has come.

    Any order will do. Raises ``ConfigError`` on a decision for a policy that is not an arm, so leave out those of
    retired policies. Returns the selector.
    """
    for decision, cost in log:
        selector.record(decision)
        if cost is not None:
            selector.update(decision, cost)
    return selector
