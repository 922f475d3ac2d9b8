from __future__ import annotations

import pytest

from redraft.errors import DataError
from redraft.lab.users import user_rng
from redraft.lab.users.notes import Notes
from redraft.lab.users.rules import Item, RuleUser
from redraft.types import Context

A = Item("a", lambda _, text: text + "a")
B = Item("b", lambda _, text: text + "b", optional=False)
CONTEXT = Context("c", (), "task", domain="d")


def test_items_apply_in_order():
    assert RuleUser("strong", {"d": (A, B, A)}).edit(CONTEXT, "", t=1, rng=None) == "aba"


def test_a_weak_user_drops_optional_items_only():
    edits = {
        RuleUser("weak", {"d": (A, B)}, weak=True).edit(CONTEXT, "", t=1, rng=user_rng(0, str(i))) for i in range(50)
    }
    assert edits == {"ab", "b"}


def test_the_generator_depends_on_seed_and_context_only():
    first = user_rng(1, "x").random(3)
    user_rng(2, "y").random()
    assert user_rng(1, "x").random(3).tolist() == first.tolist()
    assert {
        user_rng(seed, name).random() for seed, name in ((1, "x"), (1, "y"), (2, "x"), (11, "1"), (1, "11"))
    }.__len__() == 5


@pytest.mark.parametrize(
    "facts", [{}, {"sender": "Ann"}, {"sender": "A", "recipient": "B", "tone": "news", "facts": [1]}]
)
def test_invalid_notes_name_the_context(facts: dict[str, object]):
    with pytest.raises(DataError, match="context 'c' has no usable notes"):
        Notes.of(Context("c", (), "task", facts=facts))


def test_a_user_says_which_domains_it_edits():
    with pytest.raises(DataError, match="user 'u' edits d, not 'other' \\(context 'c'\\)"):
        RuleUser("u", {"d": (A,)}).edit(Context("c", (), "task", domain="other"), "", t=1, rng=None)
