from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.types import COST_UNIT, Completion, Count, Edit, Interaction, Message, PolicyRef

NAME = st.from_regex(r"[^/@\s]+", fullmatch=True)


def interaction(response: str, edited: str | None, *, answered: bool = True) -> Interaction:
    completion = Completion("c", "email", (Message("user", "x"),), response)
    return Interaction(completion, Edit("c", edited) if answered else None)


@pytest.mark.parametrize(
    ("item", "edited", "unchanged"),
    [
        (interaction("y", "y'"), "y'", False),
        (interaction("y", None), "y", True),  # said to be accepted
        (interaction("y", "y"), "y", True),  # sent back equal
        (interaction("y", "y "), "y ", False),
        (interaction("y", ""), "", False),  # everything was struck
        (interaction("", ""), "", True),
        (interaction("y", None, answered=False), None, False),  # silence is not approval
        (interaction("", None, answered=False), None, False),
    ],
)
def test_edited_text(item: Interaction, edited: str | None, unchanged: bool) -> None:
    assert (item.edited, item.unchanged) == (edited, unchanged)


def test_values_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        interaction("y", "y'").completion.response = "z"  # pyright: ignore[reportAttributeAccessIssue]


@settings(deadline=None)
@given(NAME, NAME, st.integers(1, 10**6))
def test_policy_names_round_trip(task: str, name: str, version: int) -> None:
    reference = PolicyRef(task, name, version)
    assert PolicyRef.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text", ["", "base", "email/sft", "email/sft@", "email/sft@0", "email/sft@-1", "email/sft@1.5", "a/b/c@1", " a/b@1"]
)
def test_invalid_policy_name(text: str) -> None:
    with pytest.raises(ValueError, match="expected task/name@version"):
        PolicyRef.parse(text)


def test_counts_add_up() -> None:
    count = Count(1) + Count(2, 1, COST_UNIT // 4, (COST_UNIT // 4) ** 2)
    assert (count, count.mean) == (Count(3, 1, COST_UNIT // 4, (COST_UNIT // 4) ** 2), 0.25)
