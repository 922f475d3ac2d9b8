from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import pytest
from numpy.random import Generator

from redraft.errors import ConfigError
from redraft.lab.users import User, user_rng
from redraft.lab.users.mixed import MixedUsers
from redraft.types import Context


@dataclass(frozen=True)
class Says:
    """Leaves its name and a draw, whatever comes."""

    name: str

    def edit(self, context: Context, response: str, *, t: int, rng: Generator) -> str:
        return f"{self.name} {rng.random()}"


A, B, C = Says("a"), Says("b"), Says("c")
SHARES = {"a": 0.2, "b": 0.5, "c": 0.3}
MIXED = MixedUsers(((0.2, A), (0.5, B), (0.3, C)))


def edit(user: User, context: str, response: str = "", t: int = 1, seed: int = 3) -> str:
    return user.edit(Context(context, (), "task"), response, t=t, rng=user_rng(seed, context))


def test_contexts_fall_to_members_by_their_shares() -> None:
    rounds = 2000
    found = Counter(edit(MIXED, f"c-{i}")[0] for i in range(rounds))
    assert set(found) == set(SHARES)
    for name, share in SHARES.items():
        assert abs(found[name] - rounds * share) <= 5 * math.sqrt(rounds * share * (1 - share))


def test_a_context_belongs_to_one_member_in_every_round_and_for_every_response() -> None:
    for i in range(50):
        assert len({edit(MIXED, f"c-{i}", response, t) for response in ("x", "y z") for t in (1, 60)}) == 1


def test_a_member_edits_as_it_would_alone() -> None:
    alone = {user.name: user for user in (A, B, C)}
    for i in range(50):
        left = edit(MIXED, f"c-{i}")
        assert left == edit(alone[left[0]], f"c-{i}")


def test_another_seed_is_another_population() -> None:
    assert len({edit(MIXED, "c-1", seed=seed)[0] for seed in range(40)}) == 3


def test_a_single_member_has_every_context() -> None:
    assert edit(MixedUsers(((1.0, A),)), "c-1") == edit(A, "c-1")


@pytest.mark.parametrize("shares", [(), (0.5, 0.4), (1.5, -0.5), (1.0, 0.0), (math.nan, 0.5)])
def test_invalid_shares(shares: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"mixed users: shares .*, give numbers > 0 that sum to 1"):
        MixedUsers(tuple((share, A) for share in shares))
