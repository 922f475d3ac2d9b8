from __future__ import annotations

import pytest

from redraft.errors import ConfigError
from redraft.select import Fixed


def test_plays_one_policy_and_says_so() -> None:
    selector = Fixed(["a", "b"], policy="b")
    decision = selector.select("x")
    assert (decision.chosen, decision.propensities, decision.scores) == ("b", (0.0, 1.0), None)
    assert Fixed(["a", "b"]).select("x").chosen == "a"


def test_invalid_policy() -> None:
    with pytest.raises(ConfigError, match="policy = 'c': must be one of the arms a, b"):
        Fixed(["a", "b"], policy="c")
