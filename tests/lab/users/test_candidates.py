from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from redraft.costs import COSTS
from redraft.errors import DataError
from redraft.lab.kernels import Lazy, MetropolisHastings, Mixture, balance_gap
from redraft.lab.users import User, user_rng
from redraft.lab.users.candidates import Candidates, KernelUser
from redraft.types import Context

TEXTS = ("We meet at 3.", "We meet at three.", "The meeting is at 3 pm.", "Hello there, we meet at 3.", "")
SCORES = (-3.0, -4.5, -5.0, -3.5, -9.0)
KERNEL = Mixture(((0.5, Lazy(0.6)), (0.5, MetropolisHastings(0.5))))
CANDIDATES = Candidates.of(TEXTS, SCORES, COSTS["word"], KERNEL, beta=0.5)
CONTEXT = Context("c-1", (), "task")
USER: User = KernelUser("kernel", {"c-1": CANDIDATES})


@dataclass
class At:
    """A generator that draws one known number."""

    value: float

    def random(self) -> float:
        return self.value


def test_texts_come_in_their_order() -> None:
    # Of two texts one word apart, the one with the higher score and lower cost is π*'s.
    few = Candidates.of(("a b", "a"), (0.0, 5.0), COSTS["word"], Lazy(0.5), beta=1.0).solution
    assert few.log_star[1] > few.log_star[0]
    assert few.cost[0] == pytest.approx(0.5 * np.exp(few.log_star[1]) / 2, abs=1e-9)  # Δ("a b", "a") = 1/2
    assert few.cost[1] == pytest.approx(0.5 * np.exp(few.log_star[0]), abs=1e-9)  # Δ("a", "a b") = 1


@pytest.mark.parametrize("response", TEXTS)
def test_edits_follow_q(response: str) -> None:
    # Every draw u = (k + ½)/N once: the count of each text is N q(y'|y) up to one at either end.
    rounds = 4000
    left: Counter[str] = Counter()
    for k in range(rounds):
        rng: Any = At((k + 0.5) / rounds)
        left[USER.edit(CONTEXT, response, t=1, rng=rng)] += 1
    for text, probability in zip(TEXTS, CANDIDATES.solution.q[TEXTS.index(response)], strict=True):
        assert abs(left[text] - rounds * probability) <= 1


def test_a_text_of_probability_0_never_comes() -> None:
    stay = Candidates.of(("a", "b"), (0.0, 0.0), COSTS["word"], MetropolisHastings(1e-6), beta=1.0)
    user = KernelUser("stay", {"c-1": stay})
    for value in (0.0, 0.5, np.nextafter(1, 0)):
        rng: Any = At(float(value))
        assert [user.edit(CONTEXT, text, t=1, rng=rng) for text in ("a", "b")] == ["a", "b"]


def test_the_balance_of_logged_edits_comes_out_of_edit_alone() -> None:
    # The same law from user_rng over many contexts, no part of q read: π* as it was solved, flows as they are drawn.
    rounds = 1000
    many = KernelUser("kernel", {f"c-{i}": CANDIDATES for i in range(rounds)})
    index = {text: i for i, text in enumerate(TEXTS)}
    drawn = np.zeros((len(TEXTS), len(TEXTS)))
    for (y, response), i in ((pair, i) for pair in enumerate(TEXTS) for i in range(rounds)):
        edited = many.edit(Context(f"c-{i}", (), "task"), response, t=1, rng=user_rng(y, f"c-{i}"))
        drawn[y, index[edited]] += 1 / rounds
    flow = np.exp(CANDIDATES.solution.log_star)[:, None] * drawn
    deviation = np.sqrt((np.exp(CANDIDATES.solution.log_star)[:, None] ** 2 * drawn * (1 - drawn)) / rounds)
    assert (np.abs(flow - flow.T) <= 6 * np.hypot(deviation, deviation.T) + 1e-3).all()
    assert balance_gap(CANDIDATES.solution.log_star, CANDIDATES.solution.q) <= 1e-9


def test_same_seed_and_context_same_edit() -> None:
    for seed in range(20):
        first, again = (USER.edit(CONTEXT, TEXTS[2], t=t, rng=user_rng(seed, "c-1")) for t in (1, 99))
        assert first == again


def test_a_response_that_is_no_candidate_is_named() -> None:
    with pytest.raises(DataError, match=r"'We met\.' is none of the 5 candidates of context 'c-1'; let policies"):
        USER.edit(CONTEXT, "We met.", t=1, rng=user_rng(0, "c-1"))


def test_a_long_response_is_cut_in_the_error() -> None:
    with pytest.raises(DataError) as raised:
        USER.edit(CONTEXT, "long\n" * 1000, t=1, rng=user_rng(0, "c-1"))
    assert len(str(raised.value)) < 200
    assert "\n" not in str(raised.value)


def test_a_context_without_candidates_is_named() -> None:
    with pytest.raises(DataError, match="no candidates for context 'c-2'"):
        USER.edit(Context("c-2", (), "task"), TEXTS[0], t=1, rng=user_rng(0, "c-2"))


def test_invalid_candidates_stand_twice() -> None:
    with pytest.raises(DataError, match="candidate 'b' stands twice"):
        Candidates.of(("a", "b", "b"), (0, 0, 0), COSTS["word"], Lazy(0.5), beta=1.0)


def test_invalid_scores_are_not_as_many_as_texts() -> None:
    with pytest.raises(DataError, match="give 2 x 2"):
        Candidates.of(("a", "b", "c"), (0, 0), COSTS["word"], Lazy(0.5), beta=1.0)
