from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from redraft.errors import ConfigError, DataError
from redraft.lab.kernels import (
    Kernel,
    Lazy,
    MetropolisHastings,
    Mixture,
    Solution,
    balance_gap,
    check_balance,
    solve,
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    log_ref: Array
    distance: Array
    kernel: Kernel
    beta: float

    def solve(self) -> Solution:
        return solve(self.log_ref, self.distance, self.kernel, self.beta)


gammas = st.floats(0.05, 1).map(Lazy)
reaches = st.one_of(st.floats(0.1, 5), st.just(math.inf)).map(MetropolisHastings)
mixtures = st.tuples(st.floats(0, 1), gammas, reaches).map(lambda m: Mixture(((m[0], m[1]), (1 - m[0], m[2]))))
kernels: st.SearchStrategy[Kernel] = st.one_of(gammas, reaches, mixtures)


@st.composite
def problems(draw: st.DrawFn, low: float = 2.5, high: float = 20.0, kernel: st.SearchStrategy[Kernel] = kernels):
    """Scores over 40 nats, asymmetric distances up to 1: for β > 2 the iteration provably contracts."""
    n = draw(st.integers(2, 7))
    scores = draw(st.lists(st.floats(-40, 0), min_size=n, max_size=n))
    delta = np.array(draw(st.lists(st.floats(0, 1), min_size=n * n, max_size=n * n))).reshape(n, n)
    np.fill_diagonal(delta, 0)
    return Problem(np.array(scores), delta, draw(kernel), draw(st.floats(low, high)))


def eq_8_gap(solution: Solution) -> float:
    """Eq. 8 pair by pair and cross-multiplied, relative to the larger side; written apart from ``balance_gap``."""
    star, q = np.exp(solution.log_star), solution.q
    pairs = product(range(len(star)), repeat=2)
    sides = [(q[y, e] * star[y], q[e, y] * star[e]) for y, e in pairs]
    return max(abs(a - b) / max(a, b) for a, b in sides if max(a, b) > 1e-290)


def total_variation(p: Array, q: Array) -> float:
    return float(np.abs(p - q).sum() / 2)


@given(problems())
def test_eq_8_holds_to_1e_9(problem: Problem) -> None:
    solution = problem.solve()
    assert eq_8_gap(solution) <= 1e-9
    assert solution.q.min() >= 0
    assert solution.q.sum(axis=1) == pytest.approx(1, abs=1e-12)


@given(problems())
def test_pi_star_is_the_fixed_point(problem: Problem) -> None:
    solution = problem.solve()
    q = problem.kernel(solution.log_star, problem.distance)
    cost = np.einsum("ye,ye->y", q, problem.distance)
    weight = np.exp(problem.log_ref - problem.log_ref.max()) * np.exp(-cost / problem.beta)
    assert np.exp(solution.log_star) == pytest.approx(weight / weight.sum(), abs=1e-9)
    assert solution.cost == pytest.approx(cost, abs=1e-9)
    assert np.exp(solution.log_ref).sum() == pytest.approx(1)


@given(problems(0.005, 2.5))
def test_a_small_beta_gives_a_checked_solution_or_a_clear_error(problem: Problem) -> None:
    try:
        solution = problem.solve()
    except DataError as error:
        assert "give a larger beta" in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert eq_8_gap(solution) <= 1e-9


@given(problems())
def test_edit_pairs_follow_bradley_terry_with_1_over_beta(problem: Problem) -> None:
    solution = problem.solve()
    logged = np.exp(solution.log_ref)[:, None] * solution.q
    for y, e in product(range(len(logged)), repeat=2):
        if y != e and min(logged[y, e], logged[e, y]) > 1e-290:
            sigmoid = 1 / (1 + math.exp(-(solution.cost[y] - solution.cost[e]) / problem.beta))
            assert logged[y, e] / (logged[y, e] + logged[e, y]) == pytest.approx(sigmoid, rel=1e-8)


@given(problems(), st.lists(st.floats(0, 1), min_size=7, max_size=7))
def test_lemma_1_an_edit_brings_every_policy_nearer_to_pi_star(problem: Problem, weights: list[float]) -> None:
    solution = problem.solve()
    policy = np.array(weights[: len(solution.q)]) + 1e-6
    policy /= policy.sum()
    star = np.exp(solution.log_star)
    before, after = total_variation(policy, star), total_variation(policy @ solution.q, star)
    assert after <= (1 - solution.gamma_min) * before + 1e-9
    if isinstance(problem.kernel, Lazy):
        assert after == pytest.approx((1 - problem.kernel.gamma) * before, abs=1e-9)
        assert solution.gamma_min == pytest.approx(problem.kernel.gamma * star.max(), abs=1e-9)


def test_lemma_1_is_tight_for_metropolis_hastings_on_two_texts() -> None:
    # Two texts and a proposal that never stays: q(a|b) = 1, q(b|a) = r = π*(b)/π*(a).
    log_star = np.log([0.8, 0.2])
    q = MetropolisHastings(1e-9)(log_star, np.array([[1.0, 0], [0, 1]]))  # the other text is nearer than the same
    assert q == pytest.approx(np.array([[0.75, 0.25], [1, 0]]))
    for policy in ([1.0, 0.0], [0.3, 0.7]):
        before, after = (total_variation(p, np.exp(log_star)) for p in (np.array(policy), np.array(policy) @ q))
        assert after == pytest.approx(0.25 * before)


def test_two_texts_by_hand() -> None:
    # γ = 1, so c(a) = 2 π*(b), c(b) = π*(a); with β = 1 and π*(a) = 2/3 both are 2/3, so π* is π_ref.
    solution = solve(np.log([2, 1]), [[0, 2], [1, 0]], Lazy(1.0), beta=1.0)
    assert np.exp(solution.log_star) == pytest.approx([2 / 3, 1 / 3], abs=1e-9)
    assert solution.cost == pytest.approx([2 / 3, 2 / 3], abs=1e-9)


def test_metropolis_hastings_by_hand() -> None:
    # Uniform proposals over three texts; π* = 1/2, 1/4, 1/4.
    q = MetropolisHastings()(np.log([0.5, 0.25, 0.25]), np.ones((3, 3)))
    assert q == pytest.approx(np.array([[4, 1, 1], [2, 2, 2], [2, 2, 2]]) / 6)


def test_a_short_reach_prefers_near_texts() -> None:
    delta = np.array([[0, 0.1, 1], [0.1, 0, 1], [1, 1, 0]])
    near, far = (MetropolisHastings(reach)(np.log(np.full(3, 1 / 3)), delta)[0] for reach in (0.2, math.inf))
    assert near[1] > near[2]
    assert far[1] == pytest.approx(far[2])


@given(problems())
def test_a_kernel_that_is_not_reversible_is_caught(problem: Problem) -> None:
    def onwards(log_star: Array, distance: Array) -> Array:
        """Edit each text into the next, never back."""
        q = np.eye(len(log_star)) / 2 + np.eye(len(log_star), k=1) / 2
        q[-1, -1] = 1
        return q

    with pytest.raises(DataError, match=r"eq\. 8 is off by 1"):
        solve(problem.log_ref, problem.distance, onwards, problem.beta)


def test_metropolis_hastings_without_the_proposal_s_ratio_is_caught() -> None:
    def symmetric_only(log_star: Array, distance: Array) -> Array:
        """Accept by π* alone, right only where proposals are symmetric."""
        proposal = np.exp(-distance)
        proposal /= proposal.sum(axis=1, keepdims=True)
        q = proposal * np.minimum(1, np.exp(log_star - log_star[:, None]))
        np.fill_diagonal(q, 0)
        return q + np.diag(1 - q.sum(axis=1))

    lopsided = np.array([[0, 1, 2], [0.5, 0, 1], [1, 0.1, 0]])
    solve([0, -1, -2], lopsided, MetropolisHastings(1), beta=3)
    with pytest.raises(DataError, match=r"eq\. 8 is off by 0\."):
        solve([0, -1, -2], lopsided, symmetric_only, beta=3)


def test_a_one_way_edit_is_the_worst_gap() -> None:
    q = np.array([[0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]])
    assert balance_gap(np.log(np.full(3, 1 / 3)), q) == 1
    with pytest.raises(DataError, match=r"eq\. 8 is off by 1"):
        check_balance(np.log(np.full(3, 1 / 3)), q)


@pytest.mark.parametrize("q", [np.array([[0.5, 0.4], [0.4, 0.6]]), np.array([[1.5, -0.5], [-0.5, 1.5]])])
def test_rows_that_are_no_distribution_are_caught(q: Array) -> None:
    with pytest.raises(DataError, match="no distribution"):
        check_balance(np.log([0.5, 0.5]), q)


def test_what_does_not_settle_is_said() -> None:
    def restless(log_star: Array, distance: Array) -> Array:
        """Edit only texts that π* prefers: reversible for no π*, and never at rest."""
        q = np.eye(2)
        better = int(log_star[1] > log_star[0])
        q[better] = [0.5, 0.5]
        return q

    with pytest.raises(DataError, match=r"2 candidates does not settle at beta = 0\.1; give a larger beta"):
        solve([0, 0], [[0, 1], [1, 0]], restless, beta=0.1)


TWO = [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("log_ref", "distance", "message"),
    [
        ([], [], "one finite log-probability a candidate"),
        ([0, -math.inf], TWO, "one finite log-probability a candidate"),
        ([[0, 0]], TWO, "one finite log-probability a candidate"),
        ([0, 0, 0], TWO, "give 3 x 3"),
        ([0, 0], [[0, -1], [1, 0]], "check the cost"),
        ([0, 0], [[0, math.nan], [1, 0]], "check the cost"),
        ([0, 0], [[1, 1], [1, 0]], "check the cost"),
    ],
)
def test_invalid_problems_are_named(log_ref: list[float], distance: list[list[float]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        solve(log_ref, distance, Lazy(0.5), beta=1.0)


@pytest.mark.parametrize("beta", [0, -1, math.inf, math.nan])
def test_invalid_beta(beta: float) -> None:
    with pytest.raises(ConfigError, match="beta ="):
        solve([0, 0], TWO, Lazy(0.5), beta)


@pytest.mark.parametrize("gamma", [0, -0.1, 1.1, math.nan])
def test_invalid_gamma(gamma: float) -> None:
    with pytest.raises(ConfigError, match="gamma ="):
        Lazy(gamma)


@pytest.mark.parametrize("reach", [0, -1, math.nan])
def test_invalid_reach(reach: float) -> None:
    with pytest.raises(ConfigError, match="reach ="):
        MetropolisHastings(reach)


@pytest.mark.parametrize("shares", [(), (0.5, 0.4), (1.5, -0.5)])
def test_invalid_mixture(shares: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="sum to 1"):
        Mixture(tuple((share, Lazy(0.5)) for share in shares))
