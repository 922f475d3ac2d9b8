"""Off-policy estimates: a golden example, what they must equal, and how often they err on logs with a known truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.errors import DataError
from redraft.select.ope import Estimate, Lead, Logged, estimate, lead, lower_bounds, unsupported

EVEN = {"a": 0.5, "b": 0.5}
MEANS = {"a": 0.5, "b": 0.4, "c": 0.6, "d": 0.5}


def logged(
    rng: np.random.Generator, n: int, means: Mapping[str, float] = MEANS, *, known: bool = False, floor: float = 1.0
) -> list[Logged]:
    """A log of costs in [0, 2] with these means; the first arm is chosen but for a share ``floor`` of drawn ones.

    Half of a cost's spread is the context's, and ``known`` tells it.
    """
    arms = list(means)
    propensities = {arm: floor / len(arms) + (1 - floor) * (arm == arms[0]) for arm in arms}
    rows: list[Logged] = []
    for arm in rng.choice(arms, n, p=list(propensities.values())):
        context = rng.uniform(0.25, 1.75)
        cost = means[arm] * context * rng.uniform(0.5, 1.5)
        predicted = {name: mean * context for name, mean in means.items()} if known else {}
        rows.append(Logged(str(arm), float(cost), propensities, predicted))
    return rows


def test_four_edits_by_hand() -> None:
    """π = a. Weights 2, 0, 2, 0; ĉ before each edit: 0, a's 1, a's 1 and b's 0.4, a's (1 + 0.2) / 2."""
    log = [Logged("a", 1.0, EVEN), Logged("b", 0.4, EVEN), Logged("a", 0.2, EVEN), Logged("b", 0.6, EVEN)]
    found = estimate(log, {"a": 1.0})
    assert (found.edits, found.left_out, found.effective, found.bernstein) == (4, 0, 2.0, None)
    assert found.ips.mean == pytest.approx((2 * 1.0 + 2 * 0.2) / 4)
    assert found.snips.mean == pytest.approx((1.0 + 0.2) / 2)
    assert found.direct == pytest.approx((0 + 1 + 1 + 0.6) / 4)
    assert found.dr.mean == pytest.approx((0 + 1 + 1 + 0.6 + 2 * 1.0 + 2 * (0.2 - 1.0)) / 4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 3)), min_size=1, max_size=20), st.floats(0.05, 0.95))
def test_the_target_that_wrote_the_log_costs_what_it_cost(edits: list[tuple[str, float]], share: float) -> None:
    logging = {"a": share, "b": 1 - share}
    found = estimate([Logged(arm, cost, logging) for arm, cost in edits], logging, draws=10)
    mean = sum(cost for _, cost in edits) / len(edits)
    assert found.ips.mean == pytest.approx(mean, abs=1e-9)
    assert found.snips.mean == pytest.approx(mean, abs=1e-9)
    assert found.effective == pytest.approx(len(edits))


def test_without_predictions_dr_is_ips_and_with_right_ones_it_is_exact() -> None:
    log = logged(np.random.default_rng(1), 50)
    nothing = [Logged(row.chosen, row.cost, row.propensities, dict.fromkeys(MEANS, 0.0)) for row in log]
    assert estimate(nothing, {"b": 1.0}, draws=10).dr == estimate(nothing, {"b": 1.0}, draws=10).ips
    told = [Logged(row.chosen, MEANS[row.chosen], row.propensities, MEANS) for row in log]
    exact = estimate(told, {"b": 1.0}, draws=10).dr
    assert (exact.low, exact.mean, exact.high) == pytest.approx((0.4, 0.4, 0.4))


@pytest.mark.parametrize(
    ("log", "why"),
    [
        ([], "no decision has an edit yet"),
        ([Logged("a", 1, EVEN)], "b was never chosen where it could be"),
        ([Logged("a", 1, {"a": 1.0, "b": 0.0})] * 2, "b could not be chosen in any of 2 decisions"),
        ([Logged("b", 1, {"a": 1.0, "b": 0.0})], "b could not be chosen in any of 1 decisions"),
    ],
)
def test_what_a_log_cannot_tell_is_said(log: list[Logged], why: str) -> None:
    assert unsupported(log, {"b": 1.0}) == why
    with pytest.raises(DataError, match=why):
        estimate(log, {"b": 1.0})


def test_decisions_in_which_a_policy_could_not_be_chosen_are_left_out() -> None:
    """An arm was down, a conversation kept its policy, a version was new: such rows say nothing of it."""
    log = logged(np.random.default_rng(2), 60)
    certain = [Logged("a", 3.0, {"a": 1.0, "b": 0.0}), Logged("a", 3.0, {"a": 1.0})]
    alone, mixed = (estimate(rows, {"b": 1.0}, draws=10) for rows in (log, [*certain, *log, *certain]))
    assert (mixed.left_out, mixed.edits) == (4, 60)
    assert mixed.dr == alone.dr


def test_no_edit_may_cost_more_than_the_most() -> None:
    log = [Logged("a", 0.5, EVEN), Logged("b", 2.0, EVEN)]
    for most in (1.9, 0.0, -1.0):
        with pytest.raises(DataError, match="an edit of the log costs 2, give what none can exceed"):
            estimate(log, {"a": 1.0}, most=most)
        with pytest.raises(DataError, match="an edit of the log costs 2, give what none can exceed"):
            lead(log, {"a": 1.0}, {"b": 1.0}, most=most)


def test_arms_that_the_target_never_plays_need_no_support() -> None:
    assert unsupported([Logged("a", 1, {"a": 1.0, "b": 0.0})], {"a": 1.0, "b": 0.0}) is None


def test_weights_of_any_size_bound_a_mean_from_below() -> None:
    """Terms of mean 0.5 that are 0 or 50: a bound by their range would be useless for long."""
    rng = np.random.default_rng(3)
    runs = [lower_bounds(np.where(rng.random(2_000) < 0.01, 50.0, 0.0), 0.05) for _ in range(300)]
    assert np.mean([bounds.max() > 0.5 for bounds in runs]) <= 0.05
    steady = lower_bounds(rng.uniform(0.4, 0.6, 2_000), 0.05)
    assert 0.48 < steady[-1] < 0.5
    assert (np.diff(steady) >= 0).all()


def test_bounds_that_are_looked_at_all_the_time_err_as_seldom_as_they_say() -> None:
    """Fair coins at 20 % of error: each rate has a tenth of it, few cross. Without the share 27 % do, with half of the
    variance term 12 %."""
    rng = np.random.default_rng(1)
    runs = [lower_bounds(np.where(rng.random(3_000) < 0.5, 1.0, 0.0), 0.2) for _ in range(300)]
    assert np.mean([bounds.max() > 0.5 for bounds in runs]) <= 0.05


def repeated(times: int, n: int, **more: Any) -> list[Estimate]:
    rng = np.random.default_rng(7)
    return [estimate(logged(rng, n, **more), {"b": 1.0}, most=2.0, seed=i, draws=400) for i in range(times)]


def coverage(found: list[Estimate], name: str) -> float:
    return float(np.mean([getattr(one, name).low <= MEANS["b"] <= getattr(one, name).high for one in found]))


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"known": True}, {"floor": 0.8}])
def test_intervals_cover_the_truth_as_often_as_they_say(more: dict[str, Any]) -> None:
    """1,000 logs whose effective sample is 100 or more."""
    found = repeated(1_000, 800 if "floor" in more else 600, **more)
    assert min(one.effective for one in found) >= 100
    for name in ("ips", "snips", "dr"):
        assert 0.93 <= coverage(found, name) <= 0.97, name
    assert coverage(found, "bernstein") >= 0.95
    if "known" in more:
        assert np.var([one.dr.mean for one in found]) < 0.7 * np.var([one.ips.mean for one in found])


@pytest.mark.slow
def test_a_lead_asked_for_after_every_edit_is_wrong_in_one_run_of_twenty() -> None:
    rng = np.random.default_rng(5)
    equal, unequal = {"a": 0.5, "b": 0.5}, {"a": 0.2, "b": 0.75}
    leads = [lead(logged(rng, 400, equal, floor=0.2), {"a": 1.0}, {"b": 1.0}, most=2.0) for _ in range(1_000)]
    assert np.mean([one.since is not None for one in leads]) <= 0.05
    found: list[Lead] = [lead(logged(rng, 800, unequal), {"a": 1.0}, {"b": 1.0}, most=2.0) for _ in range(50)]
    assert np.mean([one.since is not None for one in found]) >= 0.9
    assert all(one.at_most >= -0.55 for one in found)
