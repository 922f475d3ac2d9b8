from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from redraft.costs import COSTS
from redraft.errors import ConfigError, DataError
from redraft.lab.kernels import (
    Candidates,
    Kernel,
    KernelUser,
    Lazy,
    MetropolisHastings,
    Mixture,
    Solution,
    check_balance,
    gamma_min,
    solve,
)
from redraft.lab.users import User, user_rng
from redraft.types import Context

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
    """Eq. 8 pair by pair and cross-multiplied, relative to the larger side; written apart from ``check_balance``."""
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
    assert after <= (1 - gamma_min(solution.log_star, solution.q)) * before + 1e-9
    if isinstance(problem.kernel, Lazy):
        assert after == pytest.approx((1 - problem.kernel.gamma) * before, abs=1e-9)
        assert gamma_min(solution.log_star, solution.q) == pytest.approx(problem.kernel.gamma * star.max(), abs=1e-9)


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
    with pytest.raises(DataError, match=r"eq\. 8 is off by 1"):
        check_balance(np.log(np.full(3, 1 / 3)), q)


@pytest.mark.parametrize("q", [np.array([[0.5, 0.4], [0.4, 0.6]]), np.array([[1.5, -0.5], [-0.5, 1.5]])])
def test_rows_that_are_no_distribution_are_caught(q: Array) -> None:
    with pytest.raises(DataError, match="not a distribution"):
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
        ([], [], "one finite log-probability per candidate"),
        ([0, -math.inf], TWO, "one finite log-probability per candidate"),
        ([[0, 0]], TWO, "one finite log-probability per candidate"),
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


# Users who draw from q

TEXTS = ("We meet at 3.", "We meet at three.", "The meeting is at 3 pm.", "Hello there, we meet at 3.", "")
SCORES = (-3.0, -4.5, -5.0, -3.5, -9.0)
KERNEL = Mixture(((0.5, Lazy(0.6)), (0.5, MetropolisHastings(0.5))))
CANDIDATES = Candidates.of(TEXTS, SCORES, COSTS["word"], KERNEL, beta=0.5)
CONTEXT = Context("c-1", (), "task")
USER: User = KernelUser("kernel", {"c-1": CANDIDATES})


@dataclass
class At:
    """A generator that draws one known number."""

    value: float

    def random(self) -> float:
        return self.value


def test_texts_come_in_their_order() -> None:
    # Of two texts one word apart, the one with the higher score and lower cost is π*'s.
    few = Candidates.of(("a b", "a"), (0.0, 5.0), COSTS["word"], Lazy(0.5), beta=1.0).solution
    assert few.log_star[1] > few.log_star[0]
    assert few.cost[0] == pytest.approx(0.5 * np.exp(few.log_star[1]) / 2, abs=1e-9)  # Δ("a b", "a") = 1/2
    assert few.cost[1] == pytest.approx(0.5 * np.exp(few.log_star[0]), abs=1e-9)  # Δ("a", "a b") = 1


@pytest.mark.parametrize("response", TEXTS)
def test_edits_follow_q(response: str) -> None:
    # Every draw u = (k + ½)/N once: the count of each text is N q(y'|y) up to one at either end.
    rounds = 4000
    left: Counter[str] = Counter()
    for k in range(rounds):
        rng: Any = At((k + 0.5) / rounds)
        left[USER.edit(CONTEXT, response, t=1, rng=rng)] += 1
    for text, probability in zip(TEXTS, CANDIDATES.solution.q[TEXTS.index(response)], strict=True):
        assert abs(left[text] - rounds * probability) <= 1


def test_a_text_of_probability_0_never_comes() -> None:
    stay = Candidates.of(("a", "b"), (0.0, 0.0), COSTS["word"], MetropolisHastings(1e-6), beta=1.0)
    user = KernelUser("stay", {"c-1": stay})
    for value in (0.0, 0.5, np.nextafter(1, 0)):
        rng: Any = At(float(value))
        assert [user.edit(CONTEXT, text, t=1, rng=rng) for text in ("a", "b")] == ["a", "b"]


def test_the_balance_of_logged_edits_comes_out_of_edit_alone() -> None:
    # The same law from user_rng over many contexts, no part of q read: π* as it was solved, flows as they are drawn.
    rounds = 1000
    many = KernelUser("kernel", {f"c-{i}": CANDIDATES for i in range(rounds)})
    index = {text: i for i, text in enumerate(TEXTS)}
    drawn = np.zeros((len(TEXTS), len(TEXTS)))
    for (y, response), i in ((pair, i) for pair in enumerate(TEXTS) for i in range(rounds)):
        edited = many.edit(Context(f"c-{i}", (), "task"), response, t=1, rng=user_rng(y, f"c-{i}"))
        drawn[y, index[edited]] += 1 / rounds
    flow = np.exp(CANDIDATES.solution.log_star)[:, None] * drawn
    deviation = np.sqrt((np.exp(CANDIDATES.solution.log_star)[:, None] ** 2 * drawn * (1 - drawn)) / rounds)
    assert (np.abs(flow - flow.T) <= 6 * np.hypot(deviation, deviation.T) + 1e-3).all()
    check_balance(CANDIDATES.solution.log_star, CANDIDATES.solution.q)


def test_same_seed_and_context_same_edit() -> None:
    for seed in range(20):
        first, again = (USER.edit(CONTEXT, TEXTS[2], t=t, rng=user_rng(seed, "c-1")) for t in (1, 99))
        assert first == again


def test_a_response_that_is_no_candidate_is_named() -> None:
    with pytest.raises(DataError, match=r"'We met\.' is not among the 5 candidates of context 'c-1'; let policies"):
        USER.edit(CONTEXT, "We met.", t=1, rng=user_rng(0, "c-1"))


def test_a_long_response_is_cut_in_the_error() -> None:
    with pytest.raises(DataError) as raised:
        USER.edit(CONTEXT, "long\n" * 1000, t=1, rng=user_rng(0, "c-1"))
    assert len(str(raised.value)) < 200
    assert "\n" not in str(raised.value)


def test_a_context_without_candidates_is_named() -> None:
    with pytest.raises(DataError, match="no candidates for context 'c-2'"):
        USER.edit(Context("c-2", (), "task"), TEXTS[0], t=1, rng=user_rng(0, "c-2"))


def test_invalid_candidates_stand_twice() -> None:
    with pytest.raises(DataError, match="candidate 'b' is given twice"):
        Candidates.of(("a", "b", "b"), (0, 0, 0), COSTS["word"], Lazy(0.5), beta=1.0)


def test_invalid_scores_are_not_as_many_as_texts() -> None:
    with pytest.raises(DataError, match="give 2 x 2"):
        Candidates.of(("a", "b", "c"), (0, 0), COSTS["word"], Lazy(0.5), beta=1.0)
