from __future__ import annotations

from dataclasses import replace

import pytest
from bench_rows import EXPERIMENT, MEANS, make_rows

from redraft.costs import COSTS
from redraft.lab.bench.recost import compare_costs, reprice
from redraft.lab.bench.tables import read_plan

ROWS = make_rows(seeds=[1], rounds=6)
PLAN = read_plan({**EXPERIMENT, "seeds": [1], "sizes": {}}, ROWS)


@pytest.mark.parametrize("cost", ["word", "character"])
def test_rows_are_priced_from_their_texts(cost: str) -> None:
    for before, after in zip(ROWS, reprice(ROWS, cost), strict=True):
        assert after.cost == COSTS[cost](before.response, before.edited)
        assert after.raw == COSTS[cost].raw(before.response, before.edited)
        assert after.cell == before.cell


def test_orders_are_compared_in_every_setting() -> None:
    """The second cost is the first turned round: arms stand in the opposite order."""
    turned = [replace(row, cost=10 - row.cost) for row in ROWS]
    found = compare_costs({"one": ROWS, "same": ROWS, "turned": turned}, PLAN)["strong"]
    assert list(found) == list(MEANS)
    setting = found["summary strong"]
    assert setting["mean_cost"]["one"]["early"] == pytest.approx(0.2)
    assert setting["mean_cost"]["turned"]["early"] == pytest.approx(9.8)
    assert (setting["winner"]["one"], setting["winner"]["turned"]) == ("early", "dpo")
    assert setting["kendall"]["one / same"] == 1
    assert setting["kendall"]["one / turned"] < -0.5


def test_incomplete_cells_are_left_out() -> None:
    assert "email weak" not in compare_costs({"one": ROWS[:-1], "two": ROWS[:-1]}, PLAN)["strong"]
    assert compare_costs({}, PLAN) == {}
