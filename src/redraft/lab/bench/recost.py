"""The same edits under other costs, and whether the policies rank alike under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from redraft.costs import get_cost
from redraft.lab.bench.matrix import MatrixRow
from redraft.lab.bench.tables import UNIFORM, Plan, complete_cells, kendall, mean_costs, winner

__all__ = ["compare_costs", "reprice"]


def reprice(rows: Sequence[MatrixRow], cost: str) -> list[MatrixRow]:
    """The rows with what each edit costs under another named cost."""
    price = get_cost(cost)
    return [replace(row, raw=price.raw(row.response, row.edited), cost=price(row.response, row.edited)) for row in rows]


def compare_costs(priced: Mapping[str, Sequence[MatrixRow]], plan: Plan) -> dict[str, Any]:
    """By test user and setting: mean costs under each cost, and Kendall's τ of the policies' orders for each two.

    Orders are of the arms and ``late``, which replays under each cost; ``uniform`` stands in no order.
    """
    found: dict[str, dict[str, Any]] = {}
    for cost, rows in priced.items():
        cells, _ = complete_cells(rows, plan)
        for user, setting in dict.fromkeys((cell.test_user, cell.setting) for cell in cells):
            means = mean_costs([cell for cell in cells if (cell.test_user, cell.setting) == (user, setting)])
            place = found.setdefault(user, {}).setdefault(setting, {"mean_cost": {}})
            place["mean_cost"][cost] = {name: spread.mean for name, spread in means.items()}
    for settings in found.values():
        for place in settings.values():
            orders = {cost: {k: v for k, v in m.items() if k != UNIFORM} for cost, m in place["mean_cost"].items()}
            place["winner"] = {cost: winner(means) for cost, means in orders.items()}
            place["kendall"] = {f"{a} / {b}": kendall(orders[a], orders[b]) for a, b in combinations(orders, 2)}
    return found
