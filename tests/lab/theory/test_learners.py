from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from redraft.errors import DataError
from redraft.lab.kernels import Array
from redraft.lab.theory.contraction import KERNELS, cyclic, random_instance
from redraft.lab.theory.learners import dpo, dpo_linear, early, expected_log, fit_cost, rl, sample_log, sft
from redraft.lab.theory.tabular import cost_features, edited, given_user, tilted

SEEDS = st.integers(0, 10**6)


def sampled(seed: int = 0, n: int = 60):
    """One context of four texts: small enough for an oracle."""
    rng = np.random.default_rng(seed)
    instance = random_instance(rng, 1, "mixture", contexts=1, responses=4)
    return instance, sample_log(instance, n, rng)


def oracle(log: Array, ref: Array, *, preference: float, likelihood: float, ridge: float) -> Array:
    """eq. 7 written out pair by pair, minimised by a general routine."""

    def loss(r: Array) -> float:
        policy = ref * np.exp(r)
        policy = policy / policy.sum()
        total = 0.5 * ridge * (r**2).sum()
        for y in range(len(r)):
            for z in range(len(r)):
                total += preference * log[y, z] * np.log1p(np.exp(r[y] - r[z])) * (y != z)
                total -= likelihood * log[y, z] * np.log(policy[z])
        return float(total)

    found: Any = minimize(loss, np.zeros(len(ref)), tol=1e-12)
    policy = ref * np.exp(found.x)
    return policy / policy.sum()


@pytest.mark.parametrize("kernel", KERNELS)
@given(seed=SEEDS)
@settings(max_examples=25)
def test_limits(kernel: str, seed: int) -> None:
    instance = random_instance(np.random.default_rng(seed), 20, kernel)
    law, ref = expected_log(instance), instance.ref
    assert np.allclose(law.sum(axis=(1, 2, 3)), 1)
    assert np.allclose(sft(law, ref), edited(ref, instance.q), atol=1e-12)
    assert np.allclose(dpo(law, ref), instance.star, atol=1e-8)
    assert np.allclose(early(law, ref, 0.0), instance.star, atol=1e-8)
    assert np.allclose(rl(ref, instance.cost, instance.beta), instance.star, atol=1e-12)
    features = cost_features(instance.cost, 3, np.random.default_rng(seed)) / instance.beta[:, None, None, None]
    assert np.allclose(dpo_linear(law, ref, features), instance.star, atol=1e-7)


@given(SEEDS, st.floats(0.2, 3))
@settings(max_examples=25)
def test_dpo_at_another_tau_is_biased_as_stated(seed: int, tau: float) -> None:
    instance = random_instance(np.random.default_rng(seed), 20, "lazy")
    found = dpo(expected_log(instance), instance.ref, tau=tau)
    assert np.allclose(found, tilted(instance.ref, instance.cost, instance.beta * tau), atol=1e-7)
    printed = dpo(expected_log(instance), instance.ref, tau=instance.beta)
    assert np.abs(printed - instance.star).max() > 0.01


def test_dpo_does_not_find_the_optimum_of_a_user_out_of_balance() -> None:
    sound = random_instance(np.random.default_rng(0), 20, "lazy")
    q = 0.8 * sound.q + 0.2 * cyclic(5)
    user = given_user(sound.ref, q, sound.delta, sound.beta)
    assert np.abs(dpo(expected_log(user), user.ref) - user.star).max() > 0.05
    assert np.allclose(rl(user.ref, user.cost, user.beta), user.star)  # RL's guarantee asks nothing of q


