from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.errors import ConfigError, DataError
from redraft.lab.replay import replay
from redraft.select import Fixed, LateEnsemble, Uniform

COLUMN = st.lists(st.floats(0, 100), min_size=8, max_size=8)


def test_by_hand() -> None:
    rows = replay(Fixed(["a", "b"]), {"a": [0.1, 0.2, 0.3], "b": [0.3, 0.0, 0.1]})
    assert [row.cost for row in rows] == [0.1, 0.2, 0.3]
    assert [row.cumulative_cost for row in rows] == [0.1, 0.3, 0.6]  # exact: 0.1 + 0.2 is 0.3 in integer units
    assert [row.regret for row in rows] == [-0.2, 0.0, 0.2]
    assert {row.best for row in rows} == {"b"}


@settings(deadline=None)
@given(COLUMN, COLUMN, st.integers(0, 10))
def test_regret_is_cost_above_the_best_fixed_policy(a: list[float], b: list[float], delay: int) -> None:
    rows = replay(Uniform(["a", "b"]), {"a": a, "b": b}, delay=delay)
    assert rows[-1].regret == pytest.approx(sum(row.cost for row in rows) - min(sum(a), sum(b)), abs=1e-7)
    assert [row.cumulative_cost for row in rows] == pytest.approx(list(accumulate(row.cost for row in rows)))
    best = replay(Fixed(["a", "b"], rows[0].best), {"a": a, "b": b})
    assert {row.regret for row in best} == {0.0}


@pytest.mark.parametrize("delay", [0, 1, 5, 8, 20])
def test_all_costs_arrive_in_the_end(delay: int) -> None:
    selector = LateEnsemble(["a", "b"])
    rows = replay(selector, {"a": [1.0] * 8, "b": [2.0] * 8}, delay=delay)
    assert [row.decision.t for row in rows] == [max(1, t - delay) for t in range(1, 9)]
    assert selector.t == 9


def test_no_rounds() -> None:
    assert replay(Fixed(["a"]), {"a": []}) == []


def test_other_columns_are_ignored() -> None:
    assert replay(Fixed(["a"]), {"a": [1.0], "oracle": [0.0, 0.0]})[0].regret == 0


def test_invalid_table() -> None:
    with pytest.raises(ConfigError, match="no column for b"):
        replay(Fixed(["a", "b"]), {"a": [1.0]})
    with pytest.raises(DataError, match=r"unequal length \(a 1, b 2\)"):
        replay(Fixed(["a", "b"]), {"a": [1.0], "b": [1.0, 2.0]})
    with pytest.raises(DataError, match="cost nan"):
        replay(Fixed(["a", "b"]), {"a": [1.0], "b": [float("nan")]})
    with pytest.raises(ConfigError, match="delay = -1"):
        replay(Fixed(["a"]), {"a": [1.0]}, delay=-1)
