from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from redraft.errors import ConfigError, DataError
from redraft.lab.kernels import Array
from redraft.lab.theory.simulate import Draw, Rule, gamma_costs, redraw, reorder, simulate, simulate_late
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


# Costs drawn as they are played

ARMS = ("a", "b", "c")


def table(seed: int, rounds: int, runs: int = 3) -> Array:
    """[arms × rounds × runs], with ties: some costs are 0."""
    rng = np.random.default_rng(seed)
    costs = rng.exponential([[[0.5]], [[0.4]], [[0.3]]], (3, rounds, runs))
    return np.where(rng.random(costs.shape) < 0.2, 0.0, np.rint(costs * 1000) / 1000)


def reading(costs: Array) -> Draw:
    return lambda t, chosen: costs[chosen, t - 1, np.arange(costs.shape[2])]


def choices(costs: Array, rule: Rule) -> NDArray[np.int64]:
    """The arm of each round and run, from pulls after every round."""
    rounds, runs = costs.shape[1:]
    every = list(range(1, rounds + 1))
    pulls = [made for _, made in simulate(reading(costs), 3, runs, every, rule)]
    return np.argmax(np.diff([np.zeros_like(pulls[0]), *pulls], axis=0), axis=1)


@settings(max_examples=60)
@given(st.integers(0, 10**6), ALPHAS, st.sampled_from([0, 1, 4, 25]))
def test_delayed_costs_equal_the_live_rule(seed: int, alpha: float | None, delay: int) -> None:
    costs = table(seed, 60)
    chosen = choices(costs, Rule(alpha=alpha, delay=delay))
    for run in range(costs.shape[2]):
        columns: Mapping[str, Sequence[float]] = {arm: costs[i, :, run].tolist() for i, arm in enumerate(ARMS)}
        rounds = replay(LateEnsemble(ARMS, alpha), columns, delay=delay)
        assert [ARMS[arm] for arm in chosen[:, run]] == [row.decision.chosen for row in rounds]


def test_equals_the_selector_over_a_long_run() -> None:
    costs = table(1, 3000, runs=1)
    columns = {arm: costs[i, :, 0].tolist() for i, arm in enumerate(ARMS)}
    rounds = replay(LateEnsemble(ARMS), columns)
    assert [ARMS[arm] for arm in choices(costs, Rule())[:, 0]] == [row.decision.chosen for row in rounds]


def test_one_alpha_a_run() -> None:
    costs = table(0, 100)
    chosen = choices(costs, Rule(alpha=np.array([0.0, 0.4, 3.0])))
    for run, alpha in enumerate([0.0, 0.4, 3.0]):
        assert (chosen[:, run] == choices(costs, Rule(alpha=alpha))[:, run]).all()


def forgetful(costs: Array, run: int, window: int, discount: float, delay: int) -> list[int]:
    """The forgetting rules with nothing stored but what was played."""
    played: list[tuple[int, float]] = []
    for now in range(costs.shape[1]):
        told = played[: max(0, now - delay)]
        known = told[-window:]
        weights = [discount ** (len(known) - 1 - k) for k in range(len(known))]
        count = [sum(w for w, (arm, _) in zip(weights, known, strict=True) if arm == a) for a in range(3)]
        if min(count) == 0:
            recent = known + played[len(told) :]
            arm = min(range(3), key=lambda a: sum(other == a for other, _ in recent))
        else:
            n = sum(weights)
            alpha = math.sqrt(sum(w * c * c for w, (_, c) in zip(weights, known, strict=True)) / n)
            mean = [
                sum(w * c for w, (arm, c) in zip(weights, known, strict=True) if arm == a) / count[a] for a in range(3)
            ]
            bounds = [mean[a] - alpha * math.sqrt(math.log(n + 1) / count[a]) for a in range(3)]
            arm = bounds.index(min(bounds))
        played.append((arm, float(costs[arm, now, run])))
    return [arm for arm, _ in played]


@pytest.mark.parametrize(
    ("window", "discount", "delay"), [(5, 1.0, 0), (20, 1.0, 0), (20, 1.0, 7), (10**6, 0.9, 0), (10**6, 0.98, 3)]
)
def test_forgetting_is_what_it_says(window: int, discount: float, delay: int) -> None:
    rng = np.random.default_rng(3)
    costs = rng.exponential([[[0.5]], [[0.4]], [[0.3]]], (3, 150, 2))  # no ties
    chosen = choices(costs, Rule(window=window if window < 10**6 else None, discount=discount, delay=delay))
    for run in range(2):
        assert chosen[:, run].tolist() == forgetful(costs, run, window, discount, delay)


def test_a_window_over_everything_forgets_nothing() -> None:
    costs = table(2, 100)
    assert (choices(costs, Rule(window=100)) == choices(costs, Rule())).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay": -1}, "delay = -1"),
        ({"window": 2}, "window = 2"),
        ({"discount": 0.0}, "discount = 0"),
        ({"discount": 1.1}, "discount = 1.1"),
        ({"window": 10, "discount": 0.9}, "together with a window"),
    ],
)
def test_invalid_simulations(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choices(table(0, 5), Rule(**options))


def test_costs_have_the_mean_and_spread_they_should() -> None:
    draw = gamma_costs(
        np.full((1, 200_000), 0.5), 0.7, np.random.default_rng(0), later=np.full((1, 200_000), 2.0), change=3
    )
    for t, mean in ((3, 0.5), (4, 2.0)):
        costs = draw(t, np.zeros(200_000, np.int64))
        assert costs.mean() == pytest.approx(mean, rel=0.01)
        assert costs.std() == pytest.approx(0.7 * mean, rel=0.02)


# Tables


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
