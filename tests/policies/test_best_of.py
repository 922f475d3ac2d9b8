"""Best of N: the cheapest of the candidates, the policy's own answer among them; consensus against brute force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.costs import get_cost
from redraft.policies.best_of import BestOf, agreed, risks
from redraft.types import Decoding, Message

CONTEXTS = [[Message("user", "one")], [Message("user", "two")]]


@dataclass
class Echo:
    """Says what it was asked and how."""

    name: str = "echo"
    asked: list[Decoding] = field(default_factory=list[Decoding])

    def respond(self, contexts: Sequence[Sequence[Message]], decoding: Decoding) -> list[str]:
        self.asked.append(decoding)
        return [f"{context[0].content} {len(self.asked)}" for context in contexts]


def lengths_of(texts: dict[str, float]) -> BestOf:
    return BestOf("best", Echo(), 3, lambda _, drawn: np.array([[texts[text] for text in one] for one in drawn]))


def test_the_cheapest_of_each_context_is_given() -> None:
    best = lengths_of({"one 1": 0.5, "two 1": 0.2, "one 2": 0.4, "two 2": 0.3, "one 3": 0.6, "two 3": 0.1})
    assert best.respond(CONTEXTS, Decoding(8)) == ["one 2", "two 3"]


def test_a_tie_goes_to_what_the_policy_would_have_said() -> None:
    best = BestOf("best", Echo(), 4, lambda _, drawn: np.zeros((len(drawn), 2)))
    assert best.respond(CONTEXTS, Decoding(8)) == ["one 1", "two 1"]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_candidates_are_the_own_answer_and_samples_of_other_seeds(temperature: float) -> None:
    policy = Echo()
    asked = Decoding(8, temperature, seed=5)
    BestOf("best", policy, 3, lambda _, drawn: np.zeros((len(drawn), 2))).candidates(CONTEXTS, asked)
    first, *others = policy.asked
    assert first == asked
    assert {one.temperature for one in others} == {temperature or 1.0}
    assert len({one.seed for one in policy.asked}) == 3
    assert {one.max_new_tokens for one in policy.asked} == {8}


WORD = get_cost("word")
TEXTS = st.lists(st.lists(st.sampled_from(["a", "b", "c"]), max_size=4).map(" ".join), min_size=2, max_size=6)


class Drawn:
    """Answers in turn what it is told to, one list of answers for each time it is asked."""

    name = "drawn"

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    def respond(self, contexts: Sequence[Sequence[Message]], decoding: Decoding) -> list[str]:
        return self.answers.pop(0)


@given(TEXTS)
def test_a_risk_is_the_mean_over_the_others(answers: list[str]) -> None:
    expected = [np.mean([WORD(a, b) for j, b in enumerate(answers) if j != i]) for i, a in enumerate(answers)]
    assert risks(answers, WORD) == pytest.approx(expected)


def test_one_answer_agrees_with_itself() -> None:
    assert risks(["a"], WORD) == [0.0]


def test_an_answer_that_lacks_what_the_others_say_is_not_given() -> None:
    """The greedy ones are a frame without content, and of the others' wordings the one in the middle is given."""
    contexts = [[Message("user", "one")], [Message("user", "two")]]
    policy = Drawn(
        ["Regards, Ann", "x y z"], ["We meet on Monday.", "x y"], ["We meet Monday.", "x y"], ["We meet.", "x"]
    )
    assert agreed(policy, 4, WORD).respond(contexts, Decoding(8)) == ["We meet Monday.", "x y"]
