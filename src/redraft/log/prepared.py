"""Statements that every request of a gateway executes, compiled once and handed to the driver as they are.

SQLAlchemy writes them and converts their values; its way from ``execute`` to the driver is left out. With the five
statements of one answer it took nearly half of a transaction (results/LOG.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Dialect, Executable, Select
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

__all__ = ["Prepared"]

_Convert = Callable[[Any], Any] | None


@dataclass(frozen=True, slots=True)
class _Ready:
    """A statement for one kind of database: its text, its parameters in order, and how values are converted."""

    sql: str
    named: bool
    names: tuple[str, ...]
    of: Callable[[Mapping[str, Any]], Iterable[Any]]
    converted: tuple[tuple[int, Callable[[Any], Any]], ...]
    results: tuple[_Convert, ...]

    def values(self, row: Mapping[str, Any]) -> Any:
        found = list(self.of(row))
        for place, convert in self.converted:
            if found[place] is not None:  # which all our columns store as NULL
                found[place] = convert(found[place])
        return dict(zip(self.names, found, strict=True)) if self.named else found


class Prepared:
    """A statement whose parameters all are given by name at each execution. Errors are the driver's own."""

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._ready: WeakKeyDictionary[Dialect, _Ready] = WeakKeyDictionary()

    def execute(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute it once for each row of parameters."""
        ready = self._for(connection.dialect)
        connection.connection.cursor().executemany(ready.sql, [ready.values(row) for row in rows])

    def select(self, connection: Connection, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Execute a query; its rows have the values in the order of its columns."""
        ready = self._for(connection.dialect)
        cursor = connection.connection.cursor()
        cursor.execute(ready.sql, ready.values(parameters))
        return [_converted(row, ready.results) for row in cursor.fetchall()]

    def _for(self, dialect: Dialect) -> _Ready:
        found = self._ready.get(dialect)
        if found is None:
            found = self._ready[dialect] = _compiled(self._statement, dialect)
        return found


def _compiled(statement: Any, dialect: Dialect) -> _Ready:
    compiled = statement.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)
    order = compiled.positiontup or list(compiled.binds)
    columns = statement.selected_columns if isinstance(statement, Select) else ()

    def impl(kind: TypeEngine[Any]) -> TypeEngine[Any]:
        return kind.dialect_impl(dialect)

    converts = [impl(compiled.binds[name].type).bind_processor(dialect) for name in order]
    return _Ready(
        sql=str(compiled),
        named=compiled.positiontup is None,
        names=tuple(order),
        of=itemgetter(*order) if len(order) > 1 else lambda row: [row[name] for name in order],
        converted=tuple((place, convert) for place, convert in enumerate(converts) if convert is not None),
        results=tuple(impl(column.type).result_processor(dialect, None) for column in columns),
    )


def _converted(row: Iterable[Any], results: Iterable[_Convert]) -> tuple[Any, ...]:
    return tuple(value if convert is None else convert(value) for value, convert in zip(row, results, strict=True))
