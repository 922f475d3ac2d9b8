"""Consensus: least mean cost to become another answer, against all pairs by brute force."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.costs import get_cost
from redraft.policies.consensus import agreed, risks
from redraft.types import Decoding, Message

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
