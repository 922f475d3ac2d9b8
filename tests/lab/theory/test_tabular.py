from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.errors import ConfigError
from redraft.lab.kernels import Array, balance_gap, lazy, metropolis, mixture
from redraft.lab.theory.bounds import total_variation
from redraft.lab.theory.contraction import KERNELS, cyclic, random_instance, two_point
from redraft.lab.theory.tabular import (
    Instance,
    consistent,
    cost_features,
    edited,
    given_user,
    lazy_instance,
    perturbed,
    policy_concentrability,
    preference_concentrability,
    random_distance,
    random_policy,
    tilted,
)

SEEDS = st.integers(0, 10**6)
STAR = np.array([[0.25, 0.75]])
APART = 1 - np.eye(2)[None]


def draw(seed: int, kernel: str, count: int = 30):
    return random_instance(np.random.default_rng(seed), count, kernel)


def check_instance(instance: Instance) -> None:
    """Assert that q is a kernel, eq. 8 holds, c is its cost and π* ∝ π_ref exp(−c/β), all to 1e-10."""
    assert instance.q.min() >= 0, "rows"
    assert np.abs(instance.q.sum(axis=-1) - 1).max() < 1e-10, "rows"
    assert balance_gap(instance.star, instance.q).max() < 1e-10, "eq. 8"
    assert np.abs(instance.cost - (instance.q * instance.delta).sum(axis=-1)).max() < 1e-10, "cost"
    assert np.abs(tilted(instance.ref, instance.cost, instance.beta) - instance.star).max() < 1e-10, "optimum"


@pytest.mark.parametrize("kernel", KERNELS)
@given(seed=SEEDS)
def test_constructed_instances_are_consistent(kernel: str, seed: int) -> None:
    """Eqs. 8 and 9, the cost and the optimum; 100 examples of 30 instances with 4 contexts each."""
    instance = draw(seed, kernel)
    check_instance(instance)
    assert (instance.gamma_min > 0).all()
    assert np.allclose(edited(instance.star, instance.q), instance.star, atol=1e-12)


BROKEN: Mapping[str, Callable[[Instance], Instance]] = {
    "rows": lambda it: replace(it, q=it.q * 0.999),
    r"eq\. 8": lambda it: replace(it, q=perturbed(it.q, 1e-6, cyclic(5))),
    "cost": lambda it: replace(it, cost=it.cost * 1.001),
    "optimum": lambda it: replace(it, beta=it.beta * 1.001),
}


@pytest.mark.parametrize("part", BROKEN)
@pytest.mark.parametrize("kernel", KERNELS)
def test_an_inconsistent_instance_is_found(kernel: str, part: str) -> None:
    with pytest.raises(AssertionError, match=part):
        check_instance(BROKEN[part](draw(1, kernel)))


def test_a_lazy_user_by_hand() -> None:
    """π* = (1/4, 3/4), γ = 1/2, distance 1, β = 1: q = [[5/8, 3/8], [1/8, 7/8]], c = (3/8, 1/8)."""
    instance = consistent(STAR, lazy(STAR, 0.5), APART, 1.0)
    assert instance.q.tolist() == [[[0.625, 0.375], [0.125, 0.875]]]
    assert instance.cost.tolist() == [[0.375, 0.125]]
    weights = np.array([0.25 * np.exp(0.375), 0.75 * np.exp(0.125)])
    a, b = ref = weights / weights.sum()
    assert instance.ref[0] == pytest.approx(ref)
    assert instance.gamma_min.tolist() == [0.375]
    assert instance.contraction == pytest.approx([0.5])
    pairs = 0.5 * (a * 0.375 + b * 0.125)  # μ(a, b)
    assert preference_concentrability(instance) == pytest.approx([max(0.25 * b, 0.75 * a) / pairs])
    assert policy_concentrability(instance.star, instance.ref) == pytest.approx([0.75 / b])


def test_a_metropolis_user_by_hand() -> None:
    """π* = (1/4, 3/4), always proposing the other text: a → b always, b → a with probability 1/3."""
    q = metropolis(STAR, 1 - np.eye(2)[None])
    assert q[0] == pytest.approx(np.array([[0, 1], [1 / 3, 2 / 3]]))
    assert q[0] == pytest.approx(two_point(np.array(1 / 3)).q[0][::-1, ::-1])


