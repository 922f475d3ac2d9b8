"""Whatever passes the check can be written and comes back equal; whatever a model wrote can be made to pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_parts import NOW

from redraft.errors import DataError
from redraft.log import EditLog
from redraft.log.canonical import canonical, cleaned
from redraft.log.events import Feedback, Finished, Pinned, Spoken, checked
from redraft.types import Completion, Edit, Interaction, Message

TEXT = st.text(st.characters(), max_size=5) | st.text("a\0\ud83d\ude00", max_size=3)
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.just(10**400)
JSON = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)


def wrapped(depth: int) -> Any:
    value: Any = "x"
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


VALUE = JSON | st.integers(55, 1200).map(wrapped)


def about(value: Any) -> Completion:
    more = {"value": value}
    return Completion("c", "email", (Message("user", "x", more),), "y", decoding=more, metadata=more, answer=more)


@settings(max_examples=60, deadline=None)
@given(value=VALUE)
def test_what_passes_is_written_and_comes_back(
    new_log: Callable[[], AbstractContextManager[EditLog]], value: Any
) -> None:
    try:
        ready = canonical(Interaction(about(value)), 10_000)
    except DataError:
        assert canonical(Interaction(about(cleaned(value))), 10_000)
        return
    with new_log() as log:
        log.record(about(value))
        assert log.interaction("c") == ready


@given(value=VALUE)
def test_what_was_cleaned_passes_and_is_clean(value: Any) -> None:
    once = cleaned(value)
    assert cleaned(once) == once
    canonical(Interaction(about({"message": once})), 10_000)


def test_halves_of_a_character_that_a_stream_cut_are_joined() -> None:
    assert cleaned("\ud83d\ude00 \ud83d \ude00\0") == "😀 \ufffd \ufffd\ufffd"
    assert cleaned({"a\0": (1, float("nan"))}) == {"a\ufffd": [1, None]}


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (Pinned("email", "\0", "base", NOW), "conversation has U"),
        (Pinned("email", "x" * 1001, "base", NOW), "conversation has 1,001 bytes"),
        (Pinned("email", "c", "\ud800", NOW), "policy is not valid Unicode"),
        (Pinned("a b", "c", "base", NOW), "task 'a b'"),
        (Spoken("c", "\0"), "response has U"),
        (Spoken("\ud800", "x"), "id is not valid Unicode"),
        (Finished("c", "x" * 11), "response has 11 characters"),
        (Finished("c", "x", {"message": {"content": "\ud800"}}), "a text in answer is not valid"),
        (Finished("c", "x", {"message": wrapped(64)}), "answer is nested"),
        (Finished("c", "x", {}, "\0"), "untaught has U"),
        (Feedback(Edit("c", "x"), "p", frozenset(), "\0"), "idempotency_key has U"),
        (Feedback(Edit("c", "x", -1, metadata={"k": wrapped(64)}), "p", frozenset()), "edit metadata is nested"),
        (Feedback(Edit("c", "x", -1, "\ud800"), "p", frozenset()), "user_id is not valid"),
    ],
)
def test_every_event_is_checked_before_it_is_queued(event: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        checked(event, 10)
