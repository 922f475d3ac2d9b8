"""Every rule user of both tasks, by property: an edit of an edit is the edit, and no item undoes another."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from point_contexts import EMAIL, PREFERENCES, SUMMARY, situations

from redraft.costs import COSTS
from redraft.lab.bench.tasks import TASKS
from redraft.lab.users import user_rng
from redraft.lab.users.catalogue import get_user
from redraft.lab.users.rules import Item, RuleUser
from redraft.lab.users.summary import Summary
from redraft.types import Context

BY_DOMAIN = {(context.task, context.domain): context for context in [*EMAIL, *SUMMARY]}


def edit(context: Context, text: str, spec: str = "strong") -> str:
    return get_user(context.task, spec).edit(context, text, t=1, rng=user_rng(1, context.id))


def check_settled(situation: tuple[Context, str, tuple[Item, ...]]) -> None:
    context, text, items = situation
    user = RuleUser("test", {context.domain: items})
    once = user.edit(context, text, t=1, rng=None)
    assert user.edit(context, once, t=1, rng=None) == once
    undone = [item.name for item in items if item.apply(context, once) != once]
    assert not undone, f"undone by a later item: {undone}"


@settings(deadline=None, max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(situations())
def test_an_edit_of_an_edit_changes_nothing_and_no_item_undoes_another(
    situation: tuple[Context, str, tuple[Item, ...]],
):
    check_settled(situation)


@pytest.mark.slow
@settings(deadline=None, max_examples=10_000, suppress_health_check=[HealthCheck.too_slow])
@given(situations())
def test_an_edit_of_an_edit_changes_nothing_at_length(situation: tuple[Context, str, tuple[Item, ...]]):
    check_settled(situation)


@pytest.mark.parametrize("context", BY_DOMAIN.values(), ids=lambda c: f"{c.task}-{c.domain}")
@pytest.mark.parametrize("spec", ["strong", "other"])
def test_ten_thousand_words(context: Context, spec: str):
    text = f"{context.facts['source']} שלום 😀 ok\n" * (10_000 // len(context.facts["source"].split()))
    once = edit(context, text, spec)
    assert edit(context, once, spec) == once
    assert len(once.split()) < 60


GOLDEN = {
    ("summary", "news"): "Story time!\nThe old bridge in Trier was closed on 3 May after a crack was found!\n"
    "What would you do?",
    ("summary", "wikipedia"): "- Bees live in hives of up to 60,000 workers.\n- They find flowers by scent.",
    ("summary", "abstract"): "Did you know?\nBees live in hives of up to 60,000 workers. They find flowers by scent.\n"
    "And there is more to come! 🔬",
    ("summary", "film"): "Q: What is it about?\nA: A clockmaker finds a door into last Tuesday.\n"
    "Q: Is it worth seeing?\nA: Yes.",
    ("email", "abstract"): "Dear Professor Okoye,\n\n- Bees live in hives of up to 60,000 workers.\n"
    "- They find flowers by scent.\n\nKind regards,\nBen Okafor",
    ("email", "paper"): "Hi Ines,\n\nThe old bridge in Trier was closed on 3 May after a crack was found!\n\n"
    "Many thanks,\nBen",
    ("email", "dialogue"): "Hey Leo!\n\nHis asthma is better. He uses the inhaler twice a day. "
    "There isn't any other problem.",
}
FIRST = {(context.task, context.domain): context for context in reversed([*EMAIL, *SUMMARY])}


@pytest.mark.parametrize("domain", GOLDEN, ids="-".join)
def test_what_a_strong_user_makes_of_an_empty_answer(domain: tuple[str, str]):
    assert edit(FIRST[domain], "") == GOLDEN[domain]


def test_a_covering_sentence_stays_in_its_own_words():
    bees = FIRST["summary", "wikipedia"]
    assert edit(bees, "Up to 60,000 workers live in a hive of bees. Flowers are found by scent. Buy honey now.") == (
        "- Up to 60,000 workers live in a hive of bees.\n- Flowers are found by scent."
    )


def test_an_unsupported_or_wrong_sentence_is_struck():
    bridge = FIRST["summary", "news"]
    wrong = "The old bridge in Trier was closed on 9 May after a crack was found."
    assert "9 May" not in edit(bridge, wrong)
    assert edit(bridge, wrong) == GOLDEN["summary", "news"]


def test_a_wrong_verdict_is_put_right():
    film = FIRST["summary", "film"]
    assert edit(film, GOLDEN["summary", "film"].replace("Yes.", "No.")) == GOLDEN["summary", "film"]


@pytest.mark.parametrize("context", [*EMAIL, *SUMMARY], ids=lambda c: c.id)
def test_no_degenerate_answer_is_cheap(context: Context):
    word = COSTS["word"]
    frame = re.sub(r".*(bees|bridge|clock|asthma).*", "", edit(context, ""), flags=re.IGNORECASE)
    for answer in ("", "OK.", "Thanks.", "the " * 50, frame):
        assert word(answer, edit(context, answer)) >= 0.5, answer


def test_a_weak_user_minds_the_content_always_and_the_style_by_chance():
    context = FIRST["summary", "abstract"]
    weak = get_user("summary", "weak")
    seen = {weak.edit(context, "", t=1, rng=user_rng(seed, context.id)) for seed in range(60)}
    assert len(seen) > 8
    assert all("Bees live in hives of up to 60,000 workers." in text for text in seen)


def test_another_user_shares_the_preference_and_not_the_words():
    for context in [*EMAIL, *SUMMARY]:
        strong, other = PREFERENCES[context.task]
        assert [item.name for item in strong[context.domain]] == [item.name for item in other[context.domain]]
        assert edit(context, "") != edit(context, "", "other")


def test_every_domain_has_a_preference():
    for task, domains in TASKS.items():
        for domain in domains:
            assert domain in get_user(task, "strong").preferences  # pyright: ignore[reportAttributeAccessIssue]


def test_a_summary_is_read_zone_by_zone():
    read = Summary.read(
        "Sure:\nDid you know?\n\nBees dance.\nA: They fly.\nWhat is it about?\nAnd there is more to come! 🔬"
    )
    assert read == Summary("Sure:\nDid you know?", "Bees dance.\nThey fly.", "And there is more to come!", "🔬")
