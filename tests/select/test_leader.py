"""Leader: prices without what draws them to their author, changes of taste, and exact probabilities."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.select import LateEnsemble
from redraft.select.leader import EDITS, STEP, WINDOW, Leader

ARMS: tuple[str, ...] = ("base", "email/sft@1", "email/dpo@1")
COSTS: dict[str, float] = dict(zip(ARMS, (0.9, 0.3, 0.6), strict=True))
TOLD = st.lists(
    st.tuples(st.sampled_from(ARMS), *[st.floats(0, 2).map(lambda cost: round(cost, 3))] * 3), min_size=1, max_size=60
)


def taught(
    authors: Sequence[str], costs: Mapping[str, float] = COSTS, *, bias: float = 0.0, start: int = 0, noise: float = 0.0
) -> Leader:
    leader = Leader(tuple(costs))
    teach(leader, authors, costs, bias=bias, start=start, noise=noise)
    return leader


def teach(
    leader: Leader,
    authors: Sequence[str],
    costs: Mapping[str, float],
    *,
    bias: float = 0.0,
    start: int = 0,
    noise: float = 0.0,
    seed: int = 0,
) -> None:
    rng = random.Random(seed)
    for t, author in enumerate(authors, start):
        prices = {arm: max(0.001, cost + bias * (arm != author) + rng.gauss(0, noise)) for arm, cost in costs.items()}
        leader.price(f"c{t}", author, prices[author], prices, t)


def test_an_edit_of_any_draft_tells_of_all() -> None:
    leader = taught(["base"] * 16)
    decision = leader.select("x")
    assert decision.chosen == "email/sft@1"
    assert decision.scores == pytest.approx(tuple(COSTS.values()))
    assert decision.parameters == {"seed": 0, "edits": 16}


def test_probabilities_by_hand() -> None:
    """K = 3, N = 16 though one edit is known: 1 / 3 (1 + 32 · 0.6 / 0.3) and 1 / 3 (1 + 32 · 0.3 / 0.3)."""
    assert taught(["base"]).select("x").propensities == pytest.approx((1 / 195, 1 - 1 / 195 - 1 / 99, 1 / 99))
    assert taught(["base"] * 32).select("x").propensities == pytest.approx((1 / 387, 1 - 1 / 387 - 1 / 195, 1 / 195))


def test_what_is_drawn_follows_the_probabilities() -> None:
    leader = taught(["base"], dict(zip(ARMS, (0.4, 0.3, 0.35), strict=True)))
    shares = leader.select("x").propensities
    drawn = Counter(leader.select(str(i)).chosen for i in range(4_000))
    assert shares is not None
    for arm, share in zip(ARMS, shares, strict=True):
        assert drawn[arm] / 4_000 == pytest.approx(share, abs=4 * (share * (1 - share) / 4_000) ** 0.5)


@pytest.mark.parametrize("bias", [0.0, 0.2, 2.0])
def test_an_author_that_edits_favour_gains_nothing_once_all_have_written(bias: float) -> None:
    leader = taught([ARMS[i % 3] for i in range(9)] + ["base"] * 30, bias=bias)
    assert leader.select("x").scores == pytest.approx(tuple(COSTS.values()))


def test_drafts_accepted_unread_tell_nothing() -> None:
    """Who accepts every second draft, whatever it says, leaves prices that only tell who resembles whom."""
    lazy, diligent = Leader(ARMS), Leader(ARMS)
    for t in range(40):
        author = ARMS[t // 2 % 3]
        for leader in (lazy, diligent):
            leader.price(f"c{t}", author, COSTS[author], COSTS, 2 * t)
        lazy.price(f"lazy{t}", author, 0.0, {arm: 1.0 for arm in ARMS if arm != author}, 2 * t + 1)
    assert lazy.select("x").scores == pytest.approx(diligent.select("x").scores)


def test_drafts_accepted_because_they_are_good_tell_as_much_as_others() -> None:
    """One policy is right in nine rounds of ten. Its own changed drafts alone would tell that it costs 1."""
    leader, rng = Leader(ARMS), random.Random(1)
    paid: list[float] = []
    for t in range(400):
        costs = {"base": 0.9, "email/sft@1": float(rng.random() < 0.1), "email/dpo@1": 0.3}
        author = "base" if t < EDITS else leader.select(str(t)).chosen
        leader.price(f"c{t}", author, costs[author], costs, max(0, t - EDITS))
        paid.append(costs[author])
    assert sum(paid[EDITS:]) / (400 - EDITS) < 0.12


@settings(max_examples=50, deadline=None)
@given(told=TOLD, seed=st.integers())
def test_the_order_of_arrival_and_the_scale_of_costs_do_not_matter(
    told: list[tuple[str, float, float, float]], seed: int
) -> None:
    def learnt(order: Sequence[int], scale: float = 1.0) -> Leader:
        leader = Leader(ARMS)
        for t in order:
            author, *costs = told[t]
            prices = {arm: scale * cost for arm, cost in zip(ARMS, costs, strict=True)}
            leader.price(f"c{t}", author, prices[author], prices, t)
        return leader

    live, shuffled = learnt(range(len(told))), learnt(random.Random(seed).sample(range(len(told)), len(told)))
    assert shuffled.state() == live.state()
    first, other = live.select("x"), shuffled.select("x")
    assert other == first
    scaled = learnt(range(len(told)), 100.0).select("x")
    assert scaled.propensities == pytest.approx(first.propensities)
    again = Leader(ARMS)
    again.restore(json.loads(json.dumps(shuffled.state())))
    again.withdraw(first)
    assert again.select("x") == first


def test_a_revised_edit_replaces_what_was_known() -> None:
    leader, direct = taught(["base"] * 20), taught(["base"] * 20)
    leader.price("c3", "base", 0.1, {"email/sft@1": 5.0}, 3)
    assert leader.state() != direct.state()
    leader.price("c3", "base", 0.9, COSTS, 3)
    assert leader.state() == direct.state()
    leader.price("c3", "base", 0.0, COSTS, 3)
    assert [one.cost for one in leader.seen if one.id == "c3"] == [0]


def test_without_prices_it_is_algorithm_1() -> None:
    leader, late = Leader(ARMS), LateEnsemble(ARMS)
    for t in range(40):
        choices = leader.select(str(t)), late.select(str(t))
        assert choices[0].chosen == choices[1].chosen
        for selector, choice in zip((leader, late), choices, strict=True):
            selector.update(choice, COSTS[choice.chosen])


def test_a_policy_without_a_price_is_tried_and_one_that_cannot_answer_is_not() -> None:
    leader = taught(["base"] * 16)
    wider = Leader((*ARMS, "email/sft@2"))
    wider.restore({"arms": wider.state()["arms"], "seen": leader.state()["seen"]})
    for arm in ARMS:
        wider.update(wider.decide(arm, arm), COSTS[arm])
    assert wider.select("x").chosen == "email/sft@2"
    decision = leader.select("x", ("base", "email/dpo@1"))
    assert (decision.chosen, decision.candidates) == ("email/dpo@1", ("base", "email/dpo@1"))


def test_a_change_of_taste_is_noticed_and_noise_is_not() -> None:
    leader = taught(["email/sft@1"] * 100, noise=0.3)
    assert leader.select("x").parameters["edits"] == 100
    teach(leader, ["email/sft@1"] * (3 * STEP), dict(zip(ARMS, (0.3, 0.9, 0.6), strict=True)), start=100, noise=0.3)
    decision = leader.select("x")
    assert decision.scores is not None
    assert decision.scores.index(min(decision.scores)) == 0
    assert decision.parameters["edits"] <= 4 * STEP


def test_a_change_of_author_is_no_change_of_taste() -> None:
    """What favours the author moves from base's drafts to sft's: the edits of both are needed to see through it."""
    for seed in range(30):
        leader = taught(["base"] * 16, bias=0.2)
        teach(leader, ["email/sft@1"] * 48, COSTS, bias=0.2, noise=0.1, start=16, seed=seed)
        assert leader.select("x").parameters["edits"] == 64


def test_only_the_last_rounds_count_whenever_their_edits_come() -> None:
    live, late = taught(["base"] * 300, noise=0.1), Leader(ARMS)
    rows = [
        (one.id, one.author, one.cost / 1e9, {a: p / 1e9 for a, p in one.prices.items()}, one.t) for one in live.seen
    ]
    old = ("c0", "base", 0.5, COSTS, 0)
    for row in [*random.Random(1).sample(rows, len(rows)), old]:
        late.price(*row)
    assert late.state() == live.state()
    assert WINDOW <= len(live.seen) < WINDOW + STEP
