from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.errors import DataError
from redraft.lab.kernels import balance_gap, lazy
from redraft.lab.theory.bounds import (
    bradley_terry_gap,
    divergence,
    fit_rate,
    lemma_1,
    objective,
    suboptimality,
    theorem_1,
    total_variation,
)
from redraft.lab.theory.contraction import KERNELS, cyclic, random_instance, two_point
from redraft.lab.theory.tabular import Instance, perturbed, random_policy

SEEDS = st.integers(0, 10**6)


def draw(seed: int, kernel: str) -> tuple[Instance, np.ndarray]:
    """Thirty instances of four contexts, and a policy for each."""
    rng = np.random.default_rng(seed)
    instance = random_instance(rng, 30, kernel)
    return instance, random_policy(rng, *instance.star.shape)


@pytest.mark.parametrize("kernel", KERNELS)
@given(seed=SEEDS)
def test_bradley_terry_with_the_one_over_beta_that_the_print_drops(kernel: str, seed: int) -> None:
    instance, _ = draw(seed, kernel)
    assert bradley_terry_gap(instance).max() < 1e-10
    assert bradley_terry_gap(instance, 1.0).max() > 0.01
    assert bradley_terry_gap(instance, instance.beta * 1.01).max() > 1e-6


def test_bradley_terry_fails_for_a_kernel_out_of_balance() -> None:
    instance, _ = draw(0, "lazy")
    assert bradley_terry_gap(replace(instance, q=perturbed(instance.q, 0.01, cyclic(5)))).max() > 1e-3


def test_bradley_terry_by_hand() -> None:
    """q(a|b) = 1, q(b|a) = 1/2, β = 1: π* = (2/3, 1/3), c = (1/2, 1), π_ref ∝ (2 e^½, e)."""
    instance = two_point(np.array(0.5))
    a, b = 2 * np.exp(0.5), np.exp(1.0)
    assert instance.ref[0] == pytest.approx(np.array([a, b]) / (a + b))
    assert (b * 1) / (b * 1 + a * 0.5) == pytest.approx(1 / (1 + np.exp(-(1 - 0.5))))  # P(a ≻ b) = σ(c(b) − c(a))
    assert bradley_terry_gap(instance) < 1e-15


@pytest.mark.parametrize("kernel", KERNELS)
@given(seed=SEEDS)
def test_lemma_1(kernel: str, seed: int) -> None:
    after, bound = lemma_1(*draw(seed, kernel))
    assert (after <= bound + 1e-12).all()


@given(SEEDS, st.floats(0.05, 1))
def test_a_lazy_user_contracts_by_exactly_one_minus_gamma(seed: int, gamma: float) -> None:
    instance, policy = draw(seed, "lazy")
    after, bound = lemma_1(replace(instance, q=lazy(instance.star, gamma)), policy)
    assert np.allclose(after, (1 - gamma) * total_variation(policy, instance.star), atol=1e-12)
    assert (after <= bound + 1e-12).all()


@given(st.floats(0.01, 0.99), SEEDS)
def test_lemma_1_is_tight_for_two_texts(r: float, seed: int) -> None:
    instance = two_point(np.array(r))
    after, bound = lemma_1(instance, random_policy(np.random.default_rng(seed), 1, 2))
    assert after == pytest.approx(bound, abs=1e-12)
    assert instance.gamma_min == pytest.approx(1 - r)


@given(SEEDS, st.floats(0.05, 1))
def test_lemma_1_for_any_user_at_the_price_of_the_balance_gap(seed: int, epsilon: float) -> None:
    instance, policy = draw(seed, "mixture")
    anyone = random_policy(np.random.default_rng(seed), *instance.q.shape)
    user = replace(instance, q=perturbed(instance.q, epsilon, anyone))
    after, bound = lemma_1(user, policy)
    assert (after <= bound + balance_gap(user.star, user.q) + 1e-12).all()
    at_optimum, nothing = lemma_1(user, user.star)
    assert (nothing < 1e-12).all()
    assert at_optimum.max() > 1e-6  # the lemma itself is broken


@pytest.mark.parametrize("kernel", KERNELS)
@given(seed=SEEDS)
def test_theorem_1_in_the_population(kernel: str, seed: int) -> None:
    error, bound = theorem_1(draw(seed, kernel)[0])
    assert (error <= bound + 1e-12).all()


@pytest.mark.parametrize("kernel", KERNELS)
@given(seed=SEEDS)
def test_suboptimality_is_beta_times_the_divergence(kernel: str, seed: int) -> None:
    instance, policy = draw(seed, kernel)
    excess = objective(instance, policy) - objective(instance, instance.star)
    assert np.allclose(excess, suboptimality(instance, policy), rtol=1e-10, atol=1e-12)
    wrong = replace(instance, beta=instance.beta * 1.01)
    assert not np.allclose(objective(wrong, policy) - objective(wrong, wrong.star), suboptimality(wrong, policy))


@given(SEEDS, st.floats(1e-3, 1))
def test_pi_star_minimises_j(seed: int, step: float) -> None:
    instance, policy = draw(seed, "mixture")
    nearby = (1 - step) * instance.star + step * policy
    assert (objective(instance, nearby) > objective(instance, instance.star)).all()
    wrong = replace(instance, beta=instance.beta * 2)  # π* of another β
    assert (objective(wrong, (1 - 1e-4) * wrong.star + 1e-4 * wrong.ref) < objective(wrong, wrong.star)).any()


def test_distances_by_hand() -> None:
    p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    assert total_variation(p, q) == 0.25
    assert divergence(p, q) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert divergence(np.array([1.0, 0.0]), p) == pytest.approx(np.log(2))
    assert np.isinf(divergence(p, np.array([1.0, 0.0])))


def test_a_rate_has_an_error() -> None:
    rate = fit_rate([1, 2, 4, 8], [1.0, 0.5, 0.26, 0.125])
    assert rate.slope == pytest.approx(-0.99, abs=0.02)
    assert 0 < rate.error < 0.05


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, 0.0, 2.0], [1.0, -1.0, 2.0]])
def test_invalid_rate(values: list[float]) -> None:
    with pytest.raises(DataError, match="at least 3, all > 0"):
        fit_rate(range(1, len(values) + 1), values)
