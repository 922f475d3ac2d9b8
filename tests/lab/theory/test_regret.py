from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from redraft.errors import ConfigError
from redraft.lab.theory.bounds import fit_rate
from redraft.lab.theory.regret import (
    Draw,
    gamma_costs,
    gaps,
    informed_bound,
    lai_robbins,
    level_pulls,
    minimax,
    simulate,
)
from redraft.lab.theory.simulate import simulate_late
from redraft.lab.theory.tabular import Array
from redraft.select import LateEnsemble, replay

ALPHAS = st.sampled_from([None, 0.0, 0.05, 0.4, 3.0])
ARMS = ("a", "b", "c")


def table(seed: int, rounds: int, runs: int = 3) -> Array:
    """[arms × rounds × runs], with ties: some costs are 0."""
    rng = np.random.default_rng(seed)
    costs = rng.exponential([[[0.5]], [[0.4]], [[0.3]]], (3, rounds, runs))
    return np.where(rng.random(costs.shape) < 0.2, 0.0, np.rint(costs * 1000) / 1000)


def reading(costs: Array) -> Draw:
    return lambda t, chosen: costs[chosen, t - 1, np.arange(costs.shape[2])]


def choices(costs: Array, **options: object) -> NDArray[np.int64]:
    """The arm of each round and run, from pulls after every round."""
    rounds, runs = costs.shape[1:]
    every = list(range(1, rounds + 1))
    pulls = [made for _, made in simulate(reading(costs), 3, runs, every, **options)]  # pyright: ignore[reportArgumentType]
    return np.argmax(np.diff([np.zeros_like(pulls[0]), *pulls], axis=0), axis=1)


@settings(max_examples=60)
@given(st.integers(0, 10**6), ALPHAS, st.sampled_from([0, 1, 4, 25]))
def test_equals_the_selector_step_for_step(seed: int, alpha: float | None, delay: int) -> None:
    costs = table(seed, 60)
    chosen = choices(costs, alpha=alpha, delay=delay)
    for run in range(costs.shape[2]):
        columns: Mapping[str, Sequence[float]] = {arm: costs[i, :, run].tolist() for i, arm in enumerate(ARMS)}
        rounds = replay(LateEnsemble(ARMS, alpha), columns, delay=delay)
        assert [ARMS[arm] for arm in chosen[:, run]] == [row.decision.chosen for row in rounds]


def test_equals_the_selector_over_a_long_run() -> None:
    costs = table(1, 3000, runs=1)
    columns = {arm: costs[i, :, 0].tolist() for i, arm in enumerate(ARMS)}
    rounds = replay(LateEnsemble(ARMS), columns)
    assert [ARMS[arm] for arm in choices(costs)[:, 0]] == [row.decision.chosen for row in rounds]


@given(st.integers(0, 10**6), ALPHAS)
@settings(max_examples=20)
def test_equals_the_simulation_of_tables(seed: int, alpha: float | None) -> None:
    costs = table(seed, 80)
    assert (choices(costs, alpha=alpha) == simulate_late(costs, alpha).chosen).all()


def test_one_alpha_a_run() -> None:
    costs = table(0, 100)
    chosen = choices(costs, alpha=np.array([0.0, 0.4, 3.0]))
    for run, alpha in enumerate([0.0, 0.4, 3.0]):
        assert (chosen[:, run] == choices(costs, alpha=alpha)[:, run]).all()


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
    chosen = choices(costs, window=window if window < 10**6 else None, discount=discount, delay=delay)
    for run in range(2):
        assert chosen[:, run].tolist() == forgetful(costs, run, window, discount, delay)


