"""The contract of the log: durable, idempotent, the highest revision holds, silence is not approval."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from redraft.config import Settings
from redraft.costs import COSTS, Cost, at_first
from redraft.errors import ConfigError, ConflictError, DataError, NotFoundError, RedraftError, UnavailableError
from redraft.log import Added, Counts, EditLog, migrations
from redraft.log.database import NEWEST, writing
from redraft.log.writer import batches, raising
from redraft.types import Completion, Decision, Edit, Interaction, Message

NewLog = Callable[[], AbstractContextManager[EditLog]]
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
OLD_MESSAGES = r'[{"role": "user", "content": "\u0000"}]'


def completion(name: str = "a", response: str = "one two three", **fields: Any) -> Completion:
    return Completion(name, fields.pop("task", "email"), (Message("user", f"context of {name}"),), response, **fields)


def decision(name: str = "a", **fields: Any) -> Decision:
    return replace(Decision(name, ("base", "email/sft@1"), "base", 1, "ucb", {"alpha": 0.5}), **fields)


def test_everything_comes_back_as_it_went_in(log: EditLog) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2)))
    full = Completion(
        "ä/1",
        "email",
        (Message("system", "be brief"), Message("user", "\u2028 ü \x01 🙂", {"tool_calls": [{"id": "1"}]})),
        "",
        "email/sft@3",
        "smollm2",
        "ann",
        moment,
        {"temperature": 1.0, "stop": None},
        {"n": [1, {"deep": 2.5}], "text": "ß"},
        {"message": {"content": None, "refusal": "no"}},
        "refusal",
    )
    chosen = decision("ä/1", scores=(float("-inf"), 0.25), propensities=(0.75, 0.25))
    edit = Edit("ä/1", "\nnew\r\n", 2, "bob", moment, {"editor": "vim"})
    log.record(full, chosen)
    assert log.edit(edit)
    (found,) = log.interactions()
    assert found == Interaction(full, edit, chosen)
    assert found.completion.created_at is not None
    assert found.completion.created_at.tzinfo is UTC
    assert log.interaction("ä/1") == found


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_what_an_older_log_holds_can_be_read(log: EditLog) -> None:
    log.record(completion())
    with writing(log._engine) as connection:  # pyright: ignore[reportPrivateUsage]
        connection.execute(text("UPDATE texts SET content = 'a' || char(0), messages = :m"), {"m": OLD_MESSAGES})
    assert log.interaction("a").completion.messages == (Message("user", "\0"),)
    with pytest.raises(DataError, match=r"U\+0000"):
        log.add_many(log.interactions())


def test_names_that_an_index_cannot_hold_are_refused(log: EditLog) -> None:
    log.record(completion(user_id="ü" * 500))
    with pytest.raises(DataError, match="user_id has 1,002 bytes in UTF-8, more than 1,000"):
        log.record(completion("b", user_id="ü" * 501))


def test_what_cannot_be_looked_up_is_the_callers_fault(log: EditLog) -> None:
    def edits(name: str) -> Any:
        return log.edit_events((), completion_id=name)

    asks: list[Callable[[str], Any]] = [log.interaction, log.erase, log.written_by, edits]
    for ask in asks:
        with pytest.raises(DataError, match="surrogates not allowed"):
            ask("\ud800")


def test_a_naive_time_is_utc(log: EditLog) -> None:
    log.record(completion(created_at=datetime(2026, 1, 1)))
    assert log.interaction("a").completion.created_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_repeating_is_without_effect(log: EditLog) -> None:
    for _ in range(2):
        log.record(completion(metadata={"k": (1, 2)}), decision())
    log.record(completion(metadata={"k": (1, 2)}))
    assert [log.edit(Edit("a", "one two")) for _ in range(2)] == [True, False]
    assert log.counts() == Counts(1, 1, 0, 0, 0, 0, 1)


@pytest.mark.parametrize(
    "other",
    [
        completion(response="other"),
        completion(policy="base"),
        completion(task="notes"),
        completion(metadata={"k": 1}),
        completion(created_at=NOW),
        replace(completion(), messages=(Message("system", "context of a"),)),
    ],
)
def test_same_id_with_other_content_is_a_conflict(log: EditLog, other: Completion) -> None:
    log.record(completion())
    with pytest.raises(ConflictError, match="'a' is in the log with other content"):
        log.record(other)
    assert [found.completion for found in log.interactions()] == [completion()]


def test_another_decision_is_a_conflict(log: EditLog) -> None:
    log.record(completion(), decision())
    with pytest.raises(ConflictError, match=r"another decision \(t\)"):
        log.record(completion(), decision(t=2))
    log.record(completion("b"))
    with pytest.raises(ConflictError, match="no decision"):
        log.record(completion("b"), decision("b"))


def test_an_edit_of_nothing_is_not_found(log: EditLog) -> None:
    with pytest.raises(NotFoundError, match="'a' is not in the log"):
        log.edit(Edit("a", "text"))
    with pytest.raises(NotFoundError, match="'a' is not in the log"):
        log.interaction("a")


@pytest.mark.parametrize(
    ("first", "second", "conflict"),
    [
        ("x", "x", False),
        ("x", "y", True),
        ("x", None, True),
        (None, "x", True),
        (None, None, False),
        (None, "one two three", False),
        ("one two three", None, False),
        ("", None, True),
    ],
)
def test_one_revision_has_one_text(log: EditLog, first: str | None, second: str | None, conflict: bool) -> None:
    log.record(completion())
    log.edit(Edit("a", first, 3))
    if conflict:
        with pytest.raises(ConflictError, match="revision 3 is known with another text"):
            log.edit(Edit("a", second, 3))
    else:
        assert log.edit(Edit("a", second, 3)) is False
    assert log.interaction("a").edit == Edit("a", first, 3)


def test_highest_revision_holds_and_its_cost_is_from_the_logged_response(log: EditLog) -> None:
    log.record(completion(response="a b c d"), decision())
    for revision, edited in ((1, "a b c"), (3, "a b"), (2, None)):
        assert log.edit(Edit("a", edited, revision))
    assert log.interaction("a").edited == "a b"
    assert [cost for _, cost in log.resolved("email")] == [0.5]
    assert log.counts().revisions == 3


def test_cost_is_the_tasks_own_at_read_time(url: str) -> None:
    with EditLog(url) as log:
        log.add_many(
            [
                Interaction(completion(response="ab cd"), Edit("a", "ab ce"), decision()),
                Interaction(completion("b", "ab cd"), Edit("b", None), decision("b")),
            ]
        )
        assert [cost for _, cost in log.resolved()] == [0.5, 0.0]
    changed = Settings.model_validate({"log": {"url": url}, "tasks": {"email": {"cost": "character"}}})
    with EditLog.from_settings(changed) as log:
        assert [cost for _, cost in log.resolved()] == [0.2, 0.0]
        assert log.verify() == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_cost_that_is_no_number_is_refused(url: str, value: float) -> None:
    bad = Cost("bad", lambda response, edited: value)
    with EditLog(url, cost_of=lambda task: bad) as log:
        log.record(completion())
        with pytest.raises(DataError, match=f"cost 'bad' gave {value}"):
            log.edit(Edit("a", "x"))
        assert log.counts().revisions == 0


def test_resolved_follows_the_arrival_of_first_edits(log: EditLog) -> None:
    for name in "abc":
        log.record(completion(name), decision(name))
    for name, revision in (("c", 0), ("a", 0), ("c", 5), ("b", 2), ("a", 1)):
        log.edit(Edit(name, f"{name} {revision}", revision))
    assert [found.completion_id for found, _ in log.resolved()] == ["c", "a", "b"]
    assert list(log.resolved("other")) == []


def test_counts_keep_silence_apart_from_approval(log: EditLog) -> None:
    log.record(completion("edited", created_at=NOW))
    log.edit(Edit("edited", "x"))
    log.record(completion("same"))
    log.edit(Edit("same", "one two three"))
    log.record(completion("accepted"))
    log.edit(Edit("accepted", None))
    log.record(completion("white space only", response="one  two"))
    log.edit(Edit("white space only", "one two"))
    log.record(completion("awaiting", created_at=NOW - timedelta(days=13)))
    log.record(completion("just asked", created_at=NOW))
    log.record(completion("censored", created_at=NOW - timedelta(days=15)))
    log.record(completion("undated"))
    log.record(completion("elsewhere", task="notes"))
    assert log.counts("email", now=NOW) == Counts(8, 2, 2, 1, 2, 2, 4)
    assert log.counts(now=NOW) == Counts(9, 2, 2, 1, 2, 3, 4)
    assert log.counts("nothing") == Counts(0, 0, 0, 0, 0, 0, 0)
    assert log.tasks() == ["email", "notes"]


def test_transport_is_logged_and_is_no_edit(log: EditLog) -> None:
    log.record(completion("a", response="one\ntwo"))
    log.edit(Edit("a", "one\r\ntwo\n"))
    assert (log.counts().edited, log.counts().unchanged, log.verify()) == (0, 1, [])
    assert [row.edited for row in log.interactions()] == ["one\r\ntwo\n"]


def test_costs_of_an_earlier_version_are_told_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    with EditLog(url, cost_of=lambda _: at_first(COSTS["word"])) as log:
        for i, (response, edited) in enumerate([("我喜欢苹果。", "我喜欢香蕉。"), ("one\n", "one"), ("one", "two")]):
            log.record(completion(f"{i}", response=response))
            log.edit(Edit(f"{i}", edited))
    with EditLog(url) as log:
        (problem,) = log.verify()
        assert problem.startswith("2 edits have the costs of an earlier version")
        with EditLog(f"sqlite:///{tmp_path / 'new.db'}") as anew:
            anew.add_many(log.interactions())
            assert (anew.verify(), anew.counts().unchanged) == ([], 1)


def test_interactions_stream_in_order_while_others_write(log: EditLog) -> None:
    log.add_many(Interaction(completion(f"{i:03}")) for i in reversed(range(500)))
    seen: list[str] = []
    for found in log.interactions("email"):
        seen.append(found.completion.id)
        if len(seen) < 3:
            log.record(completion(f"new {len(seen)}"))
            log.edit(Edit(found.completion.id, "x"))
    assert seen == [f"{i:03}" for i in reversed(range(500))]
    assert [found.completion.id for found in log.interactions(edited_only=True)] == ["499", "498"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Interaction(completion("")), "id is empty"),
        (Interaction(completion(task="a b")), "task 'a b'"),
        (Interaction(completion(response="x" * 101)), "response has 101 characters, more than 100"),
        (Interaction(completion(response="\ud800")), "response is not valid Unicode at character 0"),
        (Interaction(completion(response="a\0")), r"response has U\+0000 at character 1"),
        (Interaction(completion("x" * 101, user_id="\0")), "id has 101 characters"),
        (Interaction(completion(metadata={"k": ["\ud800"]})), "a text in metadata is not valid Unicode"),
        (Interaction(completion(metadata={"k": {"a\0": 1}})), r"a text in metadata has U\+0000"),
        (Interaction(completion(decoding={"k": nested(64)})), "decoding is nested more than 64 deep"),
        (Interaction(completion(answer={"k": nested(100_000)})), "answer is nested more than 64 deep"),
        (Interaction(replace(completion(), messages=(Message("user", "x", {"k": "\0"}),))), r"in messages\[0\] has"),
        (Interaction(completion(created_at=datetime.min.replace(tzinfo=timezone(timedelta(hours=2))))), "years 1 to"),
        (Interaction(completion(), Edit("a", "x", metadata={"k": "\ud800"})), "in edit metadata is not valid"),
        (Interaction(completion(), None, decision(candidates=("base", "\0"))), r"a candidate has U\+0000"),
        (Interaction(completion(), None, decision(t=2**63)), "no number of decisions"),
        (Interaction(completion(metadata={"k": float("inf")})), "metadata cannot be written as JSON"),
        (Interaction(completion(metadata={"k": object()})), "metadata cannot be written as JSON"),
        (Interaction(completion(), Edit("a", "x" * 101)), "edited has 101 characters"),
        (Interaction(completion(), Edit("a", None, -1)), "revision -1"),
        (Interaction(completion(), Edit("b", None)), "completion_id 'b': must be 'a'"),
        (Interaction(completion(), None, decision(chosen="c")), "chosen 'c' is not among the candidates"),
        (Interaction(completion(), None, decision(propensities=(0.5, 0.6))), "propensities"),
        (Interaction(completion(), None, decision(scores=(0.5,))), "scores"),
        (Interaction(completion(), None, decision(scores=(0.5, float("nan")))), "scores"),
        (Interaction(completion(), None, decision(t=0)), "t = 0"),
    ],
)
def test_what_cannot_be_stored_faithfully_is_refused(url: str, bad: Interaction, message: str) -> None:
    with EditLog(url, max_text_chars=100) as log:
        with pytest.raises(DataError, match=message):
            log.add_many([Interaction(completion("good")), bad])
        assert log.counts().completions == 0


def test_batches_are_bounded_in_all_their_texts() -> None:
    long = "x" * 900_000
    for rows in (
        [Interaction(completion(f"{i}", long)) for i in range(10)],
        [Interaction(completion(f"{i}"), Edit(f"{i}", long)) for i in range(10)],
    ):
        assert [len(batch) for batch in batches(rows, 1_000_000, raising)] == [5, 5]


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for url in ("postgresql://ann:secret@host/base", "postgresql+psycopg://ann:secret@host/base"):
        with pytest.raises(
            ConfigError, match=r"log postgresql\+psycopg:.*needs the package psycopg.*pip install 'psycopg\[binary\]'"
        ) as caught:
            EditLog(url)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


class TestAddMany:
    @pytest.fixture(autouse=True)
    def _small_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("redraft.log.writer.BATCH_ROWS", 100)

    def rows(self) -> list[Interaction]:
        return [Interaction(completion(f"{i}"), Edit(f"{i}", f"one {i}")) for i in range(250)]

    def test_idempotent_over_batches(self, log: EditLog) -> None:
        assert log.add_many(self.rows()) == Added(250, 0)
        assert log.add_many(reversed(self.rows())) == Added(0, 250)
        assert log.counts().edited == 250
        assert log.verify() == []

    def test_same_as_one_by_one(self, log: EditLog, tmp_path: Path) -> None:
        rows = [Interaction(completion("x"), Edit("x", text, i), decision("x")) for i, text in enumerate("abc")]
        rows += [Interaction(completion("y")), Interaction(completion("y"), Edit("y", None))]
        assert log.add_many(rows) == Added(5, 0)
        with EditLog(f"sqlite:///{tmp_path / 'other.db'}") as other:
            for row in rows:
                other.record(row.completion, row.decision)
                if row.edit:
                    other.edit(row.edit)
            assert list(other.interactions()) == list(log.interactions())
            assert other.counts() == log.counts()

    def test_refused_rows_do_not_stop_the_rest(self, log: EditLog) -> None:
        rows = self.rows()
        rows[7] = Interaction(completion("6", "other"))
        rows[150] = Interaction(completion("bad", "\ud800"))
        told: list[tuple[int, str]] = []
        added = log.add_many(rows, refused=lambda index, error: told.append((index, type(error).__name__)))
        assert added == Added(248, 0)
        assert sorted(told) == [(7, "ConflictError"), (150, "DataError")]

    @pytest.mark.parametrize("strict", [False, True])
    def test_strict_is_all_or_nothing(self, log: EditLog, strict: bool) -> None:
        rows = [*self.rows(), Interaction(completion("0", "other"))]
        with pytest.raises(ConflictError):
            log.add_many(rows, strict=strict)
        assert log.counts().completions == (0 if strict else 200)


texts = st.sampled_from(["a b", "a c", "", "a b c", None])
events = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.sampled_from("xy"), st.sampled_from(["a b", "a b c"]), st.just(0)),
        st.tuples(st.just("edit"), st.sampled_from("xy"), texts, st.integers(0, 3)),
    ),
    max_size=25,
)


def attempt(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except RedraftError as error:
        return type(error)


class Model:
    """What the log should be, in two dictionaries."""

    def __init__(self) -> None:
        self.responses: dict[str, str] = {}
        self.edits: dict[str, dict[int, str | None]] = {}

    def apply(self, kind: str, name: str, text: str | None, revision: int) -> Any:
        if kind == "record":
            return None if self.responses.setdefault(name, text or "") == text else ConflictError
        if name not in self.responses:
            return NotFoundError
        known = self.edits.setdefault(name, {})
        if revision not in known:
            known[revision] = text
            return True
        said, says = (self.responses[name] if t is None else t for t in (known[revision], text))
        return False if said == says else ConflictError

    def costs(self) -> dict[str, float]:
        held = {name: known[max(known)] for name, known in self.edits.items() if known}
        word = COSTS["word"]
        return {name: 0.0 if text is None else word(self.responses[name], text) for name, text in held.items()}


@settings(max_examples=60, deadline=None)
@given(history=events)
def test_any_history_equals_a_simple_model(new_log: NewLog, history: list[tuple[str, str, str | None, int]]) -> None:
    model = Model()
    with new_log() as log:
        for kind, name, text, revision in history:
            if kind == "record":
                outcome = attempt(lambda n=name, t=text: log.record(completion(n, t or ""), decision(n)))
            else:
                outcome = attempt(lambda n=name, t=text, r=revision: log.edit(Edit(n, t, r)))
            assert outcome == model.apply(kind, name, text, revision)
        costs = {found.completion_id: cost for found, cost in log.resolved()}
        assert costs == pytest.approx(model.costs(), abs=1e-9)
        assert {i.completion.id: i.completion.response for i in log.interactions()} == model.responses
        assert log.counts().revisions == sum(map(len, model.edits.values()))
        assert log.verify() == []


EDITS = [("x", 0, "a"), ("x", 2, "a b c d"), ("x", 1, None), ("y", 0, "q"), ("y", 4, "")]


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(
        [("x", 0, "a"), ("x", 2, "a b c d"), ("x", 1, None), ("y", 0, "q"), ("y", 4, ""), ("x", 2, "a b c d")]
    )
)
def test_order_of_arrival_does_not_matter(new_log: NewLog, order: list[tuple[str, int, str | None]]) -> None:
    with new_log() as log:
        for name in "xy":
            log.record(completion(name, "a b"), decision(name))
        for name, revision, text in order:
            log.edit(Edit(name, text, revision))
        assert {found.completion.id: found.edited for found in log.interactions()} == {"x": "a b c d", "y": ""}
        assert {found.completion_id: cost for found, cost in log.resolved()} == {"x": 1.0, "y": 1.0}
        assert log.counts() == Counts(2, 2, 0, 0, 0, 0, 5)


def test_erasing_takes_texts_and_leaves_events(tmp_path: Path) -> None:
    with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as log:
        log.record(completion("hers", "her secret draft", user_id="ann"), decision("hers"))
        log.edit(Edit("hers", "her secret text", user_id="ann"))
        log.record(completion("his", "his draft", user_id="bob"))
        log.edit(Edit("his", "her secret hand", 0, user_id="ann"))
        log.record(completion("silent", "her secret wait", user_id="ann"))
        log.record(completion("accepted", "her secret yes", user_id="ann"))
        log.edit(Edit("accepted", None, user_id="ann"))
        log.record(completion("kept", user_id="bob"))
        before, resolved = log.counts(), list(log.resolved())
        assert log.erase("ann", trained_on=sorted) == (5, ["accepted", "hers", "his", "silent"])
        assert log.erased() == {"accepted", "hers", "his", "silent"}
        assert log.erase("ann").texts == 0
        assert [found.completion.id for found in log.interactions()] == ["kept"]
        assert (log.counts(), list(log.resolved())) == (before, resolved)
        assert log.verify() == []
        log.record(completion("hers", "her secret draft", user_id="ann"), decision("hers"))
        assert log.edit(Edit("hers", "her secret text")) is False
        with pytest.raises(NotFoundError, match="erased"):
            log.edit(Edit("hers", "more", 1))
    assert b"secret" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_erased_texts_cannot_be_priced_anew(url: str) -> None:
    with EditLog(url) as log:
        log.record(completion(user_id="ann"), decision())
        log.edit(Edit("a", "x"))
        log.erase("ann")
    with EditLog(url, cost_of=lambda task: COSTS["character"]) as log:
        assert list(log.resolved()) == []


CORRUPTIONS = {
    "delete from completions": "is missing, but edits name it",
    "delete from texts where revision = -1": "no row for its texts",
    "delete from texts where revision = 0": "its text is missing",
    "update texts set content = 'one' where revision = 0": "recomputed",
    "update edits set cost = cost + 1": "recomputed",
    "update edits set raw = 7": "recomputed",
    "update edits set unchanged = 1": "unchanged is True",
    "update edits set accepted = 1": "accepted unchanged, but with a cost or a text",
    "update edits set cost_name = 'gone'": "1 edits were priced under 'gone', which no task in the settings names",
    "update edits set revision = 4": "a text of revision 0 has no edit",
    "update decisions set chosen = 'x'": "chosen 'x' is not among the candidates",
    "update decisions set propensities = '[0.1, 0.1]'": "propensities",
    "update decisions set t = 0": "t = 0",
}


@pytest.mark.parametrize("statement", CORRUPTIONS)
def test_verify_sees(tmp_path: Path, statement: str) -> None:
    with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as log:
        log.record(completion(), decision())
        log.edit(Edit("a", "one two"))
        assert log.verify() == []
        with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
            connection.execute(statement)
            connection.commit()
        problems = log.verify()
        assert any(CORRUPTIONS[statement] in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("redraft.db", "sqlite:///FILE"),
        ("nosuch:///x", "Can't load plugin"),
        ("sqlite:////proc/redraft.db", "unable to open database file"),
        ("sqlite:///{tmp}/missing/log.db", "unable to open database file"),
        ("sqlite:///{tmp}/file/log.db", "unable to open database file"),
        ("sqlite:///{tmp}/file", "file is not a database"),
    ],
)
def test_invalid_url_is_one_line_with_a_remedy(tmp_path: Path, bad: str, message: str) -> None:
    (tmp_path / "file").write_text("not a database, but long enough to look like none\n" * 50)
    with pytest.raises(ConfigError, match=message) as caught:
        EditLog(bad.format(tmp=tmp_path))
    assert "--log" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "nosuch://user:secret@host/base?password=secret",
        "postgresql://user:secret@127.0.0.1:1/base?application_name=secret",
        "postgresql://127.0.0.1:1/base?user=ann&password=secret",
        "postgresql://127.0.0.1:1/base?connect_timeout=secret",
    ],
)
def test_passwords_stay_out_of_errors(url: str) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(ConfigError) as caught:
        EditLog(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cost_that_a_log_names_is_never_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil.py").write_text("open('proof', 'w')\ndef run(response, edited): return 0.0\n")
    (tmp_path / "mine.py").write_text("def half(response, edited): return 0.5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    tasks = {"email": {"cost": "word"}, "old": {"cost": "mine:half"}, "gone": {"cost": "no_such_module:f"}}
    given = Settings.model_validate({"log": {"url": "sqlite:///log.db"}, "tasks": tasks})
    with EditLog.from_settings(given) as log:
        names = ("word", "character", "mine:half", "evil:run", "evil:run", "subtoken:proof", "no_such_module:f")
        log.add_many(Interaction(completion(str(n)), Edit(str(n), "one")) for n in range(len(names)))
        for n, name in enumerate(names):
            with writing(log._engine) as connection:  # pyright: ignore[reportPrivateUsage]
                given_name = {"name": name, "id": str(n)}
                connection.execute(text("UPDATE edits SET cost_name = :name WHERE completion_id = :id"), given_name)
        problems = log.verify()
        assert list(log.interactions())
    assert not Path("proof").exists()
    assert "evil" not in sys.modules
    assert [problem.partition(":")[0] for problem in problems[:2]] == [
        "completion '1', revision 0",  # recomputed, under known names
        "completion '2', revision 0",
    ]
    assert problems[2] == "2 edits were priced under 'evil:run', which no task in the settings names: not recomputed"
    assert len(problems) == 5


def test_a_log_that_must_exist(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist yet"):
        EditLog(f"sqlite:///{tmp_path / 'log.db'}", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    EditLog(f"sqlite:///{tmp_path / 'log.db'}").close()
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        connection.execute("update alembic_version set version_num = '9999'")
        connection.commit()
    with pytest.raises(ConfigError, match="newer than this redraft"):
        EditLog(f"sqlite:///{tmp_path / 'log.db'}")


def test_migrations_give_the_schema_that_the_code_uses(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from redraft.log.database import open_database, reading
    from redraft.log.schema import schema

    engine = open_database(url)
    with reading(engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema) == []
    engine.dispose()


def test_several_processes_may_open_a_new_log_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from redraft.log import EditLog; from redraft.types import Completion\n"
        "with EditLog(sys.argv[1]) as log:\n"
        "    for i in range(20): log.record(Completion(f'{sys.argv[2]}/{i}', 't', (), 'r'))\n"
    )
    url = f"sqlite:///{tmp_path / 'log.db'}"
    running = [subprocess.Popen([sys.executable, "-c", code, url, str(i)]) for i in range(4)]
    assert [process.wait() for process in running] == [0, 0, 0, 0]
    with EditLog(url) as log:
        assert log.counts().completions == 80


def test_a_new_log_that_another_process_is_making_is_waited_for(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")  # and no write-ahead log yet: SQLite refuses a second at once, unasked to wait
        done = Timer(0.2, other.execute, ["COMMIT"])
        done.start()
        with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as log:
            assert done.finished.is_set()
            log.record(completion())
        done.join()


def test_an_import_leaves_nothing_for_the_next_writer_to_move(tmp_path: Path) -> None:
    file = tmp_path / "log.db"
    with EditLog(f"sqlite:///{file}") as log, EditLog(f"sqlite:///{file}") as other:
        log.add_many(Interaction(completion(str(n), response=f"{n} {'word ' * 2000}")) for n in range(300))
        assert file.stat().st_size > 300 * 10_000
        other.record(completion("other"))
        log.add_many([Interaction(completion("last"))])
        with log._engine.connect() as connection:  # pyright: ignore[reportPrivateUsage]
            assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar() == 16_000


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from sqlalchemy import Engine, event
from redraft.costs import COSTS
from redraft.log import EditLog
from redraft.types import Completion, Decision, Edit, Interaction

def made(name):
    return Completion(name, "t", (), "a b c", user_id=name), Decision(name, ("p",), "p", 1, "fixed")

def batch(prefix):
    return [Interaction(c, Edit(c.id, "a b"), d) for c, d in (made(f"{prefix}{i}") for i in range(2))]

HISTORY = (
    lambda log: log.record(*made("x")),
    lambda log: log.edit(Edit("x", "a")),
    lambda log: log.edit(Edit("x", "a b", 1)),
    lambda log: log.add_many(batch("many")),
    lambda log: log.add_many([*batch("strict"), Interaction(made("x")[0], Edit("x", None, 2))], strict=True),
    lambda log: log.erase("x"),
)

def child(folder, last):
    events = 0
    def count(*_):
        nonlocal events
        events += 1
        if events == last:
            os.kill(os.getpid(), signal.SIGKILL)
    for name in ("after_cursor_execute", "commit", "checkin"):
        event.listen(Engine, name, count)
    with EditLog(f"sqlite:///{folder}/log.db", cost_of=lambda task: COSTS["whitespace"]) as log:
        for step in HISTORY:
            step(log)
            with (folder / "acknowledged").open("ab", buffering=0) as said:
                said.write(b".")

root = Path(sys.argv[1])
EditLog(f"sqlite:///{root}/log.db").close()
for last in range(1, 1000):
    folder = root / f"{last:03}"
    folder.mkdir()
    shutil.copy(root / "log.db", folder)
    if (pid := os.fork()) == 0:
        child(folder, last)
        os._exit(0)
    if os.waitpid(pid, 0)[1] != signal.SIGKILL:
        break  # the history was over before its turn to be killed
"""


