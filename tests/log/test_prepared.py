"""What goes to the driver directly must be what SQLAlchemy would have sent and read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, create_engine, insert, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.pool import StaticPool

from redraft.errors import UnavailableError
from redraft.log import EditLog
from redraft.log.prepared import Prepared
from redraft.log.schema import conversations, decisions, keys, schema, statistics
from redraft.types import Completion, Decision, Message

TABLES = (decisions, statistics, keys, conversations)
MOMENT = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
ROWS: dict[str, list[dict[str, Any]]] = {
    "decisions": [
        {
            "completion_id": "c",
            "candidates": ["a", "ü"],
            "chosen": "ü",
            "t": 2**40,
            "selector": "late",
            "parameters": {"alpha": 0.1},
            "scores": None,
            "propensities": [0.5, 0.5],
        }
    ],
    "statistics": [
        {"task": "t", "policy": p, "cost_name": "word", "decisions": 3, "resolved": 2, "total": 10**30, "squares": n}
        for n, p in enumerate("ab")
    ],
    "keys": [
        {
            "id": "k",
            "project": "p",
            "name": "n",
            "scopes": ["client"],
            "digest": "d",
            "created_at": MOMENT,
            "revoked_at": None,
        }
    ],
    "conversations": [{"task": "t", "id": "1", "policy": "a", "created_at": MOMENT}],
}


@pytest.fixture
def connection() -> Any:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    schema.create_all(engine)
    with engine.connect() as opened:
        yield opened


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_writes_what_sqlalchemy_writes(connection: Connection, table: Any) -> None:
    rows = ROWS[table.name]
    columns = [column.name for column in table.c]
    stored = f"SELECT * FROM {table.name} ORDER BY {columns[1]}"  # as it lies there, without conversion
    Prepared(insert(table).values({name: bindparam(name) for name in columns})).execute(connection, rows)
    ours = connection.exec_driver_sql(stored).all()
    connection.exec_driver_sql(f"DELETE FROM {table.name}")
    connection.execute(insert(table), rows)
    assert ours == connection.exec_driver_sql(stored).all()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_reads_what_sqlalchemy_reads(connection: Connection, table: Any) -> None:
    connection.execute(insert(table), ROWS[table.name])
    first, second = list(table.c)[:2]
    query = select(table).where(first == bindparam("first")).order_by(second)
    wanted = {"first": ROWS[table.name][0][first.name]}
    assert Prepared(query).select(connection, wanted) == [tuple(row) for row in connection.execute(query, wanted)]


def test_a_time_comes_back_in_utc(connection: Connection) -> None:
    connection.execute(insert(conversations), ROWS["conversations"])
    (row,) = Prepared(select(conversations.c.created_at)).select(connection, {})
    assert row == (MOMENT,)
    assert row[0].tzinfo is UTC


class Driver:
    """A connection that only notes what it is asked."""

    def __init__(self, dialect: Any) -> None:
        self.dialect, self.connection, self.asked = dialect, self, ""

    def cursor(self) -> Driver:
        return self

    def execute(self, sql: str, _parameters: object) -> None:
        self.asked = sql

    def fetchall(self) -> list[Any]:
        return []


def test_one_statement_serves_several_kinds_of_database(connection: Connection) -> None:
    query = Prepared(select(statistics.c.policy).where(statistics.c.task == bindparam("task")).with_for_update())
    for dialect, end in ((connection.dialect, "statistics.task = ?"), (postgresql.psycopg.dialect(), "FOR UPDATE")):
        driver: Any = Driver(dialect)
        assert query.select(driver, {"task": "t"}) == []
        assert driver.asked.endswith(end)  # SQLite locks all there is


def test_what_the_driver_refuses_is_explained_and_undone(log: EditLog) -> None:
    with log.keys() as transaction:
        transaction.execute(text("DROP TABLE decisions"))
    with pytest.raises(UnavailableError, match="no such table: decisions"):
        log.record(Completion("c", "t", (Message("user", "x"),), "y", "a"), Decision("c", ("a",), "a", 1, "late"))
    assert log.tasks() == []
