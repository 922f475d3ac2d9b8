"""The linear cost model against brute force, and its calibration on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize

from redraft.errors import DataError
from redraft.train.cost_model import COVERAGE, CostModel, Examples, LinearBound, Quality, fit_cost, measured

Array = NDArray[np.float64]
WEIGHTS = np.array([0.3, -0.2, 0.5])


def examples(n: int, seed: int = 0, *, noise: float = 0.1, per_context: int = 2) -> Examples:
    rng = np.random.default_rng(seed)
    text = rng.normal(size=(n, 3))
    costs = 1 + text @ WEIGHTS + noise * rng.standard_exponential(n)
    hidden = rng.normal(size=(n, 12))
    return Examples(text, hidden, costs, np.arange(n) // per_context, np.ones(n))


@given(st.integers(0, 10_000), st.integers(2, 3), st.floats(0.1, 3.0), st.floats(0.05, 4.0))
def test_the_bound_is_the_maximum_over_the_confidence_set(seed: int, size: int, ridge: float, gamma: float) -> None:
    rng = np.random.default_rng(seed)
    features, costs, at = rng.normal(size=(8, size)), rng.normal(size=8), rng.normal(size=size)
    found = LinearBound.fit(features, costs, ridge)
    closed = float(found.mean(at[None])[0] + np.sqrt(gamma) * found.width(at[None])[0])

    def slack(w: Array) -> float:
        return gamma - float(np.sum((features @ (w - found.weights)) ** 2) + ridge * np.sum((w - found.weights) ** 2))

    def negative(w: Array) -> tuple[float, Array]:
        return -float(w @ at), -at

    best = minimize(
        negative,
        found.weights + 1e-3 * at,
        jac=True,
        constraints={"type": "ineq", "fun": slack},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert closed == pytest.approx(-best.fun, abs=1e-6)


def quality(model: CostModel, rows: Examples) -> Quality:
    """How a model does on responses of contexts that it did not see."""
    return measured(*model.predict(rows.text, rows.hidden), rows.costs)


def test_ridge_regression_is_the_normal_equations() -> None:
    rows = examples(50)
    found = LinearBound.fit(rows.text, rows.costs, 2.0)
    expected = np.linalg.solve(rows.text.T @ rows.text + 2 * np.eye(3), rows.text.T @ rows.costs)
    assert found.weights == pytest.approx(expected)


def test_it_learns_and_covers_what_it_says() -> None:
    found = quality(fit_cost(examples(400)), examples(2000, seed=1))
    assert found.r2 is not None
    assert found.r2 > 0.9
    assert found.rank_correlation is not None
    assert found.rank_correlation > 0.9
    assert found.coverage == pytest.approx(COVERAGE, abs=0.03)


def test_a_few_empty_answers_do_not_decide() -> None:
    """Costs are distances over lengths; one response in fifty is a single word and costs what all of y' costs."""
    rng = np.random.default_rng(0)
    size, quality_of = np.where(np.arange(500) % 50 == 49, 1.0, 30.0), rng.uniform(size=500)
    costs = np.maximum(0, 30 - 20 * quality_of * (size > 1) + rng.normal(size=500)) / size
    rows = Examples(np.column_stack([1 / size, quality_of]), np.zeros((500, 1)), costs, np.arange(500), size)
    usual = quality(
        fit_cost(rows.take(np.arange(400))), rows.take(np.flatnonzero((np.arange(500) >= 400) & (size > 1)))
    )
    assert usual.r2 is not None
    assert usual.r2 > 0.8


def test_rows_of_a_context_stay_together() -> None:
    """A context's own constant, which no other context shares, must not help to predict it."""
    rng = np.random.default_rng(0)
    own = np.repeat(rng.normal(size=60), 5)
    hidden = np.repeat(np.eye(60), 5, axis=0)
    rows = Examples(np.zeros((300, 1)), hidden, own, np.repeat(np.arange(60), 5), np.ones(300))
    found = quality(fit_cost(rows), rows).r2
    assert found is not None
    assert found < 0.5


def test_a_model_comes_back_from_its_arrays() -> None:
    rows = examples(100)
    model = fit_cost(rows)
    again = CostModel.from_arrays(model.arrays(), model.kappa, vars(model.choice))
    for one, other in zip(model.predict(rows.text, rows.hidden), again.predict(rows.text, rows.hidden), strict=True):
        assert np.array_equal(one, other)


def test_too_few_contexts_are_refused() -> None:
    with pytest.raises(DataError, match="leave 4: log edits of more contexts"):
        fit_cost(examples(8))
