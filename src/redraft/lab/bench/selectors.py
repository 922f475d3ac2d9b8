"""What rules of selection pay on benchmarks' rows, beside the best single policy: replays in random orders.

Of each cell ``EDITS`` rounds are held out, as any first log has them: edits of base's drafts, which a rule that learns
from prices is told beforehand. The other rounds are served, in new random orders until there are enough: beyond their
number the same contexts come again. Users who change with t keep their order, and their rounds come once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import TYPE_CHECKING

from redraft.lab.bench.choosing import EDITS
from redraft.lab.bench.matrix import MatrixRow, grouped
from redraft.lab.replay import Prices, replay
from redraft.policies.base import BASE
from redraft.select import LateEnsemble, Leader, Selector, Uniform
from redraft.stats import Interval, mean_interval

if TYPE_CHECKING:
    from redraft.costs import Cost
    from redraft.lab.bench.tables import Cell

__all__ = ["BEST", "DEFAULT", "ORDERS", "RULES", "Paid", "Summed", "paid", "summed"]

BEST, DEFAULT = "best single policy", "leader"
ORDERS = {50: 40, 200: 10, 1_000: 3}
"""Rounds served → random orders of each cell."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A fresh selector from arms and a seed; ``told`` if it learns from the edits held out."""

    make: Callable[[Sequence[str], int], Selector]
    told: bool = False


RULES: Mapping[str, Rule] = {
    "late": Rule(lambda arms, _: LateEnsemble(arms)),
    "late, α = 0.1": Rule(lambda arms, _: LateEnsemble(arms, alpha=0.1)),
    "uniform": Rule(Uniform),
    DEFAULT: Rule(Leader, told=True),
    "leader, no first log": Rule(Leader),
}


@dataclass(frozen=True, slots=True)
class Paid:
    """What a rule pays a round on one cell, in the mean over orders; ``BEST`` is the policy cheapest in that mean.

    ``rounds`` were asked for and ``served`` were there: fewer where users change.
    """

    run: str
    seed: int
    setting: str
    test_user: str
    rounds: int
    served: int
    rule: str
    cost: float


@dataclass(frozen=True, slots=True)
class Summed:
    """A rule over ``cells``: mean cost a round, what it pays more than the best single policy, Max SubOpt, and regret.

    ``more`` has the bootstrap interval over cells; ``max_subopt`` is the worst setting's, in the mean over seeds, test
    users and runs; ``regret`` is over all rounds.
    """

    cells: int
    mean_cost: float
    more: Interval
    max_subopt: float
    regret: float


def paid(run: str, cells: Sequence[Cell], rows: Sequence[MatrixRow], cost: Cost) -> Iterator[Paid]:
    """What every rule and the best single policy pay on each cell of a run that has base and rounds to serve."""
    by_cell = grouped(rows, lambda row: (row.seed, row.setting, row.test_user))
    for cell in cells:
        if BASE in cell.costs and len(cell.contexts) > EDITS:
            prices = _prices(by_cell[cell.seed, cell.setting, cell.test_user], cell, cost)
            for rounds, count in ORDERS.items():
                orders = [_order(cell, rounds, number) for number in range(count)]
                if all(len(order) == EDITS + rounds for order in orders) or rounds == min(ORDERS):
                    for rule, value in _costs(cell, prices, orders).items():
                        served = len(orders[0]) - EDITS
                        yield Paid(
                            run, cell.seed, cell.setting, cell.test_user, rounds, served, rule, round(value, 6)
                        )  # fmt: skip


def summed(found: Sequence[Paid]) -> dict[str, Summed]:
    """Each rule's numbers over cells of the same number of rounds."""
    groups = grouped(found, lambda one: (one.run, one.test_user, one.seed, one.setting))
    cells = [{one.rule: one.cost for one in some} for some in groups.values()]
    served = [some[0].served for some in groups.values()]
    sets = grouped(groups, lambda key: key[:3])
    by_key = dict(zip(groups, cells, strict=True))
    sums: dict[str, Summed] = {}
    for rule in (BEST, *RULES):
        over = mean_interval([cell[rule] - cell[BEST] for cell in cells])
        worst = [max(by_key[key][rule] - by_key[key][BEST] for key in keys) for keys in sets.values()]
        regret = fmean(rounds * (cell[rule] - cell[BEST]) for rounds, cell in zip(served, cells, strict=True))
        sums[rule] = Summed(len(cells), fmean(cell[rule] for cell in cells), over, fmean(worst), regret)
    return sums


def _costs(cell: Cell, prices: Prices, orders: Sequence[Sequence[int]]) -> dict[str, float]:
    served = [t for order in orders for t in order[EDITS:]]
    found = {BEST: min(fmean(column[t] for t in served) for column in cell.costs.values())}
    for name, rule in RULES.items():
        found[name] = fmean(_replayed(rule, cell.costs, prices, order, seed) for seed, order in enumerate(orders))
    return found


def _replayed(
    rule: Rule, costs: Mapping[str, Sequence[float]], prices: Prices, order: Sequence[int], seed: int
) -> float:
    selector, served = rule.make(tuple(costs), seed), order[EDITS:]
    if rule.told and isinstance(selector, Leader):
        for t in order[:EDITS]:
            told = {arm: prices[BASE][arm][t] for arm in costs}
            selector.price(f"first-{t}", BASE, told[BASE], told)
    by_author = {author: _in_order(columns, served) for author, columns in prices.items()}
    return replay(selector, _in_order(costs, served), prices=by_author)[-1].cumulative_cost / len(served)


def _in_order(columns: Mapping[str, Sequence[float]], served: Sequence[int]) -> dict[str, list[float]]:
    return {arm: [column[t] for t in served] for arm, column in columns.items()}


def _prices(rows: Sequence[MatrixRow], cell: Cell, cost: Cost) -> Prices:
    """By author and arm, the price of each round's answer."""
    found = {author: {arm: [0.0] * len(cell.contexts) for arm in cell.costs} for author in cell.costs}
    for t, some in grouped((row for row in rows if row.policy in cell.costs), lambda row: row.t).items():
        for draft, other in product(some, some):
            price = draft.cost if other is draft else cost(other.response, draft.edited)
            found[draft.policy][other.policy][t - 1] = price
    return found


def _order(cell: Cell, rounds: int, seed: int) -> list[int]:
    """The rounds held out, and after them those served."""
    every = list(range(len(cell.contexts)))
    if "+drift" in cell.test_user or "+fatigue" in cell.test_user:
        return every
    rng = random.Random(f"{cell.seed}/{seed}")
    held = rng.sample(every, EDITS)
    rest, served = sorted(set(every) - set(held)), list[int]()
    while len(served) < rounds:
        served += rng.sample(rest, len(rest))
    return held + served[:rounds]
