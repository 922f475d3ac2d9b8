"""Held-out edit cost between policies: closed forms for lazy users, and what no unit of the cost may change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.costs import COSTS
from redraft.edit_cost import LEAST, Difference, Priced, against, anchoring_bias
from redraft.errors import DataError
from redraft.stats import Interval

WANTED = "a b c d"
ANSWERS = {"j": "a b x x", "k": "x x x x", "m": "x x x d", "n": "a b x d"}
# Δ to what is wanted: j 1/2, k 1, m 3/4, n 1/4. Δ(j, k) = Δ(k, j) = 1/2, Δ(j, m) = 3/4, Δ(k, m) = 1/4, Δ(j, n) = 1/4
DELTA = COSTS["word"]


def lazy(gamma: float, authors: dict[str, int], seed: int = 0) -> list[Priced]:
    """Edits by a user who accepts a draft with probability 1 − γ whatever it says, and else writes what is wanted."""
    rng, edits = np.random.default_rng(seed), list[Priced]()
    for author, count in authors.items():
        for number, wants in enumerate(rng.random(count) < gamma):
            edited = WANTED if wants else ANSWERS[author]
            prices = {name: DELTA(text, edited) for name, text in ANSWERS.items()}
            edits.append(Priced(f"{author}-{number}", author, prices[author], prices))
    return edits


GAMMA = 0.4
CASES = {
    # γ·(1/2 − 1) = −0.2 is the true difference of j and k
    "both wrote: exact": ({"j": 600, "k": 600}, "symmetric", -0.2),
    "m wrote: −0.2 + 0.6·(3/4 − 1/4)": ({"m": 1200}, "direct", 0.1),
    "n wrote: −0.2 + 0.6·(1/4 − 3/4)": ({"n": 1200}, "direct", -0.5),
    "k wrote: −0.2 + 0.6·1/2": ({"k": 1200}, "undecided", 0.1),
    "j wrote: −0.2 − 0.6·1/2": ({"j": 1200}, "undecided", -0.5),
}


@pytest.mark.parametrize("case", CASES)
def test_closed_forms_of_lazy_users(case: str) -> None:
    authors, standing, expected = CASES[case]
    found = against("j", "k", lazy(GAMMA, authors))
    assert found.standing == standing
    assert found.edits == sum(authors.values())
    assert found.difference.mean == pytest.approx(expected, abs=0.05)


def test_bias_of_lazy_users_and_what_it_lets_be_told() -> None:
    bias = anchoring_bias(lazy(GAMMA, {"j": 1200, "k": 1200, "m": 3}))
    assert bias is not None
    assert bias.mean == pytest.approx((1 - GAMMA) / 2, abs=0.05)  # Δ(j, k) = 1/2
    by_k = lazy(GAMMA, {"k": 1200}, seed=1)
    assert against("j", "k", by_k).told is None  # +0.1 as measured, though j is better by 0.2
    widened = against("j", "k", by_k, bias)
    assert (widened.told, widened.difference.mean) == (None, pytest.approx(-0.2, abs=0.05))
    assert widened.difference.low < -0.2 < 0.1 < widened.difference.high


def test_bounds_of_the_bias_are_those_of_all_pairs() -> None:
    edits = lazy(0.0, dict.fromkeys(ANSWERS, LEAST))  # everything is accepted: b = Δ between the answers
    bias = anchoring_bias(edits)
    assert bias is not None
    assert (bias.low, bias.high) == (0.25, 0.75)
    assert bias.mean == pytest.approx((0.5 + 0.75 + 0.25 + 0.25 + 0.75 + 0.5) / 6)
    assert anchoring_bias(lazy(0.5, {"j": LEAST, "m": LEAST // 2 - 1})) is None


def test_surely_cheaper_on_its_rivals_edits_is_better_even_without_a_known_bias() -> None:
    edits = lazy(1.0, {"k": LEAST})
    assert against("j", "k", edits).told == "better"
    assert against("k", "j", edits).told == "worse"


def test_the_author_is_better_only_by_more_than_the_bias() -> None:
    edits = lazy(1.0, {"j": LEAST})  # k costs 1/2 more than the author j, and a bias counts twice
    assert against("k", "j", edits).told is None
    assert against("k", "j", edits, Interval(0.1, 0.0, 0.2)).told == "worse"
    assert against("j", "k", edits, Interval(0.1, 0.0, 0.2)).told == "better"
    assert against("k", "j", edits, Interval(0.1, 0.0, 0.3)).told is None


def test_the_authors_answer_stands_for_its_sampled_draft() -> None:
    edits = [replace(edit, cost=9.0) for edit in lazy(1.0, {"k": LEAST})]
    assert against("j", "k", edits).difference.mean == -0.5
    unasked = [replace(edit, prices={"j": edit.prices["j"]}) for edit in edits]
    assert against("j", "k", unasked).difference.mean == 0.5 - 9


def test_few_edits_tell_nothing() -> None:
    assert against("j", "k", lazy(1.0, {"n": LEAST})).told == "better"
    assert against("j", "k", lazy(1.0, {"n": LEAST - 1})).told is None
    few = against("j", "k", lazy(1.0, {"j": LEAST // 2 - 1, "k": LEAST // 2, "n": 1}))
    assert (few.standing, few.edits, few.told) == ("undecided", LEAST // 2, None)


def test_nothing_to_compare_is_an_error() -> None:
    edits = lazy(1.0, {"m": LEAST})
    with pytest.raises(DataError, match="j and z: no held-out edit is priced for both"):
        against("j", "z", edits)
    assert anchoring_bias([]) is None


PRICES = st.integers(0, 1024).map(lambda units: units / 512)  # whose sums are exact


@st.composite
def logs(draw: st.DrawFn) -> list[Priced]:
    """Edits by any authors, of whom some are not known and some were asked."""
    some = draw(st.lists(st.tuples(st.sampled_from(["j", "k", "m", ""]), PRICES, PRICES, PRICES), max_size=50))
    edits = [Priced(str(n), author, c, {"j": a, "k": b}) for n, (author, c, a, b) in enumerate(some)]
    return [*edits, Priced("last", "m", 0.1, {"j": 0.5, "k": 0.25})]


BIASES = st.none() | st.just(Interval(0.25, 0.125, 0.5))


@given(logs(), BIASES)
def test_seen_from_the_other_policy_it_is_the_opposite(edits: list[Priced], bias: Interval | None) -> None:
    there, back = against("j", "k", edits, bias), against("k", "j", edits, bias)
    d, e = there.difference, back.difference
    assert (d.mean, d.low, d.high) == (-e.mean, -e.high, -e.low)
    assert (there.standing, there.edits) == (back.standing, back.edits)
    assert (there.told, back.told) in ((None, None), ("better", "worse"), ("worse", "better"))


@given(logs(), BIASES)
def test_a_cost_in_hundredths_tells_the_same(edits: list[Priced], bias: Interval | None) -> None:
    def hundredfold(edit: Priced) -> Priced:
        return replace(edit, cost=100 * edit.cost, prices={name: 100 * p for name, p in edit.prices.items()})

    def shape(found: Difference) -> tuple[object, ...]:
        return found.standing, found.edits, found.told

    larger = bias and Interval(100 * bias.mean, 100 * bias.low, 100 * bias.high)
    assert shape(against("j", "k", edits, bias)) == shape(against("j", "k", [*map(hundredfold, edits)], larger))


@given(st.integers(0, 99), st.sampled_from(["symmetric", "direct", "one-sided"]))
def test_users_who_converge_have_no_bias(seed: int, form: str) -> None:
    authors = {"symmetric": {"j": LEAST, "k": LEAST}, "direct": {"m": LEAST}, "one-sided": {"k": LEAST}}[form]
    assert against("j", "k", lazy(1.0, authors, seed)).difference == Interval(-0.5, -0.5, -0.5)
    assert anchoring_bias(lazy(1.0, {"j": LEAST, "k": LEAST}, seed)) == Interval(0.0, 0.0, 0.0)
