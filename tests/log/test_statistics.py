"""Statistics are what the events say, whatever came in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_parts import ARMS, NOW, completion, decision, feedback, give
from sqlalchemy import text

from redraft.costs import COSTS, Cost
from redraft.errors import ConflictError, DataError, NotFoundError
from redraft.log import EditLog
from redraft.log.database import writing
from redraft.log.events import Answered, Event, Feedback, Finished, Pinned, Revised, Started, checked
from redraft.select import LateEnsemble, rebuild
from redraft.types import Count, Edit, Interaction

NewLog = Callable[[], AbstractContextManager[EditLog]]
TEXTS = ("one two three", "one two", "", "one two three four five", "ONE")


def by_characters(_task: str) -> Cost:
    return COSTS["character"]


events = st.one_of(
    st.tuples(st.just("answer"), st.integers(0, 5), st.sampled_from(ARMS), st.sampled_from([*ARMS, ""])),
    st.tuples(st.just("edit"), st.integers(0, 5), st.sampled_from([None, *TEXTS]), st.integers(-1, 3)),
)


@settings(max_examples=150)
@given(transactions=st.lists(st.lists(events, max_size=5), max_size=6))
def test_any_events_leave_the_statistics_that_a_replay_gives(
    new_log: NewLog, transactions: list[list[tuple[Any, ...]]]
) -> None:
    with new_log() as log:
        for several in transactions:
            told: list[Event] = []
            for kind, number, one, other in several:
                if kind == "answer":
                    told.append(Answered(completion(str(number), other), decision(str(number), one)))
                else:
                    told.append(feedback(str(number), one, other))
            give(log, *told)
        assert log.verify() == []
        resolved = list(log.resolved("email"))
        selector = rebuild(LateEnsemble(ARMS), resolved)
        kept = log.statistics("email")
        for arm in ARMS:
            found, count = kept.get(arm, Count()), selector.counts[arm]
            assert (found.resolved, found.total, found.squares) == (count.resolved, count.total, count.squares)


def test_one_by_one_or_as_an_import_they_are_the_same() -> None:
    rows = [
        Interaction(completion(str(n)), Edit(str(n), TEXTS[n % 5]) if n % 3 else None, decision(str(n), ARMS[n % 2]))
        for n in range(20)
    ]
    rows = [
        replace(row, completion=replace(row.completion, policy=row.decision.chosen)) for row in rows if row.decision
    ]
    one, many = EditLog("sqlite://"), EditLog("sqlite://")
    for row in rows:
        one.record(row.completion, row.decision)
        if row.edit is not None:
            one.edit(row.edit)
    many.add_many(rows)
    assert one.statistics("email") == many.statistics("email")
    assert sum(found.decisions for found in one.statistics("email").values()) == 20


def test_another_policys_answer_teaches_nothing() -> None:
    log = EditLog("sqlite://")
    give(log, Answered(completion("a", policy="base"), decision("a", "email/sft@1")), feedback("a", "one"))
    assert log.statistics("email") == {}
    assert list(log.resolved("email")) == []


def test_another_cost_counts_everything_anew() -> None:
    log = EditLog("sqlite://")
    give(log, Answered(completion("a"), decision("a")), feedback("a", "one two"))
    before = log.statistics("email")["base"]
    log.cost_of = by_characters
    after = log.statistics("email")["base"]
    assert (before.total, after.total) == (333333333, round(6 / 13 * 1e9))
    give(log, feedback("a", "one", revision=1), Answered(completion("b"), decision("b")), feedback("b", None))
    assert log.verify() == []
    assert asdict(log.statistics("email")["base"]) | {"squares": 0} == {
        "decisions": 2,
        "resolved": 2,
        "total": round(10 / 13 * 1e9),
        "squares": 0,
    }


def test_verify_finds_wrong_statistics() -> None:
    log = EditLog("sqlite://")
    give(log, Answered(completion("a"), decision("a")), feedback("a", "one two"))
    with writing(log._engine) as connection:  # pyright: ignore[reportPrivateUsage]
        connection.execute(text("UPDATE statistics SET resolved = 2"))
    (problem,) = log.verify()
    assert "statistics of email, base" in problem


def test_a_stream_has_no_edits_before_it_ends() -> None:
    log = EditLog("sqlite://")
    begun, early = give(log, Started(completion("a", response=""), decision("a")), feedback("a", "one"))
    assert begun is None
    assert isinstance(early, NotFoundError)
    assert log.verify() == []
    assert log.counts().completions == 1
    give(log, Finished("a", "one two three"))
    (later,) = give(log, feedback("a", "one"))
    assert isinstance(later, Revised)
    assert (later.raw, later.revision, later.new) == (2, 0, True)
    assert log.interaction("a").completion.response == "one two three"


def test_an_erased_stream_stays_erased() -> None:
    log = EditLog("sqlite://")
    give(log, Started(replace(completion("a", response=""), user_id="ann"), decision("a")))
    assert log.erase("ann").texts == 1
    give(log, Finished("a", "one two three"))
    with pytest.raises(NotFoundError):
        log.interaction("a")


def test_revisions_that_are_not_numbered_follow_one_another() -> None:
    log = EditLog("sqlite://")
    give(log, Answered(completion("a"), decision("a")))
    told = [give(log, feedback("a", text))[0] for text in ("one", "one", "two", None, "one two three")]
    assert [(found.revision, found.new) for found in told] == [(0, True), (0, False), (1, True), (2, True), (2, False)]


def test_an_idempotency_key_makes_one_revision() -> None:
    log = EditLog("sqlite://")
    give(log, Answered(completion("a"), decision("a")))
    first, again, other = give(
        log, feedback("a", "one", key="k"), feedback("a", "one", key="k"), feedback("a", "x", key="k")
    )
    assert (first.new, again.new, again.revision) == (True, False, 0)
    assert isinstance(other, ConflictError)
    give(log, feedback("a", "two"))
    (late,) = give(log, feedback("a", "one", key="k"))
    assert (late.new, late.revision) == (False, 0)
    assert log.interaction("a").edited == "two"


def test_one_that_is_refused_leaves_the_others() -> None:
    log = EditLog("sqlite://")
    told = give(log, feedback("none", "x"), Answered(completion("a"), None), feedback("a", "one"))
    assert isinstance(told[0], NotFoundError)
    assert isinstance(told[2], Revised)
    with pytest.raises(DataError, match="revision"):
        checked(feedback("a", "one", revision=2**40), 100)


def test_other_tasks_completions_do_not_exist() -> None:
    log = EditLog("sqlite://")
    given = Feedback(Edit("a", "x", created_at=NOW), "other", frozenset({"letters"}))
    _, told = give(log, Answered(completion("a"), None), given)
    assert isinstance(told, NotFoundError)


def test_the_first_to_pin_a_conversation_decides() -> None:
    log = EditLog("sqlite://")
    told = give(log, *(Pinned("email", "c", policy, NOW) for policy in ARMS), Pinned("email", "d", "email/sft@1", NOW))
    assert told == ["base", "base", "email/sft@1"]
