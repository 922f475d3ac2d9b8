from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
from bench_rows import described, make_rows

from redraft.lab.bench.regret import alpha_curve, default_alphas, horizon, regret_curves, subsets
from redraft.lab.bench.tables import Cell, complete_cells, read_plan
from redraft.select import LateEnsemble, replay

ROWS = make_rows()
CELLS = [c for c in complete_cells(ROWS, read_plan(described(), ROWS))[0] if c.setting == "summary strong"]


def constant(**costs: float) -> list[Cell]:
    """One cell of eight rounds that are all alike: every order is the same."""
    return [Cell(1, "x y", "strong", tuple("abcdefgh"), {arm: [cost] * 8 for arm, cost in costs.items()})]


def test_regret_as_served_is_that_of_the_replay() -> None:
    found = regret_curves(CELLS, runs=20).served
    lines = np.array([[row.regret for row in replay(LateEnsemble(tuple(c.costs)), c.costs)] for c in CELLS])
    assert found.mean == pytest.approx(list(lines.mean(0)), abs=1e-6)
    assert found.low == pytest.approx(list(lines.min(0)), abs=1e-6)
    assert found.high == pytest.approx(list(lines.max(0)), abs=1e-6)


def test_where_all_rounds_are_alike_every_order_has_the_regret_of_the_live_rule() -> None:
    cells = constant(a=0.5, b=0.1, c=0.9)
    found = regret_curves(cells, runs=5)
    expected = [row.regret for row in cells[0].late]
    for line in ("mean", "low", "high"):
        assert getattr(found.random, line) == pytest.approx(expected)
    chosen = [row.decision.chosen for row in cells[0].late]
    for arm in "abc":
        assert found.pulls[arm] == list(accumulate(float(one == arm) for one in chosen))


def test_pulls_add_up_to_the_rounds() -> None:
    pulls = regret_curves(CELLS, runs=20).pulls
    assert np.sum(list(pulls.values()), axis=0) == pytest.approx(range(1, 61), abs=1e-5)
    assert max(pulls, key=lambda arm: pulls[arm][-1]) == "early"


def test_a_seed_more_does_not_change_the_orders_of_the_others() -> None:
    alone = regret_curves(CELLS[:1], runs=20).random.mean
    twice = regret_curves([CELLS[0], CELLS[0]], runs=20).random.mean
    assert alone == pytest.approx(twice)
    assert regret_curves(CELLS, runs=20).runs == 60


def test_alpha_goes_from_greedy_to_round_robin() -> None:
    found = alpha_curve(CELLS, [0.0, 1e6], runs=50)
    assert found.uniform == pytest.approx(0.65)
    assert (found.best, found.best_arm) == (pytest.approx(0.2), "early")
    greedy, turns = found.cost
    assert turns == pytest.approx(found.uniform, abs=0.03)
    assert found.best < min(greedy, found.default.cost) < turns


def test_the_default_alpha_is_where_the_live_rule_ends() -> None:
    cells = constant(a=0.5, b=0.1)
    paid = [row.cost for row in cells[0].late]
    ends = np.sqrt(np.mean(np.square(paid)))
    default = alpha_curve(cells, [1.0], runs=3).default
    assert (default.alpha, default.cost) == pytest.approx((ends, np.mean(paid)))
    alphas = default_alphas(cells)
    assert alphas[6] == pytest.approx(ends, abs=1e-6)
    assert alphas[-1] / alphas[0] == pytest.approx(1000, rel=1e-3)


def test_subsets_are_all_of_two_or_more_or_those_asked_for() -> None:
    assert len(subsets(CELLS, runs=2)) == 6 + 4 + 1
    many = constant(**{f"arm{n}": n / 10 for n in range(12)})  # 4,083 subsets
    assert subsets(many, runs=2) == []
    assert [row.arms for row in subsets(many, [["arm3", "arm1"]], runs=2)] == [["arm3", "arm1"]]
    (found,) = subsets(constant(a=0.5, b=0.1, c=0.9), [["c", "a"], ["a", "elsewhere"]], runs=2)
    expected = [row.cost for row in replay(LateEnsemble(("c", "a")), {"c": [0.9] * 8, "a": [0.5] * 8})]
    assert (found.arms, found.best_arm, found.best) == (["c", "a"], "a", 0.5)
    assert found.uniform == pytest.approx(0.7)
    assert found.late == pytest.approx(np.mean(expected))
    assert found.regret == pytest.approx(np.mean(expected) - 0.5)


def test_any_t_is_read_off_one_long_run() -> None:
    cells = constant(a=0.5, b=0.1, c=0.9)
    found = horizon(cells, (2, 8, 40), runs=3)
    longer = {arm: [costs[0]] * 40 for arm, costs in cells[0].costs.items()}
    paid = [row.cost for row in replay(LateEnsemble(list(longer)), longer)]
    assert found.cost.mean == pytest.approx([np.mean(paid[:t]) for t in (2, 8, 40)])
    assert found.regret.low == pytest.approx([np.mean(paid[:t]) - 0.1 for t in (2, 8, 40)], abs=1e-6)
    assert (found.best, found.uniform) == (pytest.approx(0.1), pytest.approx(0.5))


def test_regret_per_round_falls_with_t() -> None:
    regret = horizon(CELLS, (25, 100, 1000), runs=40).regret.mean
    assert regret[0] > 2 * regret[1] > 4 * regret[2] > 0
