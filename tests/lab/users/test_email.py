from __future__ import annotations

import re
from functools import reduce
from itertools import product

import pytest
from email_drafts import CONTEXT, CONTEXTS, DRAFTS, NOTES, RIGHT, situations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redraft.costs import COSTS
from redraft.lab.users import User, user_rng
from redraft.lab.users.catalogue import get_user
from redraft.lab.users.email import email_items
from redraft.lab.users.rules import Item, RuleUser
from redraft.lab.users.wording import STUFFY
from redraft.types import Context

EMAIL_ITEMS = email_items()["office"]
SUBSETS = [
    tuple(item for item, kept in zip(EMAIL_ITEMS, mask, strict=True) if kept) for mask in product((0, 1), repeat=6)
]
STRONG: User = get_user("office", "strong")


def edit(text: str, context: Context = CONTEXT, items: tuple[Item, ...] = EMAIL_ITEMS) -> str:
    return RuleUser("test", {"office": items}).edit(context, text, t=1, rng=None)


def body(text: str) -> list[str]:
    return [line[2:] for line in text.splitlines() if line.startswith("- ")]


def in_notes(*lines: str) -> str:
    return "Hi Tom,\n\n" + "\n".join(f"- {line}" for line in lines) + "\n\nBest,\nAnna"


def check_settled(situation: tuple[Context, str], items: tuple[Item, ...]) -> None:
    context, text = situation
    once = edit(text, context, items)
    assert edit(once, context, items) == once
    undone = [item.name for item in items if item.apply(context, once) != once]
    assert not undone, f"undone by a later item: {undone}"


