from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.errors import ConfigError
from redraft.lab.replay import replay
from redraft.select import LateEnsemble

ARMS = ("a", "b", "c")


def table(seed: int, means: Sequence[float], rounds: int) -> dict[str, list[float]]:
    """Exponential costs, as edits have them: many near 0, a few long."""
    rng = random.Random(seed)
    return {arm: [rng.expovariate(1 / mean) for _ in range(rounds)] for arm, mean in zip(ARMS, means, strict=False)}


def plays(costs: Mapping[str, Sequence[float]], alpha: float | None, delay: int = 0) -> list[str]:
    return [row.decision.chosen for row in replay(LateEnsemble(list(costs), alpha), costs, delay=delay)]


def brute_force(costs: Mapping[str, Sequence[float]], alpha: float | None) -> list[str]:
    """Algorithm 1 with nothing stored but the plays so far."""
    arms, played = list(costs), list[str]()
    for t in range(1, len(costs[arms[0]]) + 1):
        if t <= len(arms):
            played.append(arms[t - 1])
            continue
        paid = {arm: [costs[arm][s] for s, other in enumerate(played) if other == arm] for arm in arms}
        everything = [cost for column in paid.values() for cost in column]
        width = math.sqrt(sum(c * c for c in everything) / len(everything)) if alpha is None else alpha
        bounds = {arm: sum(c) / len(c) - width * math.sqrt(math.log(t) / len(c)) for arm, c in paid.items()}
        played.append(min(bounds, key=bounds.__getitem__))
    return played


@pytest.mark.parametrize("alpha", [math.nan, math.inf, -0.1])
def test_invalid_alpha(alpha: float) -> None:
    with pytest.raises(ConfigError, match="alpha = "):
        LateEnsemble(ARMS, alpha)


def test_algorithm_1_by_hand() -> None:
    """alpha = 1, two policies; a costs 1, 1, ..., b costs 3, 0, ...

    t=1: a, pays 1.  t=2: b, pays 3.
    t=3: a 1 - sqrt(log 3 / 1) = -0.0481, b 3 - 1.0481 = 1.9519: a, pays 1.
    t=4: a 1 - sqrt(log 4 / 2) =  0.1674, b 3 - sqrt(log 4 / 1) = 1.8226: a, pays 1.
    """
    ensemble = LateEnsemble(["a", "b"], alpha=1)
    expected = [("a", None), ("b", None), ("a", (-0.048147, 1.951853)), ("a", (0.167445, 1.822590))]
    for t, (chosen, scores) in enumerate(expected, start=1):
        decision = ensemble.select(str(t))
        assert (decision.t, decision.chosen) == (t, chosen)
        assert decision.scores is None if scores is None else decision.scores == pytest.approx(scores, abs=1e-6)
        assert decision.propensities == ((1.0, 0.0) if chosen == "a" else (0.0, 1.0))
        assert decision.parameters == {"alpha": 1, "alpha_t": None if scores is None else 1}
        ensemble.update(decision, 1 if chosen == "a" else 3)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 0.0, 0.05, 0.5, 3.0]))
def test_equals_a_brute_force_reading_of_algorithm_1(seed: int, alpha: float | None) -> None:
    costs = table(seed, (0.5, 0.4, 0.3), 60)
    assert plays(costs, alpha) == brute_force(costs, alpha)


@pytest.mark.parametrize("seed", range(3))
def test_bounds_are_those_of_mabwiser(seed: int) -> None:
    """MABWiser maximises mean + alpha sqrt(2 log n / N) over rewards, n plays so far; our t is n + 1."""
    mab = pytest.importorskip("mabwiser.mab", reason="the oracle comes with redraft[bench]")
    alpha, costs = 0.4, table(seed, (0.5, 0.4, 0.3), 60)
    rounds = replay(LateEnsemble(ARMS, alpha), costs)
    for n in range(len(ARMS), len(rounds)):
        theirs = alpha * math.sqrt(math.log(n + 1) / (2 * math.log(n)))
        oracle: Any = mab.MAB(list(ARMS), mab.LearningPolicy.UCB1(alpha=theirs))
        oracle.fit([row.decision.chosen for row in rounds[:n]], [-row.cost for row in rounds[:n]])
        expectations = oracle.predict_expectations()
        assert rounds[n].decision.scores == pytest.approx([-expectations[arm] for arm in ARMS], abs=1e-8)
        assert rounds[n].decision.chosen == oracle.predict()


