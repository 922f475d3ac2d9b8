"""The edit log: what was answered, why, and what people made of it. The log is the truth; all else is derived.

Guaranteed: what ``record`` and ``edit`` return from is durable; nothing is ever half-written; a repeated message has
no effect and a contradicting one raises ``ConflictError``; the highest revision of an edit holds, whatever the order
of arrival. Silence is never approval: without an edit a completion awaits one, and is *censored* once the horizon
has passed (at once where nobody knows when it was written, as in many imports).

Left out on purpose: deleting events. ``erase`` removes a person's texts, the events and their costs remain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, RowMapping, or_, select, tuple_, update

from redraft.config import Settings
from redraft.costs import COSTS, DEFAULT_COST, Cost, get_cost
from redraft.errors import NotFoundError
from redraft.log import queries
from redraft.log.canonical import canonical, canonical_edit
from redraft.log.database import open_database, reading, writing
from redraft.log.mapping import completion_from, decision_from, edit_from, priced
from redraft.log.schema import COST_UNIT, completions, decisions, edits, texts
from redraft.log.verify import problems
from redraft.log.writer import Added, Refused, Writer, batches
from redraft.types import Completion, Decision, Edit, Interaction

__all__ = ["Added", "Counts", "EditLog"]


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the completions.

    ``completions`` = ``edited`` + ``unchanged`` + ``awaiting`` + ``censored``. ``unchanged`` means y' = y, of which
    ``accepted`` were said to be fine in so many words; ``revisions`` counts every edit event.
    """

    completions: int
    edited: int
    unchanged: int
    accepted: int
    awaiting: int
    censored: int
    revisions: int


def _default_cost(_task: str) -> Cost:
    return COSTS[DEFAULT_COST]


