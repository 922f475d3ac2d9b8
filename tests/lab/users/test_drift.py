from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import Generator

from redraft.errors import ConfigError
from redraft.lab.users import User, user_rng
from redraft.lab.users.drift import DriftingUser, TiringUser
from redraft.types import Context


@dataclass(frozen=True)
class Says:
    """Leaves its name and a draw, whatever comes."""

    name: str

    def edit(self, context: Context, response: str, *, t: int, rng: Generator) -> str:
        return f"{self.name} {rng.random()}"


OLD, NEW = Says("old"), Says("new")
CONTEXTS = [f"c-{i}" for i in range(1000)]
ROUNDS = st.integers(1, 200)


def edit(user: User, t: int, context: str = "c") -> str:
    return user.edit(Context(context, (), "task"), "as it was", t=t, rng=user_rng(7, context))


def share(user: User, t: int, start: str) -> float:
    return sum(edit(user, t, context).startswith(start) for context in CONTEXTS) / len(CONTEXTS)


def within(found: float, probability: float) -> bool:
    """Within 5 standard deviations of a binomial share over ``CONTEXTS``."""
    return abs(found - probability) <= 5 * math.sqrt(probability * (1 - probability) / len(CONTEXTS))


@given(ROUNDS, ROUNDS)
def test_a_hard_change_is_the_one_user_and_then_the_other(at: int, t: int) -> None:
    assert edit(DriftingUser(OLD, NEW, at), t) == edit(NEW if t >= at else OLD, t)


@pytest.mark.parametrize(("t", "changed"), [(1, 0), (9, 0), (10, 1 / 5), (12, 3 / 5), (14, 1), (15, 1), (900, 1)])
def test_a_slow_change_by_hand(t: int, changed: float) -> None:
    user = DriftingUser(OLD, NEW, at=10, width=4)
    assert user.changed(t) == pytest.approx(changed)
    assert within(share(user, t, "new"), changed)


@given(ROUNDS, st.integers(0, 50), ROUNDS, st.integers(0, 100), st.sampled_from(CONTEXTS))
def test_once_changed_stays_changed(at: int, width: int, t: int, later: int, context: str) -> None:
    user = DriftingUser(OLD, NEW, at, width)
    if edit(user, t, context) == edit(NEW, t, context):
        assert edit(user, t + later, context) == edit(NEW, t, context)
    else:
        assert edit(user, t, context) == edit(OLD, t, context)


@pytest.mark.parametrize(("t", "tired"), [(1, 0), (11, 1 / 2), (21, 3 / 4), (31, 7 / 8)])
def test_fatigue_by_hand(t: int, tired: float) -> None:
    user = TiringUser(OLD, half_life=10)
    assert user.tired(t) == pytest.approx(tired)
    assert within(share(user, t, "as it was"), tired)


@given(st.floats(0.1, 1000), ROUNDS, st.integers(0, 100), st.sampled_from(CONTEXTS))
def test_once_tired_stays_tired(half_life: float, t: int, later: int, context: str) -> None:
    user = TiringUser(OLD, half_life)
    if edit(user, t, context) == "as it was":
        assert edit(user, t + later, context) == "as it was"
    else:
        assert edit(user, t, context) == edit(OLD, t, context)


@given(ROUNDS)
def test_an_infinite_half_life_is_the_user_itself(t: int) -> None:
    assert edit(TiringUser(OLD, math.inf), t) == edit(OLD, t)


def test_rounds_can_come_in_any_order() -> None:
    user = DriftingUser(TiringUser(OLD, 5), NEW, at=3, width=9)
    forwards = [edit(user, t, context) for t, context in enumerate(CONTEXTS[:40], 1)]
    backwards = [edit(user, t, context) for t, context in reversed(list(enumerate(CONTEXTS[:40], 1)))]
    assert forwards == backwards[::-1]
    assert len({left.split()[0] for left in forwards}) == 3


def test_names() -> None:
    assert DriftingUser(OLD, NEW, 20).name == "old+drift=new@20"
    assert TiringUser(OLD, 25).name == "old+fatigue=25"


@pytest.mark.parametrize(("at", "width"), [(0, 0), (-3, 0), (5, -1)])
def test_invalid_drift(at: int, width: int) -> None:
    with pytest.raises(ConfigError, match=f"drift: at = {at}, width = {width}; rounds count from 1"):
        DriftingUser(OLD, NEW, at, width)


@pytest.mark.parametrize("half_life", [0, -1, math.nan])
def test_invalid_fatigue(half_life: float) -> None:
    with pytest.raises(ConfigError, match="fatigue: half_life ="):
        TiringUser(OLD, half_life)
