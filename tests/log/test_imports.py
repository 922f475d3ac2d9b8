"""What several files and several people bring: ids of several tasks, edits of one draft, prices from all cores."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft import pricing
from redraft.costs import COSTS
from redraft.errors import ConflictError
from redraft.log import Added, Counts, EditLog, writer
from redraft.log.formats import READERS, Options, Row
from redraft.types import Completion, Decision, Edit, Interaction, Message

NewLog = Callable[[], AbstractContextManager[EditLog]]
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def row(task: str, name: str) -> Interaction:
    """One of a task's rows, told apart by its texts."""
    completion = Completion(name, task, (Message("user", f"{name} of {task}"),), f"draft of {task}", f"{task}/sft@1")
    decision = Decision(name, (f"{task}/sft@1",), f"{task}/sft@1", 1, "fixed")
    return Interaction(completion, Edit(name, f"{name} by {task}"), decision)


def told(log: EditLog) -> set[tuple[str, str | None]]:
    return {(i.completion.messages[0].content, i.edited) for i in log.interactions()}


IDS = {"a": ("1", "2", "b:1"), "b": ("1", "2", "a:2", "c:1"), "c": ("1", "2", "b:1", "b:b:1")}
rows = st.sampled_from([row(task, name) for task, names in IDS.items() for name in names])
files = st.lists(st.lists(rows, max_size=8), min_size=1, max_size=4)