def test_a_window_over_everything_forgets_nothing() -> None:
    costs = table(2, 100)
    assert (choices(costs, window=100) == choices(costs)).all()


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
def test_invalid_simulations(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choices(table(0, 5), **options)


def test_costs_have_the_mean_and_spread_they_should() -> None:
    draw = gamma_costs(
        np.full((1, 200_000), 0.5), 0.7, np.random.default_rng(0), later=np.full((1, 200_000), 2.0), change=3
    )
    for t, mean in ((3, 0.5), (4, 2.0)):
        costs = draw(t, np.zeros(200_000, np.int64))
        assert costs.mean() == pytest.approx(mean, rel=0.01)
        assert costs.std() == pytest.approx(0.7 * mean, rel=0.02)


def test_lower_bounds_by_hand() -> None:
    """Exponential arms 1 and 2: KL(2‖1) = 2 − 1 − log 2; √((5 − 1) · 100) / 27 at σ = 1."""
    assert lai_robbins([1.0, 2.0], 1.0) == pytest.approx(1 / (1 - math.log(2)))
    assert lai_robbins([1.0, 2.0, 2.0], 0.5) == pytest.approx(2 * 0.25 / (1 - math.log(2)))
    assert lai_robbins([0.3, 0.3], 1.0) == 0
    assert minimax(5, 100, 1.0) == pytest.approx(20 / 27)


def test_the_informed_bound_by_hand() -> None:
    """Two exponential arms of mean 1 and 2. Round 1: half of the gap. Round 2: P(the wrong one looks better) = 1/3.

    Costs X ~ Exp(1), Y ~ Exp(mean 2): the likelier order is the one in which the smaller cost has the smaller mean, and
    P(Y < X) = (1/2) / (1/2 + 1) = 1/3.
    """
    bound = informed_bound([1.0, 2.0], 1.0, 2, 100_000, np.random.default_rng(0))
    assert bound[0] == pytest.approx(0.5)
    assert bound[1] - bound[0] == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize("means", [(0.5377, 1.079, 0.2092), (0.4539, 0.3368, 0.4864)])
def test_no_bandit_beats_the_informed_bound(means: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    bound = informed_bound(means, 1.0, 200, 2000, rng)
    assert (np.diff(bound) >= 0).all()
    columns = np.repeat(np.array(means)[:, None], 400, axis=1)
    for t, pulls in simulate(gamma_costs(columns, 1.0, rng), 3, 400, [10, 50, 200]):
        assert (gaps(columns) * pulls).sum(axis=0).mean() > bound[t - 1]


def worst_regret(horizons: Sequence[int], runs: int, factors: Sequence[float]) -> list[float]:
    """Mean regret of LateEnsemble on K = 4 exponential arms, gap g √(K/T), the worst g at each horizon."""
    rng, found = np.random.default_rng(7), list[float]()
    for t in horizons:
        gap = np.repeat(factors, runs) * math.sqrt(4 / t)
        means = np.vstack([1 + gap, 1 + gap, np.ones_like(gap), 1 + gap])
        ((_, pulls),) = simulate(gamma_costs(means, 1.0, rng), 4, gap.size, [t])
        regret = (gaps(means) * pulls).sum(axis=0).reshape(len(factors), runs).mean(axis=1)
        found.append(float(regret.max()))
    return found


def test_regret_grows_as_the_root_of_the_horizon() -> None:
    horizons = [100, 316, 1000, 3162]
    assert fit_rate(horizons, worst_regret(horizons, 100, [1.0])).slope <= 0.55
    assert fit_rate(horizons, worst_regret(horizons, 100, [1.0, 2.0, 4.0])).slope <= 0.55


def test_regret_over_log_t_stays_bounded() -> None:
    costs = np.repeat([[0.9455], [0.5377], [1.079], [0.2092]], 200, axis=1)
    marks = [300, 1000, 3000, 10_000]
    rows = simulate(gamma_costs(costs, 1.0, np.random.default_rng(5)), 4, 200, marks)
    ratios = [(gaps(costs) * pulls).sum(axis=0).mean() / math.log(t) for t, pulls in rows]
    assert sorted(ratios, reverse=True) == ratios
    greedy = simulate(gamma_costs(costs, 1.0, np.random.default_rng(5)), 4, 200, marks, alpha=0.0)
    stuck = [(gaps(costs) * pulls).sum(axis=0).mean() / math.log(t) for t, pulls in greedy]
    assert stuck[-1] > 10 * ratios[-1]  # without exploring, some runs never leave a bad arm


@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=6),
    st.floats(0.1, 3),
    st.floats(10, 1e12),
)
def test_pulls_at_which_all_bounds_are_level(means: list[float], spread: float, rounds: float) -> None:
    pulls, costs = level_pulls(means, spread, rounds), np.array(means)
    assert pulls.sum() == pytest.approx(rounds)
    alpha = math.sqrt((1 + spread**2) * (pulls @ costs**2) / rounds)
    bounds = costs - alpha * np.sqrt(math.log(rounds) / pulls)
    assert bounds == pytest.approx(np.full(len(means), bounds.mean()), abs=1e-6 * max(means))


def test_fixed_gaps_cost_no_more_than_their_constant_however_long() -> None:
    means, horizons = [0.51, 0.42, 0.3365, 0.3438], [10.0**k for k in range(3, 16)]
    growth = [float(gaps(means) @ level_pulls(means, 1.0, t)) / math.log(t) for t in horizons]
    constant = 2 * min(means) ** 2 * sum(1 / gap for gap in gaps(means) if gap > 0)
    assert growth == sorted(growth)
    assert constant * 0.99 < growth[-1] < constant
