"""Answers that are more than a text, that come piece by piece, or that nothing may learn from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_parts import NOW, completion, decision, feedback, give

from redraft.cli.diagnose import diagnose
from redraft.cli.export import export_app
from redraft.cli.ground import Source, read_edits
from redraft.errors import DataError, NotFoundError
from redraft.log import EditLog
from redraft.log.events import Answered, Event, Finished, Revised, Spoken, Started
from redraft.log.mapping import interaction_json
from redraft.types import Completion, Count, Edit, Interaction, Message

CALL = {"message": {"content": None, "tool_calls": [{"id": "1", "function": {"name": "send"}}]}}


def started(name: str = "a", **fields: Any) -> Started:
    return Started(replace(completion(name, response=""), **fields), decision(name))


@pytest.fixture
def log() -> EditLog:
    return EditLog("sqlite://")


def test_a_stream_ends_with_its_whole_answer(log: EditLog) -> None:
    give(log, started(), Spoken("a", "one"), Spoken("a", "one two"))
    assert log.interaction("a").completion.response == "one two"
    assert list(log.interactions()) == [], "not finished: for nobody but who asks for it"
    give(log, Finished("a", "one two three", CALL), Spoken("a", "late"))
    assert log.interaction("a").completion == replace(completion("a"), answer=CALL)
    assert log.verify() == []


def test_what_was_said_so_far_can_be_edited_and_then_holds(log: EditLog) -> None:
    give(log, started(), Spoken("a", "one two"))
    told = give(log, Spoken("a", "one two three four"), feedback("a", "one"))[1]
    assert isinstance(told, Revised)
    assert (told.raw, told.cost) == (3, 0.75), "the last that was said in this transaction"
    give(log, Finished("a", "one two three four five", CALL, "refusal"), Spoken("a", "x"))
    assert log.interaction("a") == Interaction(
        completion("a", response="one two three four"), Edit("a", "one", created_at=NOW), decision("a")
    )
    assert log.statistics("email") == {"base": Count(1, 1, 750_000_000, 750_000_000**2)}
    assert log.verify() == []


def test_a_stream_that_has_said_nothing_has_nothing_to_edit(log: EditLog) -> None:
    early = give(log, started(), Spoken("a", ""), feedback("a", "one"))[2]
    assert isinstance(early, NotFoundError)
    with pytest.raises(NotFoundError):
        log.interaction("a")
    with pytest.raises(NotFoundError):
        log.edit(Edit("a", "one"))
    give(log, Spoken("a", "one two"))
    assert log.edit(Edit("a", "one")), "what broke off can be edited from Python too"


def test_another_project_settles_nothing(log: EditLog) -> None:
    give(log, started(), Spoken("a", "one"))
    (told,) = give(log, replace(feedback("a", "x"), tasks=frozenset({"letters"})))
    assert isinstance(told, NotFoundError)
    give(log, Finished("a", "one two three"))
    assert log.interaction("a").completion.response == "one two three"


def test_erasing_takes_every_text_and_leaves_the_reason(log: EditLog) -> None:
    give(log, started("a", user_id="ann"), Finished("a", "no", CALL, "refusal"))
    give(log, started("b", user_id="ann"), Spoken("b", "secret"))
    assert log.erase("ann").texts == 2
    give(log, Spoken("b", "secret"), Finished("b", "secret", CALL, "refusal"))
    with log.keys() as connection:
        rows = connection.exec_driver_sql("SELECT messages, content, partial, answer, untaught FROM texts").all()
    assert [tuple(row) for row in rows] == [(None, None, None, None, "refusal"), (None,) * 5]
    assert log.verify() == []
    log.record(replace(completion("a", response="no"), user_id="ann", answer=CALL, untaught="refusal"))


def test_nothing_is_learnt_from_what_teaches_nothing(log: EditLog) -> None:
    refusal = replace(completion("a", response="no"), untaught="refusal")
    give(log, Answered(refusal, decision("a")), Answered(completion("b"), decision("b")), started("c"))
    give(log, Finished("c", "", {}, "empty"))
    told = give(log, feedback("a", "yes"), feedback("c", "yes"))
    assert [(edit.raw, edit.new) for edit in told] == [(1, True), (1, True)], "logged and priced all the same"
    assert log.statistics("email") == {"base": Count(decisions=3)}, "played, and never resolved"
    assert list(log.resolved("email")) == []
    assert log.verify() == []


def test_a_revision_after_the_last_is_refused(log: EditLog) -> None:
    give(log, Answered(completion("a"), None), feedback("a", "one", 2**31 - 1))
    (told,) = give(log, feedback("a", "two"))
    assert isinstance(told, DataError)


events = st.tuples(
    st.sampled_from(["start", "answer", "say", "finish", "edit", "erase"]),
    st.sampled_from("abc"),
    st.sampled_from(["", "one", "one two three"]),
    st.sampled_from(["", "", "refusal"]),
)


def made(kind: str, name: str, text: str, why: str) -> Event:
    whole = replace(completion(name, response=text), user_id=name)
    return {
        "start": Started(replace(whole, response=""), decision(name)),
        "answer": Answered(replace(whole, untaught=why), decision(name)),
        "say": Spoken(name, text),
        "finish": Finished(name, text, {}, why),
        "edit": feedback(name, f"{text} two"),
    }[kind]


@settings(max_examples=30, deadline=None)
@given(transactions=st.lists(st.lists(events, max_size=5), max_size=6))
def test_any_streams_leave_the_statistics_that_a_replay_gives(
    new_log: Callable[[], AbstractContextManager[EditLog]], transactions: list[list[tuple[str, str, str, str]]]
) -> None:
    with new_log() as log:
        for several in transactions:
            for _, name, *_ in (event for event in several if event[0] == "erase"):
                log.erase(name)
            give(log, *(made(*event) for event in several if event[0] != "erase"))
        assert log.verify() == []
        costs = [round(cost * 1e9) for _, cost in log.resolved("email")]
        kept = log.statistics("email").get("base", Count())
        assert (kept.resolved, kept.total) == (len(costs), sum(costs))
        assert kept.decisions == log.counts().completions


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EditLog]:
    """In the working folder, the log of a task with one edit that can be taught and four that cannot."""
    monkeypatch.chdir(tmp_path)
    image = {"content": [{"type": "text", "text": "x"}, {"type": "image_url"}]}
    text = {"content": [{"type": "text", "text": "x"}]}
    rows = [
        replace(completion("taught"), messages=(Message("user", "x", text),)),
        replace(completion("refused"), untaught="refusal"),
        replace(completion("refused too"), untaught="refusal"),
        replace(completion("empty", response=""), untaught="empty"),
        replace(completion("seen"), messages=(Message("user", "x [image_url]", image),)),
    ]
    with EditLog("sqlite:///redraft.db") as log:
        log.add_many(Interaction(row, Edit(row.id, "y"), decision(row.id)) for row in rows)
        yield log


LEFT = "4 left out: context with image_url 1, empty 1, refusal 2\n"


@pytest.mark.parametrize("kind", ["sft", "preference", "unpaired", "cost", "native"])
def test_exports_teach_nothing_else(mixed: EditLog, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    export_app([kind, f"{kind}.jsonl"], standalone_mode=False)
    rows = Path(f"{kind}.jsonl").read_text("utf-8").splitlines()
    assert len(rows) == {"native": 5, "unpaired": 2}.get(kind, 1)
    assert capsys.readouterr().err == ("" if kind == "native" else LEFT)


def test_training_reads_nothing_else(mixed: EditLog, capsys: pytest.CaptureFixture[str]) -> None:
    assert [found.completion.id for found in read_edits("email", Source(limit=2)).interactions] == ["taught"]
    assert capsys.readouterr().err == LEFT


def test_diagnose_measures_nothing_else(mixed: EditLog, capsys: pytest.CaptureFixture[str]) -> None:
    diagnose("email", as_json=True)
    told = capsys.readouterr()
    assert (json.loads(told.out)["completions"], told.err) == (1, LEFT)


def test_a_selector_learns_where_the_context_has_an_image(mixed: EditLog) -> None:
    assert {found.completion_id for found, _ in mixed.resolved("email")} == {"taught", "seen"}
    assert mixed.statistics("email")["base"].resolved == 2


def test_an_interaction_is_json_with_iso_dates(log: EditLog) -> None:
    full = Completion("a", "email", (Message("user", "x", {"k": [1]}),), "y", created_at=NOW, answer=CALL)
    chosen = replace(decision("a"), scores=(float("-inf"), 0.5))
    log.add_many([Interaction(full, Edit("a", "z", created_at=NOW), chosen)])
    found = json.loads(json.dumps(interaction_json(log.interaction("a")), allow_nan=False))
    assert found["completion"]["created_at"] == found["edit"]["created_at"] == "2026-01-01T00:00:00+00:00"
    assert found["completion"]["messages"] == [{"role": "user", "content": "x", "more": {"k": [1]}}]
    assert found["decision"]["scores"] == ["-inf", 0.5]
