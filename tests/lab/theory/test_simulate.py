from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from redraft.errors import ConfigError, DataError
from redraft.lab.theory.simulate import redraw, reorder, simulate_late
from redraft.select import LateEnsemble, replay

ALPHAS = st.sampled_from([None, 0.0, 0.01, 0.3, 1.0, 150.0])


def live(table: NDArray[np.float64], alpha: float | None) -> tuple[list[str], list[float]]:
    costs = {str(arm): column.tolist() for arm, column in enumerate(table)}
    rounds = replay(LateEnsemble(list(costs), alpha), costs)
    return [row.decision.chosen for row in rounds], [row.cost for row in rounds]


def assert_is_live(costs: NDArray[np.float64], alpha: float | None) -> None:
    late = simulate_late(costs, alpha)
    for run in range(costs.shape[2]):
        chosen, paid = live(costs[:, :, run], alpha)
        assert [str(arm) for arm in late.chosen[:, run]] == chosen
        assert late.paid[:, run].tolist() == paid


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(0, 120), ALPHAS, st.sampled_from([0.001, 1.0, 1000.0]))
def test_equals_the_live_rule_decision_for_decision(
    seed: int, arms: int, rounds: int, alpha: float | None, scale: float
):
    assert_is_live(np.random.default_rng(seed).exponential(scale, (arms, rounds, 3)), alpha)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), ALPHAS)
def test_equals_the_live_rule_where_costs_tie(seed: int, alpha: float | None):
    assert_is_live(np.random.default_rng(seed).integers(0, 3, (3, 80, 3)) / 2, alpha)


def test_by_hand():
    """alpha = 1: the rounds of test_ucb.py; a second run, with the columns exchanged, does not disturb the first."""
    table = np.array([[1.0] * 4, [3.0] * 4])
    late = simulate_late(np.stack([table, table[::-1]], axis=2), alpha=1)
    assert late.chosen.T.tolist() == [[0, 1, 0, 0], [0, 1, 1, 1]]
    assert late.paid.T.tolist() == [[1, 3, 1, 1], [3, 1, 1, 1]]


@given(st.integers(0, 100))
def test_reordered_rounds_are_the_rounds(seed: int):
    table = np.arange(24.0).reshape(3, 8)
    tables = reorder(table, 5, seed)
    assert tables.shape == (3, 8, 5)
    for run in range(5):
        rounds = tables[:, :, run].T.tolist()
        assert sorted(rounds) == table.T.tolist()
    assert np.array_equal(tables, reorder(table, 5, seed))


def test_every_run_has_an_order_of_its_own():
    orders = reorder(np.arange(20.0)[None, :], 50, seed=1)[0].T
    assert len({tuple(order) for order in orders}) == 50
    assert set(orders[:, 0]) >= {0.0, 19.0}


def test_redrawn_rounds_keep_the_policies_together():
    tables = redraw(np.arange(24.0).reshape(3, 8), 4, seed=0, rounds=500)
    assert tables.shape == (3, 500, 4)
    assert np.array_equal(tables[1] - tables[0], np.full((500, 4), 8.0))
    assert set(tables[0].ravel()) == set(range(8))


@pytest.mark.parametrize("cost", [math.nan, math.inf, -0.1, 2e12])
def test_invalid_cost(cost: float):
    with pytest.raises(DataError, match="must be a number from 0"):
        simulate_late(np.full((2, 3, 1), cost))


@pytest.mark.parametrize("shape", [(2, 3), (0, 3, 1), (3,)])
def test_invalid_shape(shape: tuple[int, ...]):
    with pytest.raises(DataError, match="shape"):
        simulate_late(np.zeros(shape))


@pytest.mark.parametrize("alpha", [math.nan, math.inf, -0.1])
def test_invalid_alpha(alpha: float):
    with pytest.raises(ConfigError, match="alpha = "):
        simulate_late(np.zeros((1, 1, 1)), alpha)