def test_without_edits_policies_take_turns() -> None:
    ensemble = LateEnsemble(ARMS)
    assert [ensemble.select(str(i)).chosen for i in range(7)] == list("abcabca")


def test_a_policy_whose_edits_do_not_come_is_tried_again() -> None:
    ensemble = LateEnsemble(["a", "b"])
    first, second = ensemble.select("1"), ensemble.select("2")
    ensemble.update(first, 0.2)
    choices = [ensemble.select(str(i)).chosen for i in range(3, 7)]
    assert choices == list("abab")
    ensemble.update(second, 0.1)
    last = ensemble.select("7")
    assert (last.t, last.scores is not None) == (3, True)


def test_delay_changes_when_bounds_are_known_not_what_they_are() -> None:
    costs = table(1, (0.9, 0.5, 0.1), 200)
    rows = replay(LateEnsemble(ARMS), costs, delay=10)
    assert [row.decision.t for row in rows] == [max(1, t - 10) for t in range(1, 201)]
    assert Counter(row.decision.chosen for row in rows).most_common(1)[0][0] == "c"


def test_the_papers_alpha_on_costs_of_order_1_is_round_robin() -> None:
    costs = table(2, (0.9, 0.5, 0.1), 201)
    assert set(Counter(plays(costs, 150)).values()) <= {66, 67, 68}
    assert Counter(plays(costs, None))["c"] > 120


def test_the_papers_alpha_on_raw_distances_is_not() -> None:
    costs = table(2, (900, 500, 100), 201)
    assert Counter(plays(costs, 150))["c"] > 120


def test_ties_go_to_the_earlier_arm() -> None:
    assert plays({"a": [0.0] * 6, "b": [0.0] * 6}, None) == list("abaaaa")
    assert plays({"a": [0.5] * 4, "b": [0.5] * 4}, 0.0) == list("abaa")


def test_alpha_t_is_the_root_mean_square() -> None:
    ensemble = LateEnsemble(["a", "b"])
    for cost in (3, 4):
        ensemble.update(ensemble.select(str(cost)), cost)
    assert ensemble.select("next").parameters == {"alpha": None, "alpha_t": math.sqrt(12.5)}


MILLI = st.integers(0, 5000).map(lambda n: n / 1000)


@settings(deadline=None)
@given(st.lists(st.tuples(MILLI, MILLI, MILLI), min_size=1, max_size=40), st.sampled_from([2, 3, 7, 250, 1024]))
def test_the_default_does_not_see_the_scale(rows: list[tuple[float, float, float]], k: int) -> None:
    costs = {arm: [row[i] for row in rows] for i, arm in enumerate(ARMS)}
    scaled = {arm: [k * cost for cost in column] for arm, column in costs.items()}
    assert plays(costs, None) == plays(scaled, None)


def test_an_unlucky_first_edit_does_not_lock_a_policy_out() -> None:
    """With the standard deviation as scale, b is never played again."""
    costs = {"a": [0.9] * 300, "b": [1.5] * 2 + [0.1] * 298}
    assert Counter(plays(costs, None))["a"] < 10


def test_regret_of_the_default_grows_slowly() -> None:
    """Four times the rounds, less than twice the regret: logarithmic, not linear."""
    regret = {100: 0.0, 400: 0.0}
    for seed in range(30):
        rows = replay(LateEnsemble(ARMS), table(seed, (0.9, 0.5, 0.1), 400))
        for rounds in regret:
            regret[rounds] += rows[rounds - 1].regret
    assert 0 < regret[400] < 2 * regret[100]