@given(SEEDS)
def test_a_mixture_and_a_perturbation_are_convex(seed: int) -> None:
    rng = np.random.default_rng(seed)
    star, other = random_policy(rng, 3, 4), random_policy(rng, 3, 4, 4)
    mixed = mixture((0.25, lazy(star, 0.5)), (0.75, metropolis(star, other)))
    assert (balance_gap(star, mixed) < 1e-15).all()
    assert np.allclose(perturbed(mixed, 0.3, other), 0.7 * mixed + 0.3 * other)
    gap = balance_gap(star, perturbed(mixed, 0.3, other))
    assert np.allclose(gap, 0.3 * balance_gap(star, other))  # the sound part balances itself
    assert ((gap >= 0) & (gap <= 1)).all()


def test_going_in_circles_is_as_far_from_balance_as_can_be() -> None:
    assert balance_gap(random_policy(np.random.default_rng(0), 3, 5), cyclic(5)) == pytest.approx(np.ones(3))


@given(SEEDS, st.floats(0.05, 1), st.floats(1.2, 500))
def test_lazy_users_of_given_coverage(seed: int, gamma: float, coverage: float) -> None:
    rng = np.random.default_rng(seed)
    star, delta = random_policy(rng, 4, 5), random_distance(rng, 4, 5)
    instance, other = (lazy_instance(star, delta, share, coverage) for share in (gamma, 0.5))
    check_instance(instance)
    assert policy_concentrability(instance.star, instance.ref).max() == pytest.approx(coverage, rel=1e-6)
    assert np.allclose(instance.ref, other.ref, atol=1e-12)  # β ∝ γ keeps π_ref
    assert (preference_concentrability(instance) <= 2 / gamma + 1e-9).all()  # whatever the coverage


def test_pairs_that_are_never_logged_have_no_concentrability() -> None:
    instance = consistent(STAR, lazy(STAR, 0.0), APART, 1.0)
    assert np.isinf(preference_concentrability(instance)).all()


def test_any_user_has_an_optimum() -> None:
    star, delta = draw(2, "lazy").star, draw(2, "lazy").delta
    user = given_user(star, np.broadcast_to(cyclic(5), delta.shape), delta, 0.3)
    assert np.allclose(user.star, tilted(star, user.cost, 0.3))
    with pytest.raises(AssertionError, match=r"eq\. 8"):
        check_instance(user)


@pytest.mark.parametrize("d", [1, 2, 7, 20])
def test_the_dimension_of_a_cost_class(d: int) -> None:
    instance = draw(3, "metropolis", 5)
    features = cost_features(instance.cost, d, np.random.default_rng(0))
    table = features.reshape(5, -1, d)
    assert (np.linalg.matrix_rank(table) == d).all()
    weights = np.linalg.lstsq(table[0], instance.cost[0].ravel(), rcond=None)[0]
    assert table[0] @ weights == pytest.approx(instance.cost[0].ravel())  # realisable
    assert (features**2).mean(axis=(1, 2)) == pytest.approx(np.ones((5, d)))


def test_distances_are_metrics() -> None:
    delta: Array = random_distance(np.random.default_rng(0), 50, 6)
    assert (np.diagonal(delta, axis1=1, axis2=2) == 0).all()
    assert delta.max(axis=(1, 2)) == pytest.approx(np.ones(50))
    assert (delta[:, :, None, :] <= delta[:, :, :, None] + delta[:, None, :, :] + 1e-12).all()


def test_leading_axes_broadcast() -> None:
    rng = np.random.default_rng(0)
    star, delta, gammas = random_policy(rng, 7, 3, 4), random_distance(rng, 7, 3, 4), np.array([[0.2], [0.9]])
    both = lazy_instance(star, delta, gammas, 4.0)
    one = lazy_instance(star[2], delta[2], 0.9, 4.0)
    assert both.q.shape == (2, 7, 3, 4, 4)
    assert total_variation(both.star[2], one.star).max() == 0
    assert np.allclose(both.q[1, 2], one.q)
    assert np.allclose(both.beta[1, 2], one.beta)


@pytest.mark.parametrize("beta", [0.0, -1.0, float("inf"), float("nan")])
def test_invalid_beta(beta: float) -> None:
    with pytest.raises(ConfigError, match="beta = "):
        consistent(STAR, lazy(STAR, 0.5), APART, beta)


@pytest.mark.parametrize("shares", [(0.5, 0.4), (1.5, -0.5)])
def test_invalid_mixture(shares: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="mixture of kernels"):
        mixture(*((share, lazy(STAR, 0.5)) for share in shares))


@pytest.mark.parametrize("d", [0, 3])
def test_invalid_dimension(d: int) -> None:
    with pytest.raises(ConfigError, match="dimensions, give 1 to 2"):
        cost_features(STAR, d, np.random.default_rng(0))