class EditLog:
    """The log behind a URL, opened and brought to the newest schema.

    Parameters
    ----------
    url
        SQLAlchemy URL, e.g. ``sqlite:///redraft.db``.
    cost_of
        Task → the Δ with which its edits are priced when they arrive.
    max_text_chars
        Longer texts are refused.
    horizon_days
        A completion without feedback after this is censored.
    create
        Whether a log that does not exist is made; if not, ``NotFoundError``.

    Raises
    ------
    ConfigError
        When the URL or the place cannot be used.

    Notes
    -----
    Safe to share between threads; iterators hold a connection until they are exhausted or closed, and see the log as
    it was when they started.
    """

    def __init__(
        self,
        url: str,
        *,
        cost_of: Callable[[str], Cost] = _default_cost,
        max_text_chars: int = 1_000_000,
        horizon_days: float = 14.0,
        create: bool = True,
    ) -> None:
        self.cost_of = cost_of
        self.max_text_chars = max_text_chars
        self.horizon = timedelta(days=horizon_days)
        self._engine = open_database(url, create=create)

    @classmethod
    def from_settings(cls, settings: Settings, *, url: str | None = None, create: bool = True) -> Self:
        """Open the log that ``redraft.toml`` names, or the one at ``url`` with its other settings."""

        @cache
        def cost_of(task: str) -> Cost:
            return get_cost(settings.task(task).cost)

        return cls(
            url or settings.log.url,
            cost_of=cost_of,
            max_text_chars=settings.log.max_text_chars,
            horizon_days=settings.log.horizon_days,
            create=create,
        )

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def record(self, completion: Completion, decision: Decision | None = None) -> None:
        """Log a completion and what chose its policy; durable on return, and without effect when repeated.

        Raises ``ConflictError`` when the id is known with other content, ``DataError`` for what cannot be stored.
        """
        ready = canonical(Interaction(completion, None, decision), self.max_text_chars)
        with writing(self._engine) as connection:
            Writer(connection, self.cost_of).add(ready)

    def edit(self, edit: Edit) -> bool:
        """Log what a person made of a completion; durable on return. Returns whether the log gained an event.

        The cost is computed from the logged response. Raises ``NotFoundError`` for an unknown completion and
        ``ConflictError`` when this revision is known with another text (an edit equal to the response and
        "accepted unchanged" say the same).
        """
        ready = canonical_edit(edit, self.max_text_chars)
        with writing(self._engine) as connection:
            return Writer(connection, self.cost_of).revise(ready)

    def add_many(
        self,
        interactions: Iterable[Interaction],
        *,
        strict: bool = False,
        refused: Refused | None = None,
    ) -> Added:
        """Log whole interactions, as an import does: one transaction per batch, or one for all when ``strict``.

        ``refused(index, error)`` is told of rows that conflict or cannot be stored, and the rest goes on. Without
        it the error is raised; whatever is raised undoes the transaction. An interrupted import can be repeated.
        """
        pieces = batches(interactions, self.max_text_chars, refused)
        if strict:
            with writing(self._engine) as connection:
                return sum((Writer(connection, self.cost_of).add_batch(piece) for piece in pieces), Added())
        total = Added()
        for piece in pieces:
            with writing(self._engine) as connection:
                total += Writer(connection, self.cost_of).add_batch(piece)
        return total

    def interactions(self, task: str | None = None, *, edited_only: bool = False) -> Iterator[Interaction]:
        """Stream completions in order of arrival, each with the edit that holds; erased ones are left out."""
        with reading(self._engine) as connection:
            statement = queries.interactions_of(task, edited_only=edited_only)
            yield from map(_interaction, connection.execution_options(yield_per=200).execute(statement).mappings())

    def interaction(self, completion_id: str) -> Interaction:
        """One completion with the edit that holds; raises ``NotFoundError`` when unknown or erased."""
        with reading(self._engine) as connection:
            row = connection.execute(queries.interactions_of(None, completion_id=completion_id)).mappings().first()
        if row is None:
            raise NotFoundError(f"completion {completion_id!r} is not in the log")
        return _interaction(row)

    def resolved(
        self, task: str | None = None, *, completion_id: str | None = None
    ) -> Iterator[tuple[Decision, float]]:
        """Stream what a selector learns from: decisions with the cost that holds, in order of their first edit.

        A cost that was logged under another Δ than the task has now is computed anew from the texts, so that all
        share one scale; where these were erased the decision is left out.
        """
        with reading(self._engine) as connection:
            rows = connection.execution_options(yield_per=200).execute(queries.resolved_of(task, completion_id))
            for row in rows.mappings():
                decision, units = decision_from(row), self._cost_today(connection, row)
                if decision is not None and units is not None:
                    yield decision, units / COST_UNIT

    def tasks(self) -> list[str]:
        """Names of the tasks that have completions."""
        with reading(self._engine) as connection:
            return list(connection.scalars(select(completions.c.task).distinct().order_by(completions.c.task)))

    def counts(self, task: str | None = None, *, now: datetime | None = None) -> Counts:
        """Count completions by what became of them by ``now``."""
        horizon = (now or datetime.now(UTC)) - self.horizon
        with reading(self._engine) as connection:
            return Counts(**connection.execute(queries.tally(task, horizon)).mappings().one())

    def erase(self, user_id: str) -> int:
        """Erase all texts of a person's completions and edits; returns how many. Events and costs stay.

        In SQLite's files the bytes are overwritten, in its write-ahead log once the last process has closed it.
        """
        theirs = select(completions.c.id).where(completions.c.user_id == user_id)
        written = select(edits.c.completion_id, edits.c.revision).where(edits.c.user_id == user_id)
        gone = (
            update(texts)
            .where(texts.c.content.is_not(None))
            .where(or_(texts.c.completion_id.in_(theirs), tuple_(texts.c.completion_id, texts.c.revision).in_(written)))
            .values(messages=None, content=None)
        )
        with writing(self._engine) as connection:
            return connection.execute(gone).rowcount

    def verify(self) -> list[str]:
        """Check the whole log against itself and recompute every cost; returns one line per problem."""
        with reading(self._engine) as connection:
            return list(problems(connection, self.cost_of))

    def _cost_today(self, connection: Connection, row: RowMapping) -> int | None:
        cost = self.cost_of(row[completions.c.task])
        if row[edits.c.cost_name] == cost.name:
            return row[edits.c.cost]
        found = queries.edits_of(row[decisions.c.completion_id]).where(edits.c.revision == row[edits.c.revision])
        edit = connection.execute(found).mappings().one()
        response, edited = edit[texts.c.content], edit[queries.edited_text.c.content]
        if response is None or (edited is None and not edit[edits.c.accepted]):
            return None
        return priced(cost, response, edited)[1]


def _interaction(row: RowMapping) -> Interaction:
    return Interaction(completion_from(row), edit_from(row, row[queries.edited_text.c.content]), decision_from(row))
