from __future__ import annotations

from dataclasses import replace

import pytest
from bench_rows import MAX_SUBOPT, MEANS, described, make_rows

from redraft.lab.bench.subopt import max_subopt, subopt
from redraft.lab.bench.tables import Cell, complete_cells, mean_costs, read_plan

ROWS = make_rows()
CELLS, _ = complete_cells(ROWS, read_plan(described(), ROWS))
SETTINGS = list(MEANS)


def cells_of(*columns: dict[str, float], seed: int = 1) -> list[Cell]:
    """Cells whose costs are the same in every round."""
    return [
        Cell(seed, f"setting {place}", "strong", ("x", "y", "z"), {arm: [cost] * 3 for arm, cost in means.items()})
        for place, means in enumerate(columns)
    ]


def test_by_hand() -> None:
    """Settings (a .2, b .5, c .5) and (a .6, b .4, c .5): worst gaps .2, .3 and .3.

    LateEnsemble has three rounds for three arms and pays their mean: .4 and .5, that is .2 and .1 above the best.
    """
    cells = cells_of({"a": 0.2, "b": 0.5, "c": 0.5}, {"a": 0.6, "b": 0.4, "c": 0.5})
    found = max_subopt(cells, ["setting 0", "setting 1"])
    assert {name: spread.mean for name, spread in found.items()} == pytest.approx(
        {"a": 0.2, "b": 0.3, "c": 0.3, "late": 0.2}
    )
    _, against = subopt(cells, ["setting 0", "setting 1"])
    assert against is not None
    assert (against.late, against.median) == pytest.approx((0.2, 0.3))


def test_the_worst_is_taken_within_each_seed() -> None:
    """a is .2 above b in setting 0 of seed 1 and in setting 1 of seed 2: .2, though its mean gaps are .1."""
    first = cells_of({"a": 0.4, "b": 0.2}, {"a": 0.3, "b": 0.3}, seed=1)
    second = cells_of({"a": 0.3, "b": 0.3}, {"a": 0.4, "b": 0.2}, seed=2)
    found = max_subopt([*first, *second], ["setting 0", "setting 1"])
    assert (found["a"].mean, found["a"].std) == (pytest.approx(0.2), pytest.approx(0))


def test_the_arms_of_the_synthetic_run() -> None:
    found = max_subopt(CELLS, SETTINGS)
    assert {arm: found[arm].mean for arm in MAX_SUBOPT} == pytest.approx(MAX_SUBOPT)
    late = [mean_costs([cell])["late"].mean - min(MEANS[cell.setting].values()) for cell in CELLS if cell.seed == 1]
    assert found["late"].by_seed[1] == pytest.approx(max(late))
    assert "uniform" not in found


def test_a_seed_without_all_settings_does_not_count() -> None:
    some = [cell for cell in CELLS if (cell.seed, cell.setting) != (2, "email weak")]
    assert set(max_subopt(some, SETTINGS)["sft"].by_seed) == {1, 3}
    assert max_subopt([cell for cell in CELLS if cell.setting == "email weak"], SETTINGS) == {}
    assert subopt([], SETTINGS) == ({}, None)


def test_intervals_are_points_where_nothing_varies_and_wide_where_it_does() -> None:
    found, _ = subopt(cells_of({"a": 0.2, "b": 0.5}, {"a": 0.6, "b": 0.4}), ["setting 0", "setting 1"])
    assert found["a"].interval == pytest.approx((0.2, 0.2))
    assert found["b"].interval == pytest.approx((0.3, 0.3))
    drawn, against = subopt(CELLS, SETTINGS)
    low, high = drawn["dpo"].interval
    assert low < MAX_SUBOPT["dpo"] < high
    assert against is not None
    assert against.below > 0.99


def test_below_says_how_often_late_is_no_worse_than_the_median() -> None:
    """Late pays the mean of two arms in its two rounds: its gap is half the other arm's, and the median's."""
    two = [
        replace(cell, contexts=("x", "y"), costs={k: v[:2] for k, v in cell.costs.items()})
        for cell in cells_of({"a": 0.0, "b": 1.0})
    ]
    _, against = subopt(two, ["setting 0"])
    assert against is not None
    assert against.below > 0.6
