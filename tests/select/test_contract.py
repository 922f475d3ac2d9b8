"""What holds for every selector."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redraft.errors import ConfigError, DataError
from redraft.lab.replay import replay
from redraft.select import SELECTORS, Selector, rebuild
from redraft.types import Decision

Make = Callable[[Sequence[str]], Selector]
ARMS = ("base", "email/sft@1", "email/dpo@2")
COSTS = st.floats(0, 1e6, allow_nan=False)
EVENTS = st.lists(st.tuples(st.none() | COSTS, st.none() | COSTS), max_size=40)
per_rule = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def decision(chosen: str, completion_id: str = "c") -> Decision:
    return Decision(completion_id, ARMS, chosen, 1, "test")


def test_names_are_the_keys() -> None:
    assert {name: rule(ARMS).name for name, rule in SELECTORS.items()} == {name: name for name in SELECTORS}


@pytest.mark.parametrize("arms", [[], ["a", "a"], ["a", ""], "abc"])
def test_invalid_arms(make: Make, arms: Any) -> None:
    with pytest.raises(ConfigError, match="arms = "):
        make(arms)


def test_one_arm_is_always_played(make: Make) -> None:
    selector = make(["only"])
    for i in range(5):
        choice = selector.select(str(i))
        assert (choice.chosen, choice.propensities) == ("only", (1.0,))
        selector.update(choice, i)


def test_a_decision_says_what_made_it(make: Make) -> None:
    selector = make(ARMS)
    for i in range(20):
        choice = selector.select(f"c{i}")
        assert (choice.completion_id, choice.candidates, choice.t) == (f"c{i}", ARMS, i + 1)
        assert choice.selector == selector.name
        assert choice.propensities is not None
        assert choice.chosen in ARMS
        assert math.isclose(sum(choice.propensities), 1)
        assert choice.propensities[ARMS.index(choice.chosen)] > 0
        assert choice.scores is None or len(choice.scores) == len(ARMS)
        json.dumps([dict(choice.parameters), choice.scores], allow_nan=False)
        selector.update(choice, i % 3)


def test_update_follows_the_decision_not_the_last_choice(make: Make) -> None:
    selector = make(ARMS)
    for i in range(4):
        selector.select(str(i))
    selector.update(decision("email/dpo@2"), 0.5)
    counts = selector.state()["arms"]
    assert counts["email/dpo@2"]["resolved"] == 1
    assert counts["email/dpo@2"]["total"] == 500_000_000
    assert counts["email/dpo@2"]["squares"] == 250_000_000_000_000_000
    assert sum(count["resolved"] for count in counts.values()) == 1
    assert sum(count["decisions"] for count in counts.values()) == 4


@pytest.mark.parametrize("method", ["record", "withdraw", "update", "correct"])
def test_invalid_decision(make: Make, method: str) -> None:
    costs = {"record": (), "withdraw": (), "update": (1.0,), "correct": (1.0, 2.0)}[method]
    with pytest.raises(ConfigError, match=r"'c' chose 'gone@1': not among base, email/sft@1"):
        getattr(make(ARMS), method)(decision("gone@1"), *costs)


@pytest.mark.parametrize("cost", [math.nan, math.inf, -math.inf, -1e-9, 1e13])
def test_invalid_cost_leaves_the_state_alone(make: Make, cost: float) -> None:
    selector = make(ARMS)
    choice = selector.select("c")
    before = selector.state()
    with pytest.raises(DataError, match="must be a number from 0"):
        selector.update(choice, cost)
    assert selector.state() == before
    selector.update(choice, 1)
    with pytest.raises(DataError, match="must be a number from 0"):
        selector.correct(choice, 1, cost)
    with pytest.raises(DataError, match="must be a number from 0"):
        selector.correct(choice, cost, 1)


def test_a_revision_replaces_the_cost(make: Make) -> None:
    revised, direct = make(ARMS), make(ARMS)
    for selector in (revised, direct):
        selector.update(selector.select("c"), 0.25)
    choice = revised.select("d")
    direct.update(direct.select("d"), 0.1)
    revised.update(choice, 0.7)
    revised.correct(choice, 0.7, 0.1)
    assert revised.state() == direct.state()


def test_a_correction_needs_a_cost_to_correct(make: Make) -> None:
    selector = make(ARMS)
    choice = selector.select("c")
    with pytest.raises(DataError, match="never counted"):
        selector.correct(choice, 0, 1)
    selector.update(choice, 1)
    with pytest.raises(DataError, match="never counted"):
        selector.correct(choice, 2, 1)


def test_withdraw_undoes_a_decision(make: Make) -> None:
    selector = make(ARMS)
    before = selector.state()
    choice = selector.select("c")
    assert selector.state() != before
    selector.withdraw(choice)
    assert selector.state() == before
    with pytest.raises(DataError, match="resolved"):
        selector.withdraw(choice)


def test_state_survives_json(make: Make) -> None:
    selector, other = make(ARMS), make(ARMS)
    for i in range(10):
        selector.update(selector.select(str(i)), 1e6 + i / 7)
    other.restore(json.loads(json.dumps(selector.state(), allow_nan=False)))
    assert other.state() == selector.state()
    assert other.select("next") == selector.select("next")


def test_a_restored_state_is_a_copy(make: Make) -> None:
    selector, other = make(ARMS), make(ARMS)
    state = selector.state()
    other.restore(state)
    other.update(other.select("c"), 1)
    assert state == selector.state() == make(ARMS).state()


@pytest.mark.parametrize("state", [{}, {"arms": 3}, {"arms": {"base": {"pulls": 1}}}, {"arms": {"base": 4}}])
def test_invalid_state(make: Make, state: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"not what state\(\) returns"):
        make(ARMS).restore(state)


def test_state_of_other_arms_is_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match="rebuild it"):
        make(ARMS).restore(make(ARMS[:2]).state())


@per_rule
@given(events=EVENTS, seed=st.integers())
def test_rebuilding_from_a_shuffled_log_gives_the_live_state(
    make: Make, events: list[tuple[float | None, float | None]], seed: int
) -> None:
    """Live: edits late, out of order, revised or never. Log: each decision with the cost that holds in the end."""
    live, log = make(ARMS), list[tuple[Decision, float | None]]()
    owed: list[tuple[Decision, float]] = []
    rng = random.Random(seed)
    for i, (cost, revised) in enumerate(events):
        choice = live.select(f"c{i}")
        log.append((choice, revised if cost is not None and revised is not None else cost))
        if cost is not None:
            owed.append((choice, cost))
        if owed and rng.random() < 0.5:
            live.update(*owed.pop(rng.randrange(len(owed))))
    for choice, cost in rng.sample(owed, len(owed)):
        live.update(choice, cost)
    for (choice, last), (cost, _) in zip(log, events, strict=True):
        if cost is not None and last != cost and last is not None:
            live.correct(choice, cost, last)
    rng.shuffle(log)
    assert rebuild(make(ARMS), log).state() == live.state()
    assert {type(number) for count in live.state()["arms"].values() for number in count.values()} == {int}


def test_replays_are_the_same_each_time(make: Make) -> None:
    costs = {arm: [random.Random(f"{arm}{t}").random() for t in range(50)] for arm in ARMS}
    assert replay(make(ARMS), costs, delay=3) == replay(make(ARMS), costs, delay=3)


def test_choice_depends_on_the_state_only(make: Make) -> None:
    """A process that learnt everything from the log goes on exactly as the one that lived it."""
    live = make(ARMS)
    rows = replay(live, {arm: [0.1 * (i + 1)] * 30 for i, arm in enumerate(ARMS)})
    other = rebuild(make(ARMS), [(row.decision, row.cost) for row in reversed(rows)])
    assert other.select("next") == live.select("next")
