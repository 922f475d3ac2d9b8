from __future__ import annotations

from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from point_contexts import EMAIL

from redraft.errors import DataError
from redraft.lab.users.letter import bullets, exclaiming, paragraph
from redraft.lab.users.points import Points, content_words, covered, keep_points, stands_alone
from redraft.lab.users.wording import SHORT_FORMS, SIMPLE, STUFFY, Wording
from redraft.types import Context

BEES = Points(
    "Bees live in hives. They find flowers by scent. Ann Lee keeps 12 hives.",
    ("Bees live in hives.", "They find flowers by scent."),
)


def keep(*drafted: str) -> list[str]:
    return keep_points(BEES, list(drafted), lambda sentence: sentence.startswith("Hi"))


def test_covering_is_three_in_five_content_words():
    # bees, live, hives: two of three are 0.67, one is 0.33
    assert covered(BEES, "In hives live wasps.") == {0}
    assert covered(BEES, "Wasps live in trees.") == frozenset()
    assert covered(BEES, "Bees live in hives and find flowers.") == {0, 1}


@pytest.mark.parametrize(
    ("sentence", "why"),
    [
        ("Bees live in hives, which one can see on any walk through the fields in May.", "too long"),
        ("Bees live in hives with Bob.", "a name of its own"),
        ("13 bees live in hives.", "a number of its own"),
        ("Bees live in wooden painted hives.", "two words of its own"),
        ("Hi bees live in hives.", "would be read as a greeting"),
        ("bees live in hives.", "would join the sentence before it"),
    ],
)
def test_what_is_struck(sentence: str, why: str):
    assert keep(sentence) == list(BEES.points), why


def test_one_word_of_its_own_and_any_order_are_fine():
    assert keep("Flowers are found by scent.", "12 hives hold bees that live.") == [
        "12 hives hold bees that live.",
        "Flowers are found by scent.",
    ]


def test_one_sentence_may_cover_two_points():
    assert keep("Bees live in hives and find flowers by scent.") == ["Bees live in hives and find flowers by scent."]


def test_content_words_leave_out_what_says_nothing():
    assert content_words("There is also the number 7, which was in my bag.") == {"number", "7", "bag"}


@pytest.mark.parametrize("facts", [{}, {"source": "x"}, {"source": "x", "points": []}, {"points": ["x"]}])
def test_invalid_points_name_the_context(facts: dict[str, object]):
    with pytest.raises(DataError, match="context 'c' has no source and points"):
        Points.of(Context("c", (), "task", facts=facts))
    assert Points.of(EMAIL[0]).points


@given(st.lists(st.text(max_size=20), max_size=5), st.sampled_from(["-", "*"]))
@example(["0\n0"], "-")  # two sentences that look like an item of a list when they stand on one line
def test_layouts_are_idempotent(pieces: list[str], mark: str):
    text = ". ".join(pieces)
    for layout in (paragraph, exclaiming, partial(bullets, mark=mark)):
        assert layout(layout(text)) == layout(text)


@pytest.mark.parametrize("sentence", ["A b.", "Is it 3 p.m. now?", "So!"])
def test_stands_alone(sentence: str):
    assert stands_alone(sentence)


@pytest.mark.parametrize("text", ["no end", "a lower start.", "Two. Sentences.", "- Marked.", "(In brackets.)", ""])
def test_does_not_stand_alone(text: str):
    assert not stands_alone(text)


@pytest.mark.parametrize("wording", [STUFFY, SIMPLE, SHORT_FORMS], ids=["stuffy", "simple", "short"])
def test_plain_wording_is_plain(wording: Wording):
    for phrase, plain in wording.plain.items():
        assert wording.apply(plain) == plain
        assert wording.apply(wording.apply(f"We {phrase} it")) == wording.apply(f"We {phrase} it")


def test_wording_takes_over_the_capital_and_line_breaks_inside_a_phrase():
    assert SIMPLE.apply("Furthermore, we utilize  it.\nA novel  idea.") == "Also, we use it.\nA new idea."
    assert STUFFY.apply("I am writing to inform\tyou that bees dance.") == "Bees dance."
