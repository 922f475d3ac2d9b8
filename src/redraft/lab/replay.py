"""Selectors run again on a table with every policy's cost, which gives regret exactly: no outcome is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from redraft.errors import ConfigError, DataError
from redraft.select.base import Selector, to_units
from redraft.select.leader import Leader
from redraft.types import COST_UNIT, Decision

__all__ = ["Prices", "Round", "replay"]


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


Prices = Mapping[str, Mapping[str, Sequence[float]]]
"""By the draft's author, then by policy: what each round's edit makes of that policy's answer."""


def replay(
    selector: Selector, costs: Mapping[str, Sequence[float]], *, delay: int = 0, prices: Prices | None = None
) -> list[Round]:
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
    prices
        Told with each edit to a rule that learns from them.

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
            decision = decisions[owed]
            cost = costs[decision.chosen][owed]
            selector.update(decision, cost)
            if prices is not None and isinstance(selector, Leader):
                told = {arm: column[owed] for arm, column in prices[decision.chosen].items()}
                selector.price(decision.completion_id, decision.chosen, cost, told, owed + 1)
        if t < rounds:
            decisions.append(selector.select(f"round-{t + 1}"))
    return _rounds(decisions, table)


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
