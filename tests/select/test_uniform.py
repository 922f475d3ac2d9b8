from __future__ import annotations

from collections import Counter

from redraft.select import Uniform

ARMS = ("a", "b", "c")


def choices(seed: int, ids: list[str]) -> dict[str, str]:
    selector = Uniform(ARMS, seed)
    return {i: selector.select(i).chosen for i in ids}


def test_the_draw_depends_on_seed_and_completion_only() -> None:
    ids = [f"c{i}" for i in range(60)]
    forward, backward = choices(1, ids), choices(1, ids[::-1])
    assert forward == backward
    assert forward != choices(2, ids)


def test_the_stream_never_changes() -> None:
    """A logged draw must be repeatable by every later version."""
    assert "".join(choices(7, [f"c{i}" for i in range(12)]).values()) == "babaaccacaba"


def test_every_policy_has_its_share() -> None:
    share = Counter(choices(0, [f"c{i}" for i in range(3000)]).values())
    assert all(abs(share[arm] - 1000) < 100 for arm in ARMS)
    assert Uniform(ARMS).select("x").propensities == (1 / 3, 1 / 3, 1 / 3)


def test_a_draw_among_fewer_is_independent_of_the_one_among_all() -> None:
    """Who was drawn among all and failed says nothing about who is drawn among the rest."""
    uniform, rest = Uniform(["a", "b", "c"], seed=3), Counter[str]()
    for number in range(3000):
        if uniform.select(f"x{number}").chosen == "a":
            again = uniform.select(f"x{number}", ("b", "c"))
            assert again.propensities == (0.5, 0.5)
            rest[again.chosen] += 1
    assert abs(rest["b"] - rest["c"]) < 4 * rest.total() ** 0.5
