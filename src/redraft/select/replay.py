"""Selectors run again: on a table with every policy's cost, and on a log of what was decided and paid.

The table gives regret exactly, since no outcome is missing. The log gives back the live state, whatever the order in
which the edits came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

from redraft.errors import ConfigError, DataError
from redraft.select.base import Selector, to_units
from redraft.types import COST_UNIT, Decision

__all__ = ["Round", "rebuild", "replay"]

S = TypeVar("S", bound=Selector)


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a replay.

    ``cumulative_cost`` and ``regret`` include this round; regret is against ``best``, the policy of lowest total
    cost over the whole table, so it can fall, and is negative where choosing beat every fixed policy.
    """

    decision: Decision
    cost: float
    cumulative_cost: float
    regret: float
    best: str


def replay(selector: Selector, costs: Mapping[str, Sequence[float]], *, delay: int = 0) -> list[Round]:
    """Run a selector over a full table of costs.

    Parameters
    ----------
    selector
        Fresh, or one to be continued.
    costs
        For every arm of the selector, and possibly others that are ignored, the cost of each round t.
    delay
        How many more rounds are decided before a cost is known; 0: it is known at once. Costs that are missing after
        the last round come then.

    Raises
    ------
    ConfigError
        An arm has no costs, or the delay is negative.
    DataError
        The columns differ in length, or hold a cost that is negative or not finite.

    Examples
    --------
    >>> from redraft.select import Fixed
    >>> [round.regret for round in replay(Fixed(["a", "b"]), {"a": [1, 0, 1], "b": [0, 1, 0]})]
    [1.0, 0.0, 1.0]
    """
    table = _table(selector.arms, costs)
    if delay < 0:
        raise ConfigError(f"delay = {delay}: must be 0 or more rounds")
    decisions: list[Decision] = []
    rounds = len(table[selector.arms[0]])
    for t in range(rounds + delay + 1):
        if 0 < t - delay <= rounds:
            owed = t - delay - 1
            selector.update(decisions[owed], costs[decisions[owed].chosen][owed])
        if t < rounds:
            decisions.append(selector.select(f"round-{t + 1}"))
    return _rounds(decisions, table)


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


def _table(arms: Sequence[str], costs: Mapping[str, Sequence[float]]) -> dict[str, list[int]]:
    """Return the arms' costs in integer units, so that sums and differences are exact."""
    missing = [arm for arm in arms if arm not in costs]
    if missing:
        raise ConfigError(f"costs have no column for {', '.join(missing)}: give one for every arm")
    table = {arm: [to_units(cost) for cost in costs[arm]] for arm in arms}
    if len({len(column) for column in table.values()}) > 1:
        lengths = ", ".join(f"{arm} {len(column)}" for arm, column in table.items())
        raise DataError(f"costs are of unequal length ({lengths}): give every policy's cost for every round")
    return table


def _rounds(decisions: Sequence[Decision], table: Mapping[str, Sequence[int]]) -> list[Round]:
    best = min(table, key=lambda arm: sum(table[arm]))
    paid = [table[decision.chosen][t] for t, decision in enumerate(decisions)]
    return [
        Round(decision, cost / COST_UNIT, total / COST_UNIT, (total - least) / COST_UNIT, best)
        for decision, cost, total, least in zip(decisions, paid, accumulate(paid), accumulate(table[best]), strict=True)
    ]
