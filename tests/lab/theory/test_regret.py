from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.lab.theory.bounds import fit_rate
from redraft.lab.theory.regret import gaps, informed_bound, lai_robbins, level_pulls, minimax
from redraft.lab.theory.simulate import Rule, gamma_costs, simulate


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
    greedy = simulate(gamma_costs(costs, 1.0, np.random.default_rng(5)), 4, 200, marks, Rule(alpha=0.0))
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
