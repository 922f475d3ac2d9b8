"""Best of N: the cheapest of the candidates, the policy's own answer among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from redraft.policies.best_of import BestOf
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
