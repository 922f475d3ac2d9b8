"""Rows to numbers, against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from bench_rows import ARMS, MEANS, ROUNDS, SEEDS, described, make_rows
from hypothesis import given
from hypothesis import strategies as st

from redraft.lab.bench.experiment import Arm, Description
from redraft.lab.bench.matrix import cost_table
from redraft.lab.bench.tables import (
    SHARE_OF_BASE,
    Cell,
    comparisons,
    complete_cells,
    intervals,
    kendall,
    mean_costs,
    planned_rows,
    read_plan,
    rivals,
    winner,
)
from redraft.lab.paper import TABLE_1, TABLE_2, paper_table
from redraft.lab.replay import replay
from redraft.select import LateEnsemble

ROWS = make_rows()
PLAN = read_plan(described(), ROWS)
CELLS, _ = complete_cells(ROWS, PLAN)
ORDERS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3), min_size=2)


def in_setting(name: str) -> list[Cell]:
    return [cell for cell in CELLS if cell.setting == name]


def cell(**columns: list[float]) -> Cell:
    rounds = len(next(iter(columns.values())))
    return Cell(1, "email strong", "strong", tuple(map(str, range(rounds))), columns)


def test_mean_and_spread_by_hand() -> None:
    """Two seeds whose means of a are 1 and 2: mean 1.5, standard deviation √½."""
    one, two = cell(a=[0.0, 2.0], b=[1.0, 1.0]), replace(cell(a=[2.0, 2.0], b=[1.0, 1.0]), seed=2)
    found = mean_costs([one, two])
    assert (found["a"].mean, found["a"].std) == (1.5, pytest.approx(math.sqrt(0.5)))
    assert found["a"].by_seed == {1: 1.0, 2: 2.0}
    assert (found["b"].mean, found["b"].std) == (1.0, 0.0)
    assert found["uniform"].by_seed == {1: 1.0, 2: 1.5}
    assert mean_costs([one])["a"].std is None


def test_uniform_is_the_mean_of_the_arms_in_each_round() -> None:
    assert cell(a=[0.0, 2.0], b=[1.0, 0.0], c=[2.0, 1.0]).columns["uniform"] == [1.0, 1.0]


@pytest.mark.parametrize("setting", MEANS)
def test_the_means_of_the_arms_are_those_of_the_rows(setting: str) -> None:
    found = mean_costs(in_setting(setting))
    assert {arm: found[arm].mean for arm in ARMS} == pytest.approx(MEANS[setting])
    assert found["uniform"].mean == pytest.approx(sum(MEANS[setting].values()) / 4)


def test_late_is_the_replay_of_the_live_rule_in_the_order_of_t() -> None:
    task, user = "email", "weak"
    rows = [row for row in ROWS if (row.seed, row.task, row.train_user) == (2, task, user)]
    rounds = replay(LateEnsemble(ARMS), cost_table(rows))
    (mine,) = [found for found in in_setting("email weak") if found.seed == 2]
    assert mine.columns["late"] == [found.cost for found in rounds]
    shuffled, _ = complete_cells(sorted(ROWS, key=lambda row: -row.t), PLAN)
    assert shuffled == CELLS


def test_intervals_hold_the_mean() -> None:
    for name, (low, high) in intervals(in_setting("email strong")).items():
        assert low < mean_costs(in_setting("email strong"))[name].mean < high


def test_comparisons_are_paired() -> None:
    """b is a + 0.1 in every round, however a jumps: no doubt about the difference."""
    a = [0.0, 9.0, 0.0, 9.0, 1.0]
    rows = {(row.a, row.b): row for row in comparisons([cell(base=[c + 0.1 for c in a], sft=a)])}
    found = rows["sft", "base"]
    assert (found.difference, found.low, found.high) == pytest.approx((-0.1, -0.1, -0.1))
    assert found.below == 1.0
    assert set(rows) == {
        ("late", "uniform"),
        ("late", "base"),
        ("late", "sft"),
        ("sft", "base"),
        ("sft", SHARE_OF_BASE),
    }


def test_the_best_single_policy_is_compared_with_a_share_of_the_base_cost() -> None:
    (row,) = [row for row in comparisons(in_setting("summary strong")) if row.b == SHARE_OF_BASE]
    assert row.a == "early"
    assert row.difference == pytest.approx(0.2 - 0.6 * 0.9)
    pairs = {(row.a, row.b) for row in comparisons(in_setting("summary strong"))}
    assert {("early", "sft"), ("early", "dpo"), ("dpo", "base"), ("late", "early")} <= pairs


def test_uniform_wins_nothing() -> None:
    assert winner({"uniform": 0.0, "base": 0.5, "sft": 0.4, "dpo": 0.4}) == "sft"


def test_an_unfinished_run_reports_its_complete_cells_and_names_the_rest() -> None:
    rows = [row for row in ROWS if (row.seed, row.task, row.policy, row.t) != (3, "email", "dpo", 7)]
    cells, missing = complete_cells([row for row in rows if row.seed != 2], PLAN)
    assert {(cell.seed, cell.setting) for cell in cells} == (
        {(1, name) for name in MEANS} | {(3, "summary strong"), (3, "summary weak")}
    )
    assert len(missing) == 4 + 2
    assert f"email weak, test user strong, seed 3: dpo has {ROUNDS - 1} of {ROUNDS} rows" in missing


def test_rounds_that_were_promised_are_waited_for() -> None:
    longer = described(sizes={"online": {"summary": ROUNDS, "email": ROUNDS + 1}})
    cells, missing = complete_cells(ROWS, read_plan(longer, ROWS))
    assert {cell.setting for cell in cells} == {"summary strong", "summary weak"}
    assert len(missing) == 6


def test_rows_alone_tell_what_was_planned() -> None:
    plan = read_plan(Description(), ROWS)
    assert (plan.seeds, plan.settings, plan.arms) == (SEEDS, list(MEANS), ARMS)
    assert plan.rounds == {"summary": ROUNDS, "email": ROUNDS}
    assert complete_cells([], read_plan(Description(), [])) == ([], [])
    assert complete_cells([], PLAN)[0] == []


def test_planned_rows_stand_in_the_plans_order() -> None:
    plan = read_plan(described(methods=["early", "sft"]), ROWS)
    found = planned_rows([replace(ROWS[5], cost=7.0), *ROWS[::-1], replace(ROWS[5], cost=9.0)], plan)
    assert list(dict.fromkeys(row.policy for row in found)) == ["base", "early", "sft"]
    assert [row.t for row in found[:ROUNDS]] == list(range(1, ROUNDS + 1))
    assert [row.cost for row in found if row.cell == ROWS[5].cell] == [9.0]
    assert len(found) == len(ROWS) * 3 / 4


def test_kendall_by_hand() -> None:
    assert kendall({"a": 1, "b": 2, "c": 3}, {"a": 9, "b": 8, "c": 7}) == -1
    assert kendall({"a": 1, "b": 2, "c": 2}, {"a": 1, "b": 2, "c": 3}) == pytest.approx(2 / 3)  # a tie agrees with none
    assert kendall({"a": 1}, {"b": 2}) is None


@given(ORDERS, ORDERS)
def test_kendall_is_symmetric_and_bounded(a: dict[str, int], b: dict[str, int]) -> None:
    tau = kendall(a, b)
    assert tau == kendall(b, a)
    assert tau is None or -1 <= tau <= 1
    assert kendall(a, {name: -cost for name, cost in b.items()}) == (None if tau is None else -tau)


def test_the_papers_tables() -> None:
    """The worst gap of printed means bounds Max SubOpt from below: means of maxima are no less than maxima of means."""
    printed = {"base": 0.4923, "sft": 0.4539, "dpo": 0.3368, "early": 0.4864, "late": 0.3739}
    assert TABLE_1.mean_cost["email weak"] == printed
    assert TABLE_2.mean_cost["summary strong"]["early"] == 0.1845
    for table in (TABLE_1, TABLE_2):
        for method, printed in table.max_subopt.items():
            gaps = [means[method] - min(means.values()) for means in table.mean_cost.values()]
            assert max(gaps) - 0.0002 <= printed < max(gaps) + 0.08
    assert paper_table("weak", ["strong"]) is None
    assert paper_table("qwen:strong", ["qwen:strong", "qwen:weak"]) is TABLE_1


def test_arms_are_compared_with_what_they_began_as_served_alike() -> None:
    arms = {
        "rl": Arm(method="rl"),
        "rl-second": Arm(method="rl", start="sft"),
        "best": Arm(of="sft", best_of=4),
        "warm-base": Arm(temperature=1),
        "warm-rl": Arm(of="rl", temperature=1),
        "warm-best": Arm(of="rl", best_of=4, temperature=1),
        "agreed": Arm(of="sft", best_of=4, temperature=0.5, by="consensus"),
    }
    assert rivals(arms) == [
        ("rl", "base"),
        ("rl-second", "sft"),
        ("best", "sft"),
        ("warm-rl", "warm-base"),
        ("warm-best", "warm-rl"),
        ("agreed", "sft"),
    ]