class TestIds:
    @settings(max_examples=25, deadline=None)
    @given(given_files=files, seed=st.integers(0, 99), strict=st.booleans())
    def test_any_files_in_any_order_keep_all_rows_and_come_again_without_effect(
        self, new_log: NewLog, given_files: list[list[Interaction]], seed: int, strict: bool
    ) -> None:
        wanted = {(r.completion.messages[0].content, r.edited) for rows in given_files for r in rows}
        with new_log() as log, pytest.MonkeyPatch.context() as patch:
            patch.setattr(writer, "BATCH_ROWS", 3)
            assert sum(log.add_many(rows, strict=strict).new for rows in given_files) == len(wanted)
            held = list(log.interactions())
            for rows in random.Random(seed).sample(given_files, len(given_files)):
                assert log.add_many(rows, strict=strict) == Added(0, len(rows))
            assert list(log.interactions()) == held
            assert told(log) == wanted
            assert len(list(log.resolved())) == len(wanted)  # edits and decisions followed
            assert log.verify() == []

    def test_an_id_of_another_task_becomes_a_name_of_its_own(self, log: EditLog) -> None:
        log.add_many([row("a", "1"), row("b", "1")])
        assert [i.completion.id for i in log.interactions()] == ["1", "b:1"]

    def test_a_name_that_becomes_too_long_is_refused(self, log: EditLog) -> None:
        refused: list[str] = []
        rows = [row("a", "x" * 999), row("b", "x" * 999)]
        assert log.add_many(rows, refused=lambda _, error: refused.append(str(error))) == Added(1)
        assert refused == ["id has 1,001 bytes in UTF-8, more than 1,000: shorten it"]

    def test_two_imports_at_once_keep_all_rows(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(writer, "BATCH_ROWS", 7)
        both(url)


def both(url: str) -> None:
    """Import the same ids for two tasks at once, then again one by one: all rows are there, once."""

    def imported(task: str) -> Added:
        with EditLog(url) as log:
            return log.add_many(row(task, str(i)) for i in range(100))

    EditLog(url).close()
    with ThreadPoolExecutor(3) as pool:
        assert sum(added.new for added in pool.map(imported, "aab")) == 200
    assert [imported(task) for task in "ba"] == [Added(0, 100)] * 2
    with EditLog(url) as log:
        assert [log.counts(task).edited for task in "ab"] == [100, 100]
        assert log.verify() == []


def by(user: str, edited: str | None, day: int | None = None, revision: int = 0) -> Interaction:
    """A table's row of one draft: its only column for a person names the editor."""
    moment = None if day is None else MOMENT + timedelta(day)
    completion = Completion("d", "t", (Message("user", "x"),), "one two three four", user_id=user)
    return Interaction(completion, Edit("d", edited, revision, user, moment))


class TestPeople:
    @pytest.mark.parametrize(
        ("rows", "holds", "revisions", "shared"),
        [
            ([by("ann", "A"), by("bob", "B")], "B", 2, (1, 1)),
            ([by("ann", "A"), by("bob", "A")], "A", 2, (1, 0)),
            ([by("ann", None), by("bob", "one two three four")], "one two three four", 2, (1, 0)),
            ([by("ann", "A", 1), by("bob", "B", 2)], "B", 2, (1, 1)),
            ([by("ann", "A", 2), by("bob", "B", 1)], "A", 3, (1, 1)),  # what holds is said once more
            ([by("ann", "A", 3), by("bob", "B", 1), by("cat", "C", 2)], "A", 5, (1, 1)),
            ([by("ann", "A", 2), by("bob", "B")], "B", 2, (1, 1)),
            (
                [by("ann", "A"), by("bob", "B"), by("bob", "B2", revision=1), by("ann", "B2", revision=1)],
                "B2",
                4,
                (1, 0),
            ),
            ([by("ann", "A"), by("ann", "B", revision=1)], "B", 2, (0, 0)),
            ([by("bob", "B", revision=1), by("ann", "A"), by("cat", "C")], "C", 3, (1, 1)),
        ],
    )
    def test_each_persons_edit_is_kept_and_the_latest_holds(
        self, log: EditLog, rows: list[Interaction], holds: str, revisions: int, shared: tuple[int, int]
    ) -> None:
        assert log.add_many(rows) == Added(len(rows))
        held = log.interaction("d")
        assert held.edited == holds
        assert (log.counts().revisions, log.shared(), log.shared("t"), log.shared("u")) == (
            revisions,
            shared,
            shared,
            (0, 0),
        )
        for again in (rows, rows[::-1], [held]):
            assert log.add_many(again) == Added(0, len(again))
        assert log.verify() == []

    @pytest.mark.parametrize("first", [by("bob", "B", revision=1), by("bob", "one two three four", revision=2)])
    def test_an_edit_that_got_a_higher_revision_elsewhere_is_known(self, log: EditLog, first: Interaction) -> None:
        log.add_many([first])
        assert log.add_many([by("bob", first.edited)]) == Added(0, 1)

    def test_what_holds_is_what_selectors_learn(self, log: EditLog) -> None:
        first = replace(by("ann", "one two three", 2), decision=Decision("d", ("p",), "p", 1, "fixed"))
        log.add_many([first])
        log.edit(Edit("d", "", 0, "bob", MOMENT))
        assert [cost for _, cost in log.resolved()] == [0.25]
        assert log.statistics("t")["p"].mean == 0.25

    @pytest.mark.parametrize("last", [by("ann", "C"), by("bob", "C")])
    def test_a_person_says_one_thing_at_one_revision(self, log: EditLog, last: Interaction) -> None:
        log.add_many([by("ann", "A"), by("bob", "B")])
        with pytest.raises(
            ConflictError, match="revision 0 is known with another text: send a changed text as a higher"
        ):
            log.add_many([last])
        assert log.counts().revisions == 2

    def test_an_unnamed_person_may_be_the_same(self, log: EditLog) -> None:
        log.add_many([by("ann", "A")])
        with pytest.raises(ConflictError, match="another text"):
            log.edit(Edit("d", "B"))

    def test_an_edit_that_comes_again_after_its_text_was_erased_stays_erased(self, log: EditLog) -> None:
        log.add_many([by("cat", "A"), by("ann", "B", 2), by("bob", "C", 3)])
        log.erase("ann")
        assert log.add_many([by("ann", "B", 2)]) == Added(0, 1)
        assert log.interaction("d").edited == "C"


LINE = {"prompt": "Say hi.", "response": "Dear Ann!"}
RICH = {
    "messages": [{"role": "user", "content": "ü", "more": {"name": "kim", "n": [1, {"a": None}]}}],
    "response": "r",
    "user_id": "ann",
    "created_at": "2026-01-02T03:04:05+02:00",
    "metadata": {"b": 1, "a": [1.5, True]},
    "answer": {"x": 1},
    "decision": {
        "candidates": ["a", "b"],
        "chosen": "a",
        "t": 1,
        "selector": "ucb",
        "scores": ["-inf", 1],
        "parameters": {"alpha": 0.5},
    },
    "edited": "q",
    "edit_metadata": {"k": {}},
}
ACCEPTED, EQUAL = LINE | {"accepted": True}, LINE | {"edited": "Dear Ann!"}


def read(file: Path, *lines: object) -> Iterator[Interaction]:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for found in READERS["native"](file, Options("email")):
        assert isinstance(found, Row)
        yield found.interaction


class TestNames:
    def test_names_are_those_that_commit_847e03b_made(self, tmp_path: Path) -> None:
        lines = LINE | {"edited": "Hi Ann!"}, ACCEPTED, LINE, RICH, LINE | {"edited": "Hi Ann!"}
        assert [row.completion.id for row in read(tmp_path / "rows.jsonl", *lines)] == [
            "2f588d94f67a799b2a539a2d",
            "64d6a9af83bd40d0359b08ee",
            "7b96e8599564ffa79aed6b09",
            "5092bafb63418df410d728a3",
            "119e1123e49eeb7e55e67ce7",
        ]

    @pytest.mark.parametrize("lines", [(ACCEPTED, EQUAL), (EQUAL, ACCEPTED)])
    def test_accepted_and_an_edit_equal_to_the_draft_are_one_interaction(
        self, log: EditLog, tmp_path: Path, lines: tuple[object, object]
    ) -> None:
        assert [log.add_many(read(tmp_path / "rows.jsonl", line)) for line in lines] == [Added(1, 0), Added(0, 1)]
        assert log.add_many(read(tmp_path / "rows.jsonl", *lines)) == Added(1, 1)  # two such rows in one file are two
        assert log.add_many(read(tmp_path / "rows.jsonl", *lines)) == Added(0, 2)
        assert log.counts() == Counts(2, 0, 2, log.counts().accepted, 0, 0, 2)

    @pytest.mark.parametrize("line", [ACCEPTED, EQUAL])
    def test_an_older_log_knows_it_by_the_name_it_gave(self, log: EditLog, tmp_path: Path, line: object) -> None:
        old = "75b3656d87b09ef754cb68a2"  # of EQUAL, in commit 847e03b
        completion = Completion(old, "email", (Message("user", "Say hi."),), "Dear Ann!")
        log.add_many([Interaction(completion, Edit(old, "Dear Ann!"))])
        assert log.add_many(read(tmp_path / "rows.jsonl", line)) == Added(0, 1)


def many(count: int) -> list[Interaction]:
    return [replace(row("t", str(i)), edit=Edit(str(i), "draft " * (i % 7))) for i in range(count)]


LONG = """
import signal
import sys
from redraft import pricing
from redraft.log import EditLog, writer
from redraft.types import Completion, Edit, Interaction

def endless():
    i = 0
    while True:
        i += 1
        yield Interaction(Completion(str(i), "t", (), "a b"), Edit(str(i), "a c"))

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell started in the background ignores it
    pricing.FEW, writer.BATCH_ROWS = 1, 50
    with EditLog(sys.argv[1]) as log:
        log.add_many(endless(), processes=2)
"""


UNBORN = """
import os
import sys
from redraft import pricing, words
from redraft.log import EditLog, writer
from redraft.types import Completion, Edit, Interaction

if __name__ != "__main__":
    os._exit(1)  # as where the memory is used up: what was sent to it by then fills a pipe that nobody reads
words.learn(" ".join(f"{i}-{j}" for j in range(100)) for i in range(200))
pricing.FEW, writer.BATCH_ROWS = 1, 50
with EditLog(sys.argv[1]) as log:
    rows = (Interaction(Completion(str(i), "t", (), "a b"), Edit(str(i), "a c")) for i in range(300))
    print(log.add_many(rows, processes=2).new)
"""


def children(pid: int) -> list[int]:
    """Of all its threads."""
    each = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for found in each for child in found.read_text().split()]


