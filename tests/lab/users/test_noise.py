from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import Generator

from redraft.costs import COSTS
from redraft.errors import ConfigError
from redraft.lab.users import User, user_rng
from redraft.lab.users.noise import (
    AdversarialUser,
    DriftingUser,
    MixedUsers,
    NoisyUser,
    TiringUser,
    opposed,
    random_edit,
)
from redraft.lab.users.rules import Item, RuleUser
from redraft.types import Context

# Few words, so that they meet again; every kind of white space that str.split knows, no-break and separators too.
TEXT = st.lists(
    st.sampled_from(
        ["a", "b", "c", "Tom,", "😀", "שלום", " ", "  ", "\n", "\r\n", "\t", "\x1c", "\x85", "\u2028", "\xa0"]
    )
    | st.text(max_size=4),
    max_size=30,
).map("".join)
SIZE = COSTS["whitespace"]
CONTEXT = Context("c", (), "task", domain="talk")
WEAK = RuleUser(
    "weak",
    {
        "talk": tuple(
            Item(word, lambda _, text, word=word: f"{text} {word}") for word in ("one", "two", "three", "four")
        )
    },
    weak=True,
)
DEGREES = st.floats(0, 1, allow_subnormal=False)


@dataclass(frozen=True)
class Fixed:
    """Leaves one text, whatever comes."""

    text: str
    name: str = "fixed"

    def edit(self, context: Context, response: str, *, t: int, rng: Any) -> str:
        return self.text


@dataclass(frozen=True)
class Draws:
    """Leaves what its generator drew, so that any other use of the generator shows."""

    name: str = "draws"

    def edit(self, context: Context, response: str, *, t: int, rng: Any) -> str:
        return f"{response} {rng.random()} {t}"


def edit(user: User, response: str = "x y z", t: int = 1, seed: int = 0, context: str = "c") -> str:
    return user.edit(replace(CONTEXT, id=context), response, t=t, rng=user_rng(seed, context))


@given(TEXT, TEXT, st.integers(0, 99))
def test_a_random_edit_is_of_comparable_size(response: str, edited: str, seed: int) -> None:
    left = random_edit(response, edited, user_rng(seed, ""))
    assert len(left.split()) == len(edited.split())
    assert SIZE.raw(response, left) <= SIZE.raw(response, edited)
    assert set(left.split()) <= set(response.split()) | set(edited.split())


def test_a_random_edit_reaches_its_size_where_no_words_meet() -> None:
    response, edited = "a b c d e f", "s t u v w x y z"
    assert {SIZE.raw(response, random_edit(response, edited, user_rng(seed, ""))) for seed in range(30)} == {8}
    assert SIZE.raw(response, edited) == 8


def test_a_random_edit_falls_anywhere() -> None:
    # Three words, one of which the user replaces, always the first: chance takes each of them about as often.
    left = [random_edit("a b c", "x b c", user_rng(seed, "")) for seed in range(300)]
    assert set(left) >= {"x b c", "a x c", "a b x"}
    places = [{word for word in "abc" if word not in text.split()} for text in left]
    counts = [sum(word in gone for gone in places) for word in "abc"]
    # The incoming word is x, b or c: "a" goes in a third of the edits, b and c less often, as each can replace itself.
    assert 70 <= counts[0] <= 130
    assert all(40 <= count <= 100 for count in counts[1:])


def test_a_random_edit_keeps_the_layout_of_what_it_leaves() -> None:
    left = random_edit("Hi,\n\n- a\n- b", "Hi,\n\n- a\n- z", user_rng(3, ""))
    assert re.sub(r"\S+", "w", left) == "w\n\nw w\nw w"


@given(TEXT, TEXT, st.integers(0, 99))
def test_an_accepted_response_stays_accepted(response: str, other: str, seed: int) -> None:
    assert random_edit(response, response, user_rng(seed, "")) == response
    assert edit(NoisyUser(Fixed(response), 1.0), response, seed=seed) == response


@given(TEXT, TEXT)
def test_the_opposite_is_never_nearer_to_what_the_user_wants(response: str, edited: str) -> None:
    left = opposed(response, edited)
    assert SIZE(left, edited) >= SIZE(response, edited) - 1e-12
    assert not set(left.split()) & set(edited.split())


@given(TEXT, TEXT)
def test_the_opposite_costs_the_share_that_was_right(response: str, edited: str) -> None:
    words = response.split()
    right = sum(word in edited.split() for word in words)
    assert SIZE(response, opposed(response, edited)) == right / max(1, len(words))


def test_the_opposite_of_all_and_of_nothing() -> None:
    assert opposed("all is right", "all is right") == ""
    assert opposed(" nothing\n is ", "right") == " nothing\n is "
    assert opposed("Dear Tom,\n\nsome fluff\n- a fact", "Hi Tom,\n- a fact") == "Dear\n\nsome fluff"