def contents(folder: Path) -> tuple[list[Interaction], Counts]:
    """What a log holds, once it has been found sound."""
    with EditLog(f"sqlite:///{folder / 'log.db'}", cost_of=lambda task: COSTS["whitespace"]) as log:
        assert log.verify() == []
        return list(log.interactions()), log.counts()


def test_a_log_killed_between_any_two_writes_holds_what_was_acknowledged(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=True)
    folders = sorted(tmp_path.glob("*/"))
    said = [len(file.read_bytes()) if (file := folder / "acknowledged").exists() else 0 for folder in folders]
    found = [contents(folder) for folder in folders]
    assert said == sorted(said)
    assert said[-1] == 6  # the last one was not killed
    # A step shows whole or not at all: where it ends is what a process killed just before the next one leaves.
    after = {steps: found[max(i for i, s in enumerate(said[:-1]) if s == steps - 1)] for steps in range(1, 7)}
    after[0] = found[0]
    assert [len(after[steps][0]) for steps in range(7)] == [0, 1, 1, 1, 3, 5, 4]
    for acknowledged, content in zip(said, found, strict=True):
        assert content in (after[acknowledged], after[min(acknowledged + 1, 6)])


def test_the_newest_schema_is_the_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == NEWEST


def test_opening_a_log_again_needs_no_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    EditLog(url).close()
    code = f"import sys; from redraft.log import EditLog; EditLog({url!r}); assert 'alembic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_that_is_removed_or_replaced_takes_nothing_in_silence(tmp_path: Path) -> None:
    file = tmp_path / "log.db"
    with EditLog(f"sqlite:///{file}") as log:
        log.record(completion("first"))
        with EditLog(f"sqlite:///{tmp_path / 'other.db'}") as other:
            other.record(completion("restored"))
        for part in tmp_path.glob("log.db*"):
            part.unlink()
        with pytest.raises(UnavailableError, match="its file is gone"):
            log.record(completion("second"))
        assert not file.exists()
        (tmp_path / "other.db").rename(file)
        log.record(completion("third"))
        assert {found.completion.id for found in log.interactions()} == {"restored", "third"}