class TestPricing:
    @pytest.fixture(autouse=True)
    def _small_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(writer, "BATCH_ROWS", 20)
        monkeypatch.setattr(pricing, "FEW", 1)

    def test_prices_from_all_cores_are_those_of_one(self, new_log: NewLog) -> None:
        rows = [*many(150), row("u", "1"), *many(3)]
        with new_log() as one, new_log() as several:
            assert one.add_many(rows) == several.add_many(rows, processes=2) == Added(151, 3)
            assert list(one.interactions()) == list(several.interactions())
            assert list(one.resolved()) == list(several.resolved())
            assert several.verify() == []

    def test_a_cost_of_ones_own_stays_in_the_process(self, url: str) -> None:
        def here(_response: str, _edited: str) -> float:
            return float(os.getpid())

        own = replace(COSTS["word"], raw=here, length=None)
        with EditLog(url, cost_of=lambda task: own) as log:
            log.add_many(many(80), processes=2)
            assert {cost for _, cost in log.resolved() if cost} == {float(os.getpid())}

    def test_workers_that_are_killed_are_done_without(self, log: EditLog) -> None:
        def rows() -> Iterator[Interaction]:
            for place, interaction in enumerate(many(400)):
                if place == 200:
                    for child in children(os.getpid()):
                        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                            os.kill(child, signal.SIGKILL)
                yield interaction

        assert log.add_many(rows(), processes=2) == Added(400)
        assert log.verify() == []

    def test_workers_that_die_before_they_begin_are_done_without(self, tmp_path: Path) -> None:
        (tmp_path / "unborn.py").write_text(UNBORN)
        command = [sys.executable, tmp_path / "unborn.py", f"sqlite:///{tmp_path / 'log.db'}"]
        assert subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout == "300\n"

    @pytest.mark.parametrize("last", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
    def test_no_process_is_left_behind(self, tmp_path: Path, last: signal.Signals) -> None:
        (tmp_path / "long.py").write_text(LONG)
        url = f"sqlite:///{tmp_path / 'log.db'}"
        importing = subprocess.Popen([sys.executable, tmp_path / "long.py", url], stderr=subprocess.DEVNULL)
        with EditLog(url) as log:
            while log.counts().completions < 300:
                time.sleep(0.02)
            left = children(importing.pid)
            assert left
            importing.send_signal(last)
            assert importing.wait(timeout=20) != 0
            until = time.monotonic() + 20
            while any(Path(f"/proc/{child}").exists() for child in left):
                assert time.monotonic() < until
                time.sleep(0.02)
            assert log.verify() == []
            assert log.counts().completions % 50 == 0