@settings(deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(situations(), st.just(EMAIL_ITEMS) | st.sampled_from(SUBSETS))
def test_any_subset_of_items_is_idempotent_and_undoes_nothing(situation: tuple[Context, str], items: tuple[Item, ...]):
    check_settled(situation, items)


@pytest.mark.slow
@settings(deadline=None, max_examples=10_000, suppress_health_check=[HealthCheck.too_slow])
@given(situations(), st.sampled_from(SUBSETS))
def test_any_subset_of_items_is_idempotent_at_length(situation: tuple[Context, str], items: tuple[Item, ...]):
    check_settled(situation, items)


ADVERSARIAL = {
    "a value put right starts a sentence": "The budget meeting! monday it is.",
    "a statement that reads as a greeting": "So.\nDear budget meeting Thursday,\nmore",
    "a statement that reads as a closing": "So.\n- Thanks, budget meeting Thursday!",
    "struck words bring others together": "I am writing to I am writing to inform you that inform you that the team",
    "blanks within a stock phrase": "We meet in  order\tto eat.",
    "a marker within a number": "We meet in room 310. Please come.",
}


@pytest.mark.parametrize("items", [EMAIL_ITEMS, *((item,) for item in EMAIL_ITEMS)], ids=lambda items: items[0].name)
@pytest.mark.parametrize("text", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_what_could_go_wrong_on_a_second_pass(text: str, items: tuple[Item, ...]):
    check_settled((CONTEXT, text), items)


HUGE = {
    "10,000 words": " ".join(DRAFTS)[:300] * 220,
    "one word": "a" * 50_000,
    "stock phrases": "I am writing to " * 5_000 + "inform you that " * 5_000,
    "markers": "- 1. " * 10_000,
    "digits": "1,000 " * 10_000,
    "emoji": "😀" * 10_000,
}


@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE)
def test_huge_texts_are_edited_once_and_for_all(text: str):
    check_settled((CONTEXT, text), EMAIL_ITEMS)


@given(situations())
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_was_written_the_edit_states_every_fact_in_the_right_frame(situation: tuple[Context, str]):
    context, text = situation
    edited = edit(text, context)
    for fact in context.facts["facts"]:
        for slot in fact["slots"]:
            if slot["kind"] == "word":
                plain = edited.lower()  # a footnote's ¹ counts as part of a word, so letters alone are looked for too
                found = {*re.findall(r"\w+", plain), *re.findall(r"[a-z]+", plain)}
                assert set(slot["value"].split()) <= found | {word.removesuffix("s") for word in plain.split()}
    assert re.match(r"(Hi|Dear) [^\n]+,\n\n- ", edited)
    assert edited.rsplit("\n", 1)[1] in context.facts["sender"]


@pytest.mark.parametrize("context", [CONTEXT, *CONTEXTS], ids=lambda context: context.id)
def test_an_edit_of_nothing_is_the_whole_email_in_the_words_of_the_notes_writer(context: Context):
    assert body(edit("", context)) == [fact["sentence"] for fact in context.facts["facts"]]
    assert edit("", context).count("\n\n") == 2


def test_a_right_email_costs_nothing():
    assert edit(RIGHT) == RIGHT
    assert edit(
        in_notes("The budget meeting was shifted to Thursday.", "New time: 3:00 p.m.", "See you in room 204!")
    ) == (in_notes("The budget meeting was shifted to Thursday.", "New time: 3:00 p.m.", "See you in room 204!"))


@pytest.mark.parametrize(
    ("drafted", "left"),
    [
        pytest.param("We meet in room 204", "We meet in room 204.", id="an end mark is added"),
        pytest.param("We meet in room 310.", "We meet in room 204.", id="a wrong room is put right"),
        pytest.param("Our new room is 310.", "Our new room is 204.", id="in the response's words"),
        pytest.param("Room 310 in the year 2031.", "We meet in room 204.", id="too much is wrong: said anew"),
        pytest.param("We do not meet in room 204.", "We meet in room 204.", id="denied"),
        pytest.param("We meet in room 204 with Svetlana.", "We meet in room 204.", id="an invented guest"),
        pytest.param("Go to [place] in room 204.", "We meet in room 204.", id="a placeholder"),
        pytest.param("Sollabar 204.", "We meet in room 204.", id="a number without a topic"),
        pytest.param(
            "Please be so kind as to find your way to the lovely room 204 today.", "We meet in room 204.", id="too long"
        ),
    ],
)
def test_each_line_is_kept_mended_or_said_anew(drafted: str, left: str):
    assert body(edit(drafted))[2] == left


def test_one_sentence_may_state_several_facts_and_none_is_said_twice():
    text = "The budget meeting is on Friday at 2 pm in room 204. It starts at 3 pm. Bring cake!"
    assert body(edit(text)) == ["The budget meeting is on Thursday at 3 pm in room 204."]


def test_facts_stand_in_the_order_of_the_notes():
    lines = RIGHT.splitlines()[2:5]
    assert edit("\n".join(lines[::-1])) == RIGHT


@pytest.mark.parametrize("stuffy", STUFFY.plain)
def test_stuffy_words_become_plain_ones(stuffy: str):
    (plain,) = (item for item in EMAIL_ITEMS if item.name == "plain words")
    text = plain.apply(CONTEXT, f"{stuffy[0].upper()}{stuffy[1:]} the team.")
    assert stuffy.lower() not in text.lower()
    assert text[0].isupper()
    assert text.lower().startswith(STUFFY.plain[stuffy] or "the team")


def test_stuffy_words_may_stand_apart_or_within_each_other():
    (plain,) = (item for item in EMAIL_ITEMS if item.name == "plain words")
    nested = "I am writing to I am writing to inform you that inform you that the team"
    assert plain.apply(CONTEXT, "We meet in  order\tto eat.") == "We meet to eat."
    assert plain.apply(CONTEXT, nested) == "The team"


def test_a_stock_phrase_is_cut_and_the_statement_kept():
    text = "I am writing to inform you that the budget meeting has been moved to Thursday."
    assert body(edit(text))[0] == "The budget meeting is moved to Thursday."


@pytest.mark.parametrize(
    ("sender", "recipient", "tone", "opening", "ending"),
    [
        ("Anna Weber", "Tom", "request", "Hi Tom,", "Thanks,\nAnna"),
        ("Anna Weber", "the sales team", "trouble", "Hi all,", "Sorry for the trouble,\nAnna"),
        ("Anna Weber", "Ms Keller", "news", "Dear Ms Keller,", "Best,\nAnna Weber"),
    ],
)
def test_greeting_and_closing_follow_what_the_notes_show(
    sender: str, recipient: str, tone: str, opening: str, ending: str
):
    facts = {**NOTES.as_facts(), "sender": sender, "recipient": recipient, "tone": tone}
    edited = edit("Subject: x\nDear [Name],\n\nBest regards,\nYours", Context("c", (), "email", "office", facts=facts))
    assert edited.startswith(f"{opening}\n\n")
    assert edited.endswith(f"\n\n{ending}")


@pytest.mark.parametrize("draft", DRAFTS)
def test_the_drafts_of_a_small_model_cost_about_one(draft: str):
    assert 0.55 <= COSTS["word"](draft, edit(draft)) <= 1.2


def test_degenerate_answers_are_dear():
    word = COSTS["word"]
    lazy = ("", "Hi Tom,\n\nBest,\nAnna", "Hi Tom,\n\n- News.\n\nBest,\nAnna", "Please see the notes.", "👍")
    assert min(word(text, edit(text)) for text in lazy) > 1
    assert word("", edit("")) > 20


def test_a_weak_user_minds_the_facts_and_some_of_the_style():
    weak = RuleUser("weak", email_items(), weak=True)
    draws = [weak.choose(CONTEXT, user_rng(seed, "email-1-0001")) for seed in range(200)]
    assert all("facts" in [item.name for item in items] for items in draws)
    assert len({tuple(item.name for item in items) for items in draws}) == 32
    for items in draws[:8]:
        seed = draws.index(items)
        expected = reduce(lambda text, item: item.apply(CONTEXT, text), items, DRAFTS[0])
        assert weak.edit(CONTEXT, DRAFTS[0], t=9, rng=user_rng(seed, "email-1-0001")) == expected


def test_a_weak_user_asks_for_a_generator():
    with pytest.raises(ValueError, match="give rng"):
        RuleUser("weak", email_items(), weak=True).edit(CONTEXT, "", t=1, rng=None)


def test_an_untouched_text_keeps_its_own_blank_space():
    (subject,) = (item for item in EMAIL_ITEMS if item.name == "no subject")
    assert subject.apply(CONTEXT, " Hi Tom,\n\n\n  two  spaces ") == " Hi Tom,\n\n\n  two  spaces "


def test_the_user_answers_to_the_protocol():
    assert STRONG.edit(CONTEXT, "", t=3, rng=user_rng(1, CONTEXT.id)) == RIGHT
    assert STRONG.name == "office-strong"