@pytest.mark.parametrize("wrapper", [NoisyUser, AdversarialUser])
@given(seed=st.integers(0, 10**6), response=TEXT)
def test_degree_0_is_the_user_itself(
    wrapper: type[NoisyUser] | type[AdversarialUser], seed: int, response: str
) -> None:
    for user in (WEAK, Draws()):
        assert edit(wrapper(user, 0.0), response, seed=seed) == edit(user, response, seed=seed)


@given(DEGREES, st.integers(0, 10**6))
def test_noise_leaves_alone_what_it_does_not_hit(epsilon: float, seed: int) -> None:
    """Where not noised the edit is the inner user's own, and one degree's noise is in every higher one, alike."""
    clean, noisy, more, most = (edit(NoisyUser(WEAK, e), seed=seed) for e in (0.0, epsilon, (1 + epsilon) / 2, 1.0))
    assert noisy in (clean, most)
    assert more == most if noisy != clean else more in (clean, most)


@pytest.mark.parametrize(("degree", "hit"), [(0.0, 0), (0.25, 250), (0.7, 700), (1.0, 1000)])
def test_the_share_of_contexts_is_the_degree(degree: float, hit: int) -> None:
    for user in (NoisyUser(Fixed("p q r s"), degree), AdversarialUser(Fixed("x y z"), degree)):
        plain = edit(user.user)
        found = sum(edit(user, context=f"c-{i}") != plain for i in range(1000))
        # Binomial: 5 standard deviations; a random edit of four words by four is the true one once in 256.
        assert abs(found - hit) <= 5 * math.sqrt(1000 * degree * (1 - degree)) + 12


def test_the_degree_1_is_always() -> None:
    assert {edit(AdversarialUser(Fixed("x y z"), 1.0), seed=seed) for seed in range(200)} == {""}


def wrapped(user: User, degree: float) -> list[User]:
    return [
        NoisyUser(user, degree),
        AdversarialUser(user, degree),
        DriftingUser(user, user, at=10, width=20),
        TiringUser(user, 1 / degree if degree else math.inf),
        MixedUsers(((0.5, user), (0.5, user))),
        MixedUsers(((1 - degree / 2, user), (degree / 2, user))) if degree else MixedUsers(((1.0, user),)),
    ]


@given(DEGREES, DEGREES, st.integers(0, 10**6), st.integers(1, 60))
def test_wrappers_compose_and_leave_the_inner_draws_alone(outer: float, inner: float, seed: int, t: int) -> None:
    """Under any two wrappers the innermost user draws what it would have drawn by itself, if it edits at all."""
    response = "x y z"
    plain = edit(Draws(), response, t, seed)
    for number in range(6):
        for user in wrapped(wrapped(Draws(), inner)[number], outer):
            left = edit(user, response, t, seed)
            assert left == edit(user, response, t, seed)
            drawn = re.findall(r"0\.\d+", left)
            assert set(drawn) <= set(re.findall(r"0\.\d+", plain))  # the one draw of the stream itself, or none


def test_nested_wrappers_draw_apart() -> None:
    """Two noises of ½ hit independently: a quarter of the contexts neither, not a half as with one shared draw."""
    user = NoisyUser(AdversarialUser(Fixed("x y z"), 0.5), 0.5)  # struck by the inner one or left as it is
    both = NoisyUser(NoisyUser(Fixed("p q r s"), 0.5), 0.5)
    struck = sum(edit(user, context=f"c-{i}") == "" for i in range(400))
    clean = sum(edit(both, context=f"c-{i}") == "p q r s" for i in range(1000))
    assert 150 <= struck <= 250
    assert 180 <= clean <= 320


def test_names_tell_users_apart() -> None:
    users = (*wrapped(WEAK, 0.5), *wrapped(WEAK, 0.25)[:2], NoisyUser(AdversarialUser(WEAK, 0.5), 0.5))
    assert len({user.name for user in users}) == len(users)
    assert NoisyUser(WEAK, 0.5).name == "weak+noise=0.5"
    assert AdversarialUser(NoisyUser(WEAK, 0.5), 1).name == "weak+noise=0.5+adversarial=1"


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_invalid_degrees(value: float) -> None:
    with pytest.raises(ConfigError, match=r"noise: epsilon = .*, give a probability from 0 to 1"):
        NoisyUser(WEAK, value)
    with pytest.raises(ConfigError, match=r"adversary: share = .*, give a probability from 0 to 1"):
        AdversarialUser(WEAK, value)


# Users who change


@dataclass(frozen=True)
class Says:
    """Leaves its name and a draw, whatever comes."""

    name: str

    def edit(self, context: Context, response: str, *, t: int, rng: Generator) -> str:
        return f"{self.name} {rng.random()}"


OLD, NEW = Says("old"), Says("new")
CONTEXTS = [f"c-{i}" for i in range(1000)]
ROUNDS = st.integers(1, 200)


def edited_in(user: User, t: int, context: str = "c") -> str:
    return user.edit(Context(context, (), "task"), "as it was", t=t, rng=user_rng(7, context))