@pytest.mark.parametrize("seed", range(3))
def test_dpo_is_what_a_general_routine_finds(seed: int) -> None:
    instance, log = sampled(seed)
    expected = oracle(log[0, 0], instance.ref[0, 0], preference=1, likelihood=0, ridge=0.3)
    assert dpo(log, instance.ref, ridge=0.3)[0, 0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("weight", [0.3, 2.0])
def test_early_is_what_a_general_routine_finds(weight: float) -> None:
    instance, log = sampled()
    expected = oracle(log[0, 0], instance.ref[0, 0], preference=1, likelihood=weight, ridge=0.3)
    assert early(log, instance.ref, weight, ridge=0.3)[0, 0] == pytest.approx(expected, abs=1e-5)


def test_early_goes_from_dpo_to_sft() -> None:
    instance, log = sampled(n=400)
    assert early(log, instance.ref, 0.0, ridge=0.1) == pytest.approx(dpo(log, instance.ref, ridge=0.1))
    assert early(log, instance.ref, 1e7, ridge=0.1) == pytest.approx(sft(log, instance.ref), abs=1e-4)


def test_dpo_on_one_feature_a_text_is_tabular_dpo() -> None:
    rng = np.random.default_rng(0)
    instance = random_instance(rng, 3, "lazy")
    log = sample_log(instance, 300, rng)
    features = np.eye(20).reshape(4, 5, 20)
    assert dpo_linear(log, instance.ref, features, ridge=0.5) == pytest.approx(dpo(log, instance.ref, ridge=0.5))


def test_many_logs_at_once_are_each_fitted_as_if_alone() -> None:
    rng = np.random.default_rng(0)
    instance = random_instance(rng, 4, "mixture")
    log = sample_log(instance, 500, rng)
    features = cost_features(instance.cost, 4, rng)
    together = dpo(log, instance.ref, ridge=0.1), fit_cost(log, instance.delta, features).pessimistic
    for i in range(4):
        assert dpo(log[i], instance.ref[i], ridge=0.1) == pytest.approx(together[0][i], abs=1e-8)
        assert fit_cost(log[i], instance.delta[i], features[i]).pessimistic == pytest.approx(together[1][i])


def test_sft_counts_and_keeps_the_reference_where_nothing_was_seen() -> None:
    log, ref = np.zeros((2, 2, 2)), np.array([[0.3, 0.7], [0.4, 0.6]])
    log[0] = [[1, 2], [0, 1]]
    assert sft(log, ref).tolist() == [[0.25, 0.75], [0.4, 0.6]]


def test_preferences_that_have_no_best_table() -> None:
    log = np.array([[[0.0, 5.0], [0.0, 0.0]]])
    with pytest.raises(DataError, match="give a ridge > 0"):
        dpo(log, np.array([[0.5, 0.5]]))
    assert dpo(log, np.array([[0.5, 0.5]]), ridge=1.0)[0, 1] > 0.5
    with pytest.raises(DataError, match="give a ridge > 0"):
        dpo(np.zeros((1, 2, 2)), np.array([[0.5, 0.5]]))


def test_logs_follow_the_law() -> None:
    instance = random_instance(np.random.default_rng(0), 2, "metropolis")
    log = sample_log(instance, 200_000, np.random.default_rng(1))
    assert log.sum(axis=(1, 2, 3)).tolist() == [200_000, 200_000]
    law = expected_log(instance)
    assert np.abs(log / 200_000 - law).max() < 5 * np.sqrt(law.max() / 200_000)


def test_cost_regression_by_hand() -> None:
    """φ = 1 for both texts, ridge 1; costs 0, 1, 1: Λ = 4, f̂ = 2/4, width = 1/2, s² = (1/4 + 1/4 + 1/4)/3."""
    log, delta = np.array([[[1.0, 2.0], [0.0, 0.0]]]), np.array([[[0.0, 1.0], [1.0, 0.0]]])
    fit = fit_cost(log, delta, np.ones((1, 2, 1)), ridge=1.0, confidence=0.9)
    assert fit.mean.tolist() == [[0.5, 0.5]]
    assert fit.width == pytest.approx(np.full((1, 2), 0.5))
    level = np.log(10)
    assert fit.kappa == pytest.approx(np.sqrt(0.25 * (1 + 2 * np.sqrt(level) + 2 * level)))


def test_pessimism_is_the_maximum_over_the_confidence_set() -> None:
    rng = np.random.default_rng(0)
    instance = random_instance(rng, 1, "lazy")
    log, features = sample_log(instance, 100, rng)[0], cost_features(instance.cost, 3, rng)[0]
    fit = fit_cost(log, instance.delta[0], features, ridge=1.0)
    seen = log.sum(axis=-1)
    gram = np.einsum("xyi,xy,xyj->ij", features, seen, features) + np.eye(3)
    centre = np.linalg.lstsq(features.reshape(-1, 3), fit.mean.ravel(), rcond=None)[0]
    directions = rng.standard_normal((20_000, 3))
    length = np.sqrt(np.einsum("ni,ij,nj->n", directions, gram, directions))
    edge = centre + fit.kappa * directions / length[:, None]  # Σ ((w − ŵ)·φ)² + λ‖w − ŵ‖² = κ²
    highest = (features @ edge.T).max(axis=-1)
    assert (highest <= fit.pessimistic + 1e-9).all()
    assert highest == pytest.approx(fit.pessimistic, abs=5e-3 * float(fit.kappa))


def test_rl_minimises_equation_6() -> None:
    ref, cost, beta = np.array([[0.2, 0.3, 0.5]]), np.array([[1.0, 0.1, 0.4]]), 0.3

    def value(policy: Array) -> float:
        return float((policy * cost).sum() + beta * (policy * np.log(policy / ref)).sum())

    best = rl(ref, cost, beta)
    for _ in range(100):
        other = np.random.default_rng(_).dirichlet(np.ones(3))[None]
        assert value(best) <= value(0.99 * best + 0.01 * other)
