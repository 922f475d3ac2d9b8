from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.errors import DataError
from redraft.stats import compare, mean_interval, mean_of_means

COSTS = st.lists(st.floats(0, 5), min_size=1, max_size=30)


def test_the_interval_of_a_normal_mean_is_the_textbook_one():
    values = np.random.default_rng(1).normal(2.0, 0.5, size=400)
    interval = mean_interval(list(values), draws=20_000)
    error = values.std() / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_two_values_give_the_exact_distribution():
    """Means of two draws from {0, 1} are 0, ½, 1 with ¼, ½, ¼: the middle 40 % is one point."""
    assert mean_interval([0, 1], level=0.4).low == mean_interval([0, 1], level=0.4).high == 0.5
    assert (mean_interval([0, 1]).low, mean_interval([0, 1]).high) == (0, 1)


def test_intervals_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(2)
    samples = rng.normal(1.0, 2.0, size=(400, 60))
    intervals = [mean_interval(list(sample), level=0.9, draws=400, seed=i) for i, sample in enumerate(samples)]
    covered = np.mean([interval.low <= 1.0 <= interval.high for interval in intervals])
    assert 0.86 <= covered <= 0.93


def test_pairing_finds_a_small_difference_under_large_noise():
    noise = np.random.default_rng(3).normal(0, 10, size=100)
    difference = np.random.default_rng(4).normal(-0.5, 0.1, size=100)
    result = compare(list(noise + difference), list(noise))
    assert result.below == 1.0
    assert result.difference.high < -0.45


def test_equal_costs_are_a_tie():
    assert compare([1, 2, 3], [1, 2, 3]).below == 0.5
    assert 0.2 < compare([1, 0] * 20, [0, 1] * 20).below < 0.8


@settings(max_examples=50, deadline=None)
@given(COSTS)
def test_bounds_hold_the_mean_of_means_and_stay_within_the_values(costs: list[float]):
    interval = mean_interval(costs, draws=200)
    assert min(costs) - 1e-9 <= interval.low <= interval.high <= max(costs) + 1e-9
    assert compare(costs, [cost + 1 for cost in costs], draws=50).below == 1.0


def test_a_seed_fixes_the_result_and_chunks_do_not_change_it(monkeypatch: pytest.MonkeyPatch):
    values = list(np.linspace(0, 1, 50))
    first = mean_interval(values, seed=7)
    assert mean_interval(values, seed=7) == first
    assert mean_interval(values, seed=8) != first
    monkeypatch.setattr("redraft.stats._CHUNK", 300)
    assert mean_interval(values, seed=7) == first


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_invalid_values(values: list[float]):
    with pytest.raises(DataError, match="bootstrap of"):
        mean_interval(values)


def test_invalid_pairs():
    with pytest.raises(DataError, match="2 and 1 costs"):
        compare([1, 2], [1])


def test_sets_are_drawn_anew_apart_and_weigh_alike():
    values = [float(n % 5) for n in range(100)]
    one, both = mean_interval(values), mean_of_means([values, [-x for x in values]])
    assert both.mean == 0
    assert both.high - both.low == pytest.approx((one.high - one.low) / 2**0.5, rel=0.1)  # 0 if drawn alike
    assert mean_of_means([values]) == one
    assert mean_of_means([values, [7.0]]).mean == (one.mean + 7) / 2
    with pytest.raises(DataError, match="at least one"):
        mean_of_means([])