def share(user: User, t: int, start: str) -> float:
    return sum(edited_in(user, t, context).startswith(start) for context in CONTEXTS) / len(CONTEXTS)


def within(found: float, probability: float) -> bool:
    """Within 5 standard deviations of a binomial share over ``CONTEXTS``."""
    return abs(found - probability) <= 5 * math.sqrt(probability * (1 - probability) / len(CONTEXTS))


@given(ROUNDS, ROUNDS)
def test_a_hard_change_is_the_one_user_and_then_the_other(at: int, t: int) -> None:
    assert edited_in(DriftingUser(OLD, NEW, at), t) == edited_in(NEW if t >= at else OLD, t)


@pytest.mark.parametrize(("t", "changed"), [(1, 0), (9, 0), (10, 1 / 5), (12, 3 / 5), (14, 1), (15, 1), (900, 1)])
def test_a_slow_change_by_hand(t: int, changed: float) -> None:
    user = DriftingUser(OLD, NEW, at=10, width=4)
    assert user.changed(t) == pytest.approx(changed)
    assert within(share(user, t, "new"), changed)


@given(ROUNDS, st.integers(0, 50), ROUNDS, st.integers(0, 100), st.sampled_from(CONTEXTS))
def test_once_changed_stays_changed(at: int, width: int, t: int, later: int, context: str) -> None:
    user = DriftingUser(OLD, NEW, at, width)
    if edited_in(user, t, context) == edited_in(NEW, t, context):
        assert edited_in(user, t + later, context) == edited_in(NEW, t, context)
    else:
        assert edited_in(user, t, context) == edited_in(OLD, t, context)


@pytest.mark.parametrize(("t", "tired"), [(1, 0), (11, 1 / 2), (21, 3 / 4), (31, 7 / 8)])
def test_fatigue_by_hand(t: int, tired: float) -> None:
    user = TiringUser(OLD, half_life=10)
    assert user.tired(t) == pytest.approx(tired)
    assert within(share(user, t, "as it was"), tired)


@given(st.floats(0.1, 1000), ROUNDS, st.integers(0, 100), st.sampled_from(CONTEXTS))
def test_once_tired_stays_tired(half_life: float, t: int, later: int, context: str) -> None:
    user = TiringUser(OLD, half_life)
    if edited_in(user, t, context) == "as it was":
        assert edited_in(user, t + later, context) == "as it was"
    else:
        assert edited_in(user, t, context) == edited_in(OLD, t, context)


@given(ROUNDS)
def test_an_infinite_half_life_is_the_user_itself(t: int) -> None:
    assert edited_in(TiringUser(OLD, math.inf), t) == edited_in(OLD, t)


def test_rounds_can_come_in_any_order() -> None:
    user = DriftingUser(TiringUser(OLD, 5), NEW, at=3, width=9)
    forwards = [edited_in(user, t, context) for t, context in enumerate(CONTEXTS[:40], 1)]
    backwards = [edited_in(user, t, context) for t, context in reversed(list(enumerate(CONTEXTS[:40], 1)))]
    assert forwards == backwards[::-1]
    assert len({left.split()[0] for left in forwards}) == 3


def test_names_of_users_who_change() -> None:
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


# Populations

A, B, C = Says("a"), Says("b"), Says("c")
SHARES = {"a": 0.2, "b": 0.5, "c": 0.3}
MIXED = MixedUsers(((0.2, A), (0.5, B), (0.3, C)))


def test_contexts_fall_to_members_by_their_shares() -> None:
    rounds = 2000
    found = Counter(edit(MIXED, context=f"c-{i}")[0] for i in range(rounds))
    assert set(found) == set(SHARES)
    for name, share in SHARES.items():
        assert abs(found[name] - rounds * share) <= 5 * math.sqrt(rounds * share * (1 - share))


def test_a_context_belongs_to_one_member_in_every_round_and_for_every_response() -> None:
    for i in range(50):
        assert len({edit(MIXED, response, t, context=f"c-{i}") for response in ("x", "y z") for t in (1, 60)}) == 1


def test_a_member_edits_as_it_would_alone() -> None:
    alone = {user.name: user for user in (A, B, C)}
    for i in range(50):
        left = edit(MIXED, context=f"c-{i}")
        assert left == edit(alone[left[0]], context=f"c-{i}")


def test_another_seed_is_another_population() -> None:
    assert len({edit(MIXED, seed=seed)[0] for seed in range(40)}) == 3


def test_a_single_member_has_every_context() -> None:
    assert edit(MixedUsers(((1.0, A),))) == edit(A)


@pytest.mark.parametrize("shares", [(), (0.5, 0.4), (1.5, -0.5), (1.0, 0.0), (math.nan, 0.5)])
def test_invalid_shares(shares: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"mixed users: shares .*, give numbers > 0 that sum to 1"):
        MixedUsers(tuple((share, A) for share in shares))
